"""What inferences cost in energy, where the board tells its power. Pure.

The estimate is the board's mean power over a window times the seconds in which the install ran. So it holds what the
board draws idle in that time, and models that run at the same time are each given the whole: an upper estimate, good to
compare two versions on one device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from edgewise_agent.serving.channel import WindowClosed

MOST = 2**53 - 1


class Drawn(NamedTuple):
    """``joules`` that the board drew up to ``at`` (monotonic seconds), counted from any beginning."""

    at: float
    joules: float


def mean_watts(readings: Sequence[Drawn], since: float) -> float | None:
    """From the newest reading that is not after ``since`` (else the oldest) to the newest; ``readings`` are oldest
    first. None where they are fewer than two."""
    if len(readings) < 2:
        return None
    first, last = readings[0], readings[-1]
    for reading in readings[1:-1]:
        if reading.at > since:
            break
        first = reading
    return (last.joules - first.joules) / (last.at - first.at) if last.at > first.at else None


def metered(window: WindowClosed, watts: float | None) -> WindowClosed:
    """The window with the millijoules of its inferences; ``watts``: the board's over that time, None: it does not tell.
    Requests that ran at the same time ran in the same seconds: they take no longer than the window."""
    if watts is None or watts <= 0 or window.busy_s <= 0:
        return window
    spent = min(round(watts * min(window.busy_s, window.duration) * 1000), MOST)
    counters = msgspec.structs.replace(window.counters, energy_mj=spent)
    return msgspec.structs.replace(window, counters=counters)
