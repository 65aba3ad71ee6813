"""What was measured of a case, and the goals that it is held to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from serve_peers.servers import Server

LOAD_S = 3.0
BARE, LOCAL = "bare run, in process", "agent's LocalModel, in process"


def at(seconds: list[float], share: float) -> float:
    """A quantile, in microseconds."""
    return 1e6 * sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


@dataclass
class Measured:
    """A row of the table."""

    name: str
    seconds: list[float]
    load: list[float] = field(default_factory=list)
    server: Server | None = None

    @property
    def p50(self) -> float:
        """Microseconds, one client."""
        return at(self.seconds, 0.5)

    @property
    def rate(self) -> float:
        """Requests a second of ``CLIENTS``."""
        return len(self.load) / LOAD_S

    @property
    def sizes(self) -> list[float]:
        """MiB of each process."""
        return self.server.sizes if self.server is not None else []

    def row(self) -> list[Any]:
        """As in ``COLUMNS``, without the model."""
        times = [self.p50, at(self.seconds, 0.99)]
        if self.server is None:
            return [self.name, *times, "", "", "", "", ""]
        load = [self.rate, at(self.load, 0.5), at(self.load, 0.99)]
        return [self.name, *times, *load, " + ".join(f"{size:.0f}" for size in self.sizes), self.server.ready_s]


def judge(title: str, found: dict[str, Measured], nothing: list[float]) -> list[str]:
    """The goals of this benchmark, and how they came out."""
    bare, local, binary = found[BARE].p50, found[LOCAL].p50, found["agent, binary"]
    peers = {name: one for name, one in found.items() if one.server is not None and not name.startswith("agent")}
    bare_handler, mlserver = peers.pop("Starlette + uvicorn, binary, bare", None), peers.get("MLServer, JSON")
    best = max((one.rate for one in peers.values()), default=0.0)
    supervisor, child = binary.sizes[:2]
    ready = binary.server.ready_s if binary.server is not None else 0.0
    goals = [
        ("LocalModel within 25 us of the bare run", local - bare, 25.0, "us"),
        ("supervisor at most 40 MiB", supervisor, 40.0, "MiB"),
        ("serve child at most 80 MiB", child, 80.0, "MiB"),
        ("idle at most 45 MiB in all", sum(nothing), 45.0, "MiB"),
        ("ready within 0.8 s", ready, 0.8, "s"),
    ]
    if bare_handler is not None:
        share = (binary.p50 - bare) / (bare_handler.p50 - bare)
        goals.append(("binary: overhead at most 0.7x the bare handler's", share, 0.7, "x"))
    if mlserver is not None:
        share = (found["agent, JSON"].p50 - bare) / (mlserver.p50 - bare)
        goals.append(("JSON: overhead at most 0.25x MLServer's", share, 0.25, "x"))
        goals.append(("all processes under MLServer's", sum(binary.sizes), sum(mlserver.sizes), "MiB"))
    if "BentoML, JSON" in peers:
        goals.append(("half of BentoML's", sum(binary.sizes), sum(peers["BentoML, JSON"].sizes) / 2, "MiB"))
    lines = [f"- {title}: {goal}: {_short(value)} {unit}{_met(value <= limit)}" for goal, value, limit, unit in goals]
    if best:
        times = binary.rate / best
        lines.append(f"- {title}: 16 clients at least 3x the best of the three: {_short(times)}x{_met(times >= 3)}")
    return lines


def _short(value: float) -> str:
    return f"{value:.3g}"


def _met(met: bool) -> str:
    return "" if met else " (**missed**)"
