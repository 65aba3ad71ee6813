"""Samples the device's resources and closes a span of them at a window's end. The clocks and the root are passed in.

A counter that goes back (an interface that went, a driver loaded anew) counts nothing for that step.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgewise.wire.health import Gauge, observe
from edgewise_agent.health import gpu, power, system
from edgewise_agent.health.energy import Drawn, mean_watts

SAMPLE_S = 10.0
READINGS = 360
"""Of the energy, kept: an hour."""
_MOST = 2**53 - 1  # of a total, however wrong the counter


class HealthClosed(msgspec.Struct, frozen=True, kw_only=True):
    """A span's content; the spool gives it its identity."""

    duration: float
    gauges: dict[str, Gauge]
    totals: dict[str, int]


class Meter:
    """One device's. ``free``: bytes free for our data; ``rss``: resident bytes of our processes."""

    def __init__(self, now: float, free: Callable[[], int], rss: Callable[[], int], root: Path = Path("/")) -> None:
        """``now`` is monotonic seconds."""
        self._free, self._rss, self._root = free, rss, root
        self._nvidia = gpu.Nvidia(root)
        self._ticks, self._traffic = system.ticks(root), system.traffic(root)
        self._rapl, self._throttles = power.rapl(root), system.throttle_events(root)
        self._sampled = now
        self._drawn: deque[Drawn] = deque(maxlen=READINGS)
        self._begin(now)

    def watts(self, now: float, seconds: float) -> float | None:
        """What the board drew on average over the last ``seconds``, as far back as is known; None: it does not tell."""
        return mean_watts(list(self._drawn), now - seconds)

    def poll(self, now: float, window_s: float) -> HealthClosed | None:
        """Sample when it is time to; the span, if it is over."""
        over = now - self._began >= window_s
        if over or now - self._sampled >= SAMPLE_S:
            self._sample(now)
        if not over:
            return None
        closed = HealthClosed(duration=now - self._began, gauges=self._gauges, totals=self._totals)
        self._begin(now)
        return closed

    def _begin(self, now: float) -> None:
        self._began = now
        self._gauges: dict[str, Gauge] = {}
        self._totals: dict[str, int] = {}

    def _sample(self, now: float) -> None:
        root, since = self._root, max(0.0, now - self._sampled)
        self._sampled = now
        self._processor()
        memory = system.memory(root)
        if memory is not None:
            self._observe("memory", memory.used)
            self._observe("memory_total", memory.total)
        self._observe("agent_memory", self._rss())
        self._observe("disk_free", self._free())
        self._observe("temperature", system.temperature(root))
        self._observe("throttled", system.throttled(root))
        self._observe("gpu", gpu.jetson_load(root))
        for name, value in self._nvidia.read().items():
            self._observe(name, value)
        self._network()
        self._power(since)

    def _processor(self) -> None:
        before, self._ticks = self._ticks, system.ticks(self._root)
        if before is not None and self._ticks is not None and self._ticks.total > before.total:
            busy = (self._ticks.busy - before.busy) / (self._ticks.total - before.total)
            self._observe("cpu", min(1.0, max(0.0, busy)))
        count, self._throttles = self._throttles, system.throttle_events(self._root)
        self._count("throttle_events", count, self._throttles)

    def _network(self) -> None:
        before, self._traffic = self._traffic, system.traffic(self._root)
        if before is not None and self._traffic is not None:
            self._count("received_bytes", before.received, self._traffic.received)
            self._count("sent_bytes", before.sent, self._traffic.sent)

    def _power(self, since: float) -> None:
        before, self._rapl = self._rapl, power.rapl(self._root)
        spent = power.between(before, self._rapl)
        watts = power.watts(self._root)
        joules = watts * since if watts is not None else spent / 1e6 if spent is not None else None
        if joules is None:
            self._drawn.clear()  # what comes later says nothing of this time
            return
        self._add("energy_mj", round(1000 * joules))
        if watts is not None:
            self._observe("power", watts)
        elif since > 0:
            self._observe("power", joules / since)
        if not self._drawn:
            self._drawn.append(Drawn(self._sampled - since, 0.0))
        self._drawn.append(Drawn(self._sampled, self._drawn[-1].joules + joules))

    def _observe(self, name: str, value: float | None) -> None:
        if value is not None and math.isfinite(value):
            self._gauges[name] = observe(self._gauges.get(name), float(value))

    def _count(self, name: str, before: int | None, after: int | None) -> None:
        if before is not None and after is not None:
            self._add(name, max(0, after - before))

    def _add(self, name: str, amount: int) -> None:
        self._totals[name] = min(self._totals.get(name, 0) + max(0, amount), _MOST)
