"""Which candidate is best, and which are worth a look (the Pareto front). Pure.

Rules that hold here:
- a gain inside the noise is no gain: two candidates are equally fast unless their medians differ by more than both
  spreads and ``MIN_NOISE``;
- a candidate that is slower than fp32 is never chosen for speed: only where fp32 and what is as fast do not meet the
  budget;
- of equally fast ones the smaller is better, then the one with the better metric, then the earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgewise_compiler.budget import Cost
from edgewise_compiler.report import Latency

MIN_NOISE = 0.03
"""Two candidates within 3% are equally fast, however steady the rounds were."""
SAME_SIZE = 0.02


def faster(one: Latency | None, other: Latency | None) -> bool:
    """Is the first faster by more than both spreads and ``MIN_NOISE``? False where either was not measured."""
    if one is None or other is None:
        return False
    noise = max(one.spread, other.spread, MIN_NOISE)
    return one.p50_ms < other.p50_ms * (1 - noise)


def smaller(one: Cost, other: Cost) -> bool:
    """Is the first smaller by more than ``SAME_SIZE``?"""
    return one.size < other.size * (1 - SAME_SIZE)


def better(one: Cost, other: Cost) -> bool:
    """Is the first the better of two that both meet the budget?"""
    if faster(one.latency, other.latency):
        return True
    if faster(other.latency, one.latency):
        return False
    if smaller(one, other) or smaller(other, one):
        return smaller(one, other)
    return one.metric > other.metric + 1e-9


def best(costs: Mapping[str, Cost], among: Sequence[str]) -> str | None:
    """The best of some candidates by name, the earlier of two alike; None when there are none."""
    chosen: str | None = None
    for name in among:
        if chosen is None or better(costs[name], costs[chosen]):
            chosen = name
    return chosen


def front(costs: Mapping[str, Cost]) -> list[str]:
    """The candidates that no other beats or equals in metric, speed and size at once, in their order."""
    return [
        name
        for name, cost in costs.items()
        if cost.finite
        and not any(_dominates(other, cost) for key, other in costs.items() if key != name and other.finite)
    ]


def _dominates(one: Cost, other: Cost) -> bool:
    no_worse = one.metric >= other.metric - 1e-9 and not faster(other.latency, one.latency) and one.size <= other.size
    return no_worse and (one.metric > other.metric + 1e-9 or faster(one.latency, other.latency) or smaller(one, other))
