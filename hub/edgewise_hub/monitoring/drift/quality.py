"""Data quality comes before drift: where inputs are missing, out of any range or of another form, that is what is said.

Each count of a span is held against the share that is tolerated, by an exact binomial tail (one-sided), all counts
together at alpha (Bonferroni), and without the one device that has most, where there are several: one broken camera
breaks no group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from scipy import stats

from edgewise.wire import windows as wire

Problem = Literal["refused", "nonfinite_inputs", "out_of_bounds", "nonfinite_outputs", "errors"]

TOLERATED: dict[Problem, float] = {
    "refused": 0.01,
    "nonfinite_inputs": 0.01,
    "out_of_bounds": 0.5,
    "nonfinite_outputs": 0.01,
    "errors": 0.01,
}
"""Out of the reference's range: half of all, since drift itself leaves it, and a change of unit or scale leaves it in
all."""

WORDS: dict[Problem, str] = {
    "refused": "did not fit the model's signature: its schema changed, or the application sends something else",
    "nonfinite_inputs": "had missing values or numbers that are not finite",
    "out_of_bounds": "left the range of the reference: a unit or a scale may have changed",
    "nonfinite_outputs": "gave answers that are not finite",
    "errors": "failed in the runtime",
}
MIN_ITEMS = 20
NAMED = 3
"""Features named for one problem."""
OF_WIRE: dict[Problem, tuple[wire.Problem, ...]] = {
    "refused": ("unknown_inputs", "dropped_inputs", "wrong_shape", "wrong_dtype"),
    "nonfinite_inputs": ("not_finite", "missing"),
    "out_of_bounds": ("out_of_bounds",),
}
"""What devices say of single features, by the problem that it is a part of."""


@dataclass(frozen=True)
class Broken:
    """One problem beyond what is tolerated: so many of ``n`` items, the p-value, and the features that have it most."""

    problem: Problem
    count: int
    n: int
    p_value: float
    features: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """One sentence without a subject."""
        where = f" (above all {', '.join(self.features)})" if self.features else ""
        return f"{self.count:,} of {self.n:,} inputs {WORDS[self.problem]}{where}"


def judge(
    counters: Mapping[str, Mapping[str, int]],
    alpha: float,
    features: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
) -> list[Broken]:
    """What is broken, worst first. ``counters``: device -> the names of ``wire.windows.Counters`` -> counts of a
    span; ``features``: problem of the wire -> feature -> items."""
    found = []
    for problem, tolerated in TOLERATED.items():
        each = {device: (counts.get(problem, 0), _tried(counts)) for device, counts in counters.items()}
        each = {device: both for device, both in each.items() if both[1]}
        count, n = sum(k for k, _ in each.values()), sum(n for _, n in each.values())
        p_value = _p_value(count, n, tolerated)
        if len(each) > 1:
            worst = max(each, key=lambda device: each[device][0] - tolerated * each[device][1])
            p_value = max(p_value, _p_value(count - each[worst][0], n - each[worst][1], tolerated))
        if n >= MIN_ITEMS and p_value < alpha / len(TOLERATED):
            found.append(Broken(problem, count, n, p_value, _worst(problem, features)))
    return sorted(found, key=lambda broken: (broken.p_value, -broken.count))


def _worst(problem: Problem, features: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """Those with most items: at least a tenth of what the first has."""
    counts: dict[str, int] = {}
    for part in OF_WIRE.get(problem, ()):
        for name, count in features.get(part, {}).items():
            counts[name] = counts.get(name, 0) + count
    ranked = sorted(counts, key=lambda name: (-counts[name], name))[:NAMED]
    return tuple(name for name in ranked if 10 * counts[name] >= counts[ranked[0]] > 0)


def _tried(counts: Mapping[str, int]) -> int:
    return sum(counts.get(name, 0) for name in ("inferences", "errors", "refused", "nonfinite_inputs"))


def _p_value(count: int, n: int, tolerated: float) -> float:
    return float(stats.binom.sf(count - 1, n, tolerated)) if n else 1.0
