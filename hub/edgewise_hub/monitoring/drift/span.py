"""Cut a stream of windows into spans: each window is in exactly one span of its group, and spans do not overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from edgewise_hub.monitoring.drift.summary import Summary


class Seen(NamedTuple):
    """One window, summed up. ``at``: when the hub received it; ``counters``: of the wire's names; ``quality``: problem
    -> feature -> items, likewise."""

    at: float
    device: str
    bundle: str
    summary: Summary
    counters: Mapping[str, int] = MappingProxyType({})
    quality: Mapping[str, Mapping[str, int]] = MappingProxyType({})


def cut(windows: Sequence[Seen], limits: Mapping[str, int], min_n: int) -> int:
    """How many of ``windows`` (ascending by ``at``) make the next span; 0 while there is too little.

    A span has at least ``min_n`` items, or is full: one more window would bring a bundle over its limit (a tenth of its
    reference). Windows received at the same instant stay together, since a span ends at an instant; those alone may
    pass the limit, and are then judged as if they were as many as it allows.
    """
    used: dict[str, int] = {}
    total = end = 0
    while end < len(windows):
        after = end
        added: dict[str, int] = {}
        while after < len(windows) and windows[after].at == windows[end].at:
            window = windows[after]
            added[window.bundle] = added.get(window.bundle, 0) + window.summary.n
            after += 1
        over = any(used.get(bundle, 0) + n > limits[bundle] for bundle, n in added.items() if bundle in limits)
        if over and end:
            return end
        for bundle, n in added.items():
            used[bundle] = used.get(bundle, 0) + n
        total += sum(n for bundle, n in added.items() if bundle in limits)
        end = after
        if over:
            return end
    return end if total >= min_n else 0
