"""Which layers become narrower: decided from what a cut saves and what it loses. Pure: no torch, no clock.

Widths are cut a little at a time, where most is saved for what is lost, until a goal is met; what to cut next is asked
anew as the network changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SHARES = (0.75, 0.5)
"""What is left of a width by one cut: small cuts that follow the goal closely, and larger ones that are felt where a
runtime computes channels in blocks."""


@dataclass(frozen=True)
class Cut:
    """A group of channels made narrower. ``saves``: of the cost; ``loses``: importance of the channels cut."""

    root: str
    keep: int
    saves: float
    loses: float


def options(width: int, round_to: int) -> list[int]:
    """Widths that one cut may leave, wider first; multiples of ``round_to``, none where there is nothing to cut."""
    found: list[int] = []
    for share in SHARES:
        keep = max(round_to, int(width * share) // round_to * round_to)
        if keep < width and keep not in found:
            found.append(keep)
    return found


def order(cuts: Iterable[Cut], need: float) -> list[Cut]:
    """One cut a group at most, best first: by what is saved for what is lost. Those that save nothing are left out.

    ``need``: what must be saved yet. Where the best one saves that and more, the one that loses least of all that do
    comes before it: no cut is larger than it must be.
    """
    found = [cut for cut in cuts if cut.saves > 0]
    least = 1e-6 * max((cut.loses for cut in found), default=1.0) + 1e-30
    best: dict[str, Cut] = {}
    for cut in found:
        held = best.get(cut.root)
        if held is None or _worth(cut, least) > _worth(held, least):
            best[cut.root] = cut
    ordered = sorted(best.values(), key=lambda cut: (-_worth(cut, least), cut.root))
    if not ordered or ordered[0].saves < need:
        return ordered
    last = min((cut for cut in found if cut.saves >= need), key=lambda cut: (cut.loses, cut.root, -cut.keep))
    return [last, *(cut for cut in ordered if cut.root != last.root)]


def _worth(cut: Cut, least: float) -> float:
    return cut.saves / max(cut.loses, least)


def toward(start: Mapping[str, int], end: Mapping[str, int], step: int, steps: int, round_to: int) -> dict[str, int]:
    """Widths after ``step`` of ``steps`` on an even way from one set to another."""
    made = {}
    for root, last in end.items():
        width = start[root] + (last - start[root]) * step / steps
        made[root] = last if step == steps else max(last, round(width / round_to) * round_to)
    return made


@dataclass(frozen=True)
class Goal:
    """What is wanted: times faster, and the share of multiply-adds that is left. None is not asked for."""

    speedup: float | None
    macs: float | None

    def at(self, step: int, steps: int) -> Goal:
        """The part of it that is due after a step: each step takes the same share of what is left."""
        part = step / steps
        return Goal(
            None if self.speedup is None else self.speedup**part,
            None if self.macs is None else self.macs**part,
        )

    def met(self, speedup: float | None, macs: float) -> bool:
        """Is all of it reached? ``speedup``: as measured, None where it was not."""
        fast = self.speedup is None or (speedup is not None and speedup >= self.speedup)
        return fast and (self.macs is None or macs <= self.macs)

    def need(self, speedup: float | None, macs: float) -> float:
        """The share of the present cost that is still to be saved: of the latency, where that is a goal."""
        if self.speedup is not None:
            return 1 - min(1.0, (speedup or 1.0) / self.speedup)
        return 0.0 if self.macs is None else 1 - min(1.0, self.macs / macs)

    def far(self, speedup: float | None, macs: float, factor: float) -> bool:
        """Is one of the goals more than ``factor`` away?"""
        slow = self.speedup is not None and speedup is not None and self.speedup / speedup > factor
        return slow or (self.macs is not None and macs / self.macs > factor)
