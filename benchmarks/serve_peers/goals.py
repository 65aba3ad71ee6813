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
    cpu: list[float] = field(default_factory=list)
    """Seconds of a request, by round."""
    load: list[float] = field(default_factory=list)
    server: Server | None = None

    @property
    def p50(self) -> float:
        """Microseconds, one client."""
        return at(self.seconds, 0.5)

    @property
    def used(self) -> float:
        """Microseconds of CPU, one client."""
        return at(self.cpu, 0.5)

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
        times = [self.used, self.p50, at(self.seconds, 0.99)]
        if self.server is None:
            return [self.name, *times, "", "", "", "", "", ""]
        ready = [self.server.ready_s, self.server.ready_cpu_s]
        load = [self.rate, at(self.load, 0.5), at(self.load, 0.99)]
        return [self.name, *times, *load, " + ".join(f"{size:.0f}" for size in self.sizes), *ready]


def judge(title: str, found: dict[str, Measured], nothing: list[float], small: bool) -> list[str]:
    """The goals of this benchmark, and how they came out. ``nothing``: MiB of an idle agent; ``small``: is this the
    model that the goals of size and start are about? Overheads are judged by CPU time: other work on the machine moves
    the clock's medians by more than the differences looked for."""
    binary, json = found["agent, binary"], found["agent, JSON"]
    peers = {name: one for name, one in found.items() if one.server is not None and not name.startswith("agent")}
    bare, mlserver = peers.pop("Starlette + uvicorn, binary, bare", None), peers.get("MLServer, JSON")
    lines = []

    def over(what: str, one: Measured, other: Measured, limit: float) -> None:
        by_cpu = (one.used - found[BARE].used) / (other.used - found[BARE].used)
        by_clock = (one.p50 - found[BARE].p50) / (other.p50 - found[BARE].p50)
        lines.append(f"{what} at most {limit}x: {by_cpu:.2f}x ({by_clock:.2f}x){_met(by_cpu <= limit)}")

    def at_most(what: str, value: float, limit: float, unit: str) -> None:
        lines.append(f"{what} at most {limit:.3g} {unit}: {value:.3g} {unit}{_met(value <= limit)}")

    local = found[LOCAL]
    if small:
        apart, by_clock = local.used - found[BARE].used, local.p50 - found[BARE].p50
        lines.append(f"LocalModel within 25 us of the bare run: {apart:.0f} us ({by_clock:.0f} us){_met(apart <= 25)}")
    if bare is not None:
        over("binary: overhead over the bare run against the bare handler's,", binary, bare, 0.7)
    if mlserver is not None:
        over("JSON: overhead over the bare run against MLServer's,", json, mlserver, 0.25)
        at_most("all processes, against MLServer's,", sum(binary.sizes), sum(mlserver.sizes), "MiB")
    if "BentoML, JSON" in peers:
        at_most(
            "all processes, against half of BentoML's,", sum(binary.sizes), sum(peers["BentoML, JSON"].sizes) / 2, "MiB"
        )
    if peers:
        times = binary.rate / max(one.rate for one in peers.values())
        lines.append(f"16 clients, at least 3x the best of the three: {times:.1f}x{_met(times >= 3)}")
    if small and binary.server is not None:
        supervisor, child = binary.sizes[:2]
        at_most("supervisor", supervisor, 40, "MiB")
        at_most("serve child", child, 80, "MiB")
        at_most("idle, both together,", sum(nothing), 45, "MiB")
        cpu, clock = binary.server.ready_cpu_s, binary.server.ready_s
        lines.append(f"ready within 0.8 s: {cpu:.2f} s ({clock:.2f} s){_met(cpu <= 0.8)}")
    return [f"- {title}: {line}" for line in lines]


def _met(met: bool) -> str:
    return "" if met else " (**missed**)"
