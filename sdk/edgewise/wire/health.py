"""How a device is: its resources over a span, as sums that merge exactly. A stream of its own beside the windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from edgewise.wire.codec import Count, Name
from edgewise.wire.spans import Span

STREAM_HEALTH = "health"

GAUGES = {
    "cpu": "share of all cores that is busy, 0..1",
    "memory": "bytes in use of the device's memory",
    "memory_total": "bytes of memory",
    "agent_memory": "resident bytes of the agent's two processes",
    "disk_free": "bytes free where the agent keeps its data",
    "temperature": "degrees Celsius, the hottest sensor",
    "throttled": "1 while the device slows itself down for heat or power, else 0",
    "gpu": "share of the GPU that is busy, 0..1",
    "gpu_memory": "bytes in use of the GPU's memory",
    "gpu_temperature": "degrees Celsius",
    "power": "watts, where the board tells",
}
"""What is sampled, and its unit. One that the device cannot tell is missing."""
TOTALS = {
    "received_bytes": "bytes received by all network interfaces but the loopback",
    "sent_bytes": "bytes sent by them",
    "energy_mj": "millijoules, where the board tells",
    "throttle_events": "times that a processor throttled",
}
"""What is counted over the span, and its unit."""


class Gauge(msgspec.Struct, frozen=True, array_like=True):
    """Samples of one number: how many, their sum, the least and the most."""

    n: Count
    total: float
    least: float
    most: float

    @property
    def mean(self) -> float:
        """NaN where nothing was sampled."""
        return self.total / self.n if self.n else float("nan")


class Health(Span, frozen=True, kw_only=True):
    """One span of one device's resources, about 0.5 KB; names are those of GAUGES and TOTALS, and may grow."""

    bound: ClassVar[int] = 4096
    gauges: Annotated[dict[Name, Gauge], msgspec.Meta(max_length=32)]
    totals: Annotated[dict[Name, Count], msgspec.Meta(max_length=32)] = {}


def observe(gauge: Gauge | None, value: float) -> Gauge:
    """One more sample."""
    return add(gauge, Gauge(1, value, value, value))


def add(a: Gauge | None, b: Gauge) -> Gauge:
    """Both together."""
    return b if a is None else Gauge(a.n + b.n, a.total + b.total, min(a.least, b.least), max(a.most, b.most))


def add_gauges(a: Mapping[str, Gauge], b: Mapping[str, Gauge]) -> dict[str, Gauge]:
    """Both together, by name."""
    return {name: add(a.get(name), b[name]) if name in b else a[name] for name in sorted({*a, *b})}


def add_totals(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    """Both together, by name."""
    return {name: a.get(name, 0) + b.get(name, 0) for name in sorted({*a, *b})}
