"""A group against the rest of the fleet, over the same time and the same bundles.

A fleet that changed as a whole shows no group here; a group that changed alone shows clearly, even where the reference
fits nobody well. A drifted group also spoils "the rest" for the others, who would differ from it. So the worst group is
named first, its devices leave everybody's rest, and the others are tested again, until none differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgewise_hub.monitoring.drift import evalues, one_device, ridge_t2, strata
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.joint import Joint
from edgewise_hub.monitoring.drift.strata import Result, Stratum
from edgewise_hub.monitoring.drift.summary import Summary

RATE = 0.1
"""False discovery rate among the groups that stand out."""
Fleet = Mapping[str, Mapping[str, Summary]]
"""device -> bundle -> what it sent in a span."""


@dataclass(frozen=True)
class Kind:
    """A bundle's version and baseline."""

    version: int
    baseline: Baseline


@dataclass(frozen=True)
class VersusRest:
    """One group against the rest, bundle by bundle. ``joint``: the null of both tests together. ``without``: groups
    that had left the rest before."""

    embedding: tuple[Result, ...] = ()
    classes: tuple[Result, ...] = ()
    joint: Joint | None = None
    without: tuple[str, ...] = ()
    stands_out: bool = False

    @property
    def p_value(self) -> float:
        """Of both tests together; 1 where neither could run."""
        found = [strata.combine([r.p_value for r in part])[1] for part in (self.embedding, self.classes) if part]
        return self.joint.p_value(min(found)) if self.joint else 1.0

    @property
    def size(self) -> float:
        """How far off: to rank groups whose p-values are too small to tell apart."""
        return sum(result.statistic for result in self.embedding or self.classes)


def stratify(fleet: Fleet, devices: Iterable[str], kinds: Mapping[str, Kind]) -> dict[str, Stratum]:
    """Merge what some devices sent, each capped (``one_device``), by bundle. A bundle not among ``kinds`` is left
    out."""
    by_bundle: dict[str, dict[str, Summary]] = {}
    for device in sorted(devices):
        for bundle, summary in fleet.get(device, {}).items():
            if bundle in kinds:
                by_bundle.setdefault(bundle, {})[device] = summary
    found = {}
    for bundle, each in by_bundle.items():
        counted = one_device.cap(each)
        seen = Summary.sum(counted.values())
        run = sum(float(summary.n) ** 2 for summary in counted.values()) / max(seen.n, 1)
        found[bundle] = Stratum(bundle, kinds[bundle].version, kinds[bundle].baseline, seen, run)
    return found


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
    named = evalues.e_bh({group: evalues.calibrate(versus.p_value) for group, versus in found.items()}, RATE)
    return {group: replace(versus, stands_out=group in named) for group, versus in found.items()}


def compare(
    fleet: Fleet,
    groups: Mapping[str, frozenset[str]],
    group: str,
    kinds: Mapping[str, Kind],
    left: Sequence[str],
    rng: np.random.Generator,
) -> VersusRest:
    """One group against the rest, without the groups that have ``left``."""
    spoiled = frozenset[str]().union(*(groups[name] for name in left))
    rest = stratify(fleet, fleet.keys() - groups[group] - spoiled, kinds)
    return _compare(stratify(fleet, groups[group], kinds), rest, left, rng)


def _compare(
    own: Mapping[str, Stratum], rest: Mapping[str, Stratum], left: Sequence[str], rng: np.random.Generator
) -> VersusRest:
    pairs = [(own[bundle], rest[bundle]) for bundle in sorted(own.keys() & rest.keys())]
    embedding = {mine.bundle: strata.embedding_versus(mine, others) for mine, others in pairs}
    classes = {mine.bundle: strata.classes_versus(mine, others, rng) for mine, others in pairs}
    ran = {
        name: [bundle for bundle, result in part.items() if result is not None]
        for name, part in (("embedding", embedding), ("classes", classes))
    }
    ran = {name: bundles for name, bundles in ran.items() if bundles}
    sizes = [
        (replace(mine, run=max(mine.run, others.run)), ridge_t2.effective_n(max(mine.seen.n, 1), max(others.seen.n, 1)))
        for mine, others in pairs
    ]
    return VersusRest(
        tuple(result for result in embedding.values() if result is not None),
        tuple(result for result in classes.values() if result is not None),
        strata.joint(sizes, ran) if ran else None,
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
