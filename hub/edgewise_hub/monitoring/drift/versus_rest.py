"""A group against the rest of the fleet, over the same time and the same bundles.

A fleet that changed as a whole shows no group here; a group that changed alone shows clearly, even where the reference
fits nobody well. A drifted group also spoils "the rest" for the others, who would differ from it. So the worst group is
named first, its devices leave everybody's rest, and the others are tested again, until none differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgewise_hub.monitoring.drift import ridge_t2, strata
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.strata import Result, Stratum
from edgewise_hub.monitoring.drift.summary import Summary

Fleet = Mapping[str, Mapping[str, Summary]]
"""device -> bundle -> what it sent in a span."""


@dataclass(frozen=True)
class Kind:
    """A bundle's version and baseline."""

    version: int
    baseline: Baseline


@dataclass(frozen=True)
class VersusRest:
    """One group against the rest, bundle by bundle. ``without``: groups that had left the rest before."""

    embedding: tuple[Result, ...] = ()
    classes: tuple[Result, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def p_value(self) -> float:
        """Of both tests together (Bonferroni); 1 where neither could run."""
        found = [strata.combine([r.p_value for r in part])[1] for part in (self.embedding, self.classes) if part]
        return min(1.0, len(found) * min(found)) if found else 1.0

    @property
    def size(self) -> float:
        """How far off: to rank groups whose p-values are too small to tell apart."""
        return sum(result.statistic for result in self.embedding or self.classes)


def stratify(fleet: Fleet, devices: Iterable[str], kinds: Mapping[str, Kind]) -> dict[str, Stratum]:
    """Merge what some devices sent, by bundle. A bundle that is not among ``kinds`` is left out."""
    sums: dict[str, Summary] = {}
    squares: dict[str, float] = {}
    for device in sorted(devices):
        for bundle, summary in fleet.get(device, {}).items():
            if bundle in kinds:
                sums[bundle] = sums[bundle] + summary if bundle in sums else summary
                squares[bundle] = squares.get(bundle, 0.0) + float(summary.n) ** 2
    return {
        bundle: Stratum(bundle, kinds[bundle].version, kinds[bundle].baseline, seen, squares[bundle] / max(seen.n, 1))
        for bundle, seen in sums.items()
    }


def compare_all(
    fleet: Fleet,
    groups: Mapping[str, frozenset[str]],
    kinds: Mapping[str, Kind],
    alpha: float,
    rng: np.random.Generator,
) -> dict[str, VersusRest]:
    """Every group against the rest; groups that differ at ``alpha`` leave the rest, worst first."""
    found: dict[str, VersusRest] = {}
    left: list[str] = []
    own = {group: stratify(fleet, devices, kinds) for group, devices in groups.items()}
    while len(found) < len(groups):
        spoiled = frozenset[str]().union(*(groups[group] for group in left))
        now = {
            group: _compare(own[group], stratify(fleet, fleet.keys() - groups[group] - spoiled, kinds), left, rng)
            for group in groups
            if group not in found
        }
        differing = [group for group, versus in now.items() if versus.p_value < alpha]
        if not differing:
            found.update(now)
            break
        worst = max(differing, key=lambda group: (_rounded(now[group].size), _distance(own[group])))
        found[worst] = now[worst]
        left.append(worst)
    return found


def _compare(
    own: Mapping[str, Stratum], rest: Mapping[str, Stratum], left: list[str], rng: np.random.Generator
) -> VersusRest:
    pairs = [(own[bundle], rest[bundle]) for bundle in sorted(own.keys() & rest.keys())]
    embedding = [strata.embedding_versus(mine, others) for mine, others in pairs]
    classes = [strata.classes_versus(mine, others, rng) for mine, others in pairs]
    return VersusRest(
        tuple(result for result in embedding if result is not None),
        tuple(result for result in classes if result is not None),
        tuple(left),
    )


def _rounded(size: float) -> float:
    """Two groups alone differ from each other by the same: three digits call that a tie."""
    return float(f"{size:.3g}")


def _distance(own: Mapping[str, Stratum]) -> float:
    """Distance from the reference, which breaks a tie: of two groups, it is the one further off that changed."""
    total, n = 0.0, 0
    for stratum in own.values():
        reference, seen = stratum.baseline.reference, stratum.seen
        if reference.features is not None and seen.n_embedding:
            delta = seen.mean(reference.scale) - reference.metric.mean
            total += seen.n_embedding * ridge_t2.statistic(reference.metric, delta, 1.0)
            n += seen.n_embedding
        elif reference.classes is not None and seen.classes.sum():
            size = int(seen.classes.sum())
            gaps = seen.classes / size - reference.class_counts / reference.m
            total += size * float(np.abs(gaps).sum())
            n += size
    return total / n if n else 0.0
