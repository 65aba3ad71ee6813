"""Which windows of a full spool become one, so that what is old loses resolution and nothing is lost. Pure.

Rules that hold here:
- a window may stand for at most ``grain`` times its age, both counted in windows: the newest stay as they are, and a
  device that was away for months keeps minutes of today, hours of last week, days of the month before;
- the smallest grain that makes enough room is taken, so no more is merged than must be;
- only windows of one key become one, and only within one file, since a file is replaced as a whole.

Age in windows rather than seconds: a clock that is wrong changes nothing. Compare exponential histograms (Datar et al.,
2002), whose buckets grow with age in the same way.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

GRAINS = tuple(2.0**power for power in range(-16, 3))
"""What is tried. The last leaves of each key few windows: each stands for up to four times what is newer."""


class Item(NamedTuple):
    """A window in the spool: what it may be merged with (None: nothing), and how many windows it stands for."""

    key: Hashable
    width: int


Group = list[int]
"""Indices of items that become one, ascending."""


def plan(files: Sequence[Sequence[Item]], target: int) -> list[list[Group]] | None:
    """For each file, oldest first, its items in groups, by their first item; None where nothing can be merged.

    At most ``target`` groups are left, or as few as there can be.
    """
    count = sum(map(len, files))
    low, high = 0, len(GRAINS) - 1
    while low < high:  # more grain never means more groups
        middle = (low + high) // 2
        if sum(map(len, _grouped(files, GRAINS[middle]))) <= target:
            high = middle
        else:
            low = middle + 1
    grouped = _grouped(files, GRAINS[low])
    return grouped if sum(map(len, grouped)) < count else None


def _grouped(files: Sequence[Sequence[Item]], grain: float) -> list[list[Group]]:
    newer = sum(item.width for items in files for item in items)
    grouped = []
    for items in files:
        groups: list[Group] = []
        growing: dict[Hashable, tuple[Group, int]] = {}
        for index, item in enumerate(items):
            newer -= item.width
            group, width = growing.get(item.key, ([], 0))
            if item.key is None or not group or width + item.width > grain * newer:
                group, width = [], 0
                groups.append(group)
            group.append(index)
            growing[item.key] = (group, width + item.width)
        grouped.append(groups)
    return grouped
