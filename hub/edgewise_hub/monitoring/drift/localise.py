"""Which part of the world changed: clusters of the embedding space that are seen more or less often, described by the
reference's classes that live there, so that nobody's example is shown.

Clusters are the Voronoi cells of the sketch (or predicted classes, where there are no cells). Each has the standardized
residual of its count against the reference's, r = (o - e) / sqrt(e (1 - e/n) (1 + n/m)) (Agresti, 2013, 3.3.1, with
both samples' errors), divided by the root of the design effect; those that changed are named by Benjamini and Hochberg.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from edgewise_hub.monitoring.drift.summary import Counts

NEAREST = 3
SMALL = 0.1
"""A class is in a cluster's description where it has at least this share of it."""


@dataclass(frozen=True)
class Cluster:
    """``ratio``: how often now, over how often in the reference; ``classes``: (class, its share of the cluster in the
    reference), the largest first; empty where the reference never saw the cluster."""

    index: int
    residual: float
    share: float
    reference: float
    classes: tuple[tuple[int, float], ...]

    @property
    def ratio(self) -> float:
        """Infinite where the reference has none of it."""
        return self.share / self.reference if self.reference else float("inf")


def clusters(
    seen: Counts, reference: Counts, composition: npt.NDArray[np.integer], rate: float, design_effect: float = 1.0
) -> list[Cluster]:
    """The clusters that changed, most first. ``seen``, ``reference``: counts [C]; ``composition``: the reference's
    counts of each class in each cluster [C, K]; ``rate``: false discovery rate."""
    n, m = int(seen.sum()), int(reference.sum())
    if not n or not m:
        return []
    pooled = (seen + reference) / (n + m)
    expected = n * reference / m
    variance = n * pooled * (1 - pooled) * (1 + n / m) * design_effect
    residuals = np.divide(seen - expected, np.sqrt(variance), out=np.zeros(len(seen)), where=variance > 0)
    p_values = 2 * stats.norm.sf(np.abs(residuals))
    order = np.argsort(p_values, kind="stable")
    passed = p_values[order] * len(order) <= rate * (1 + np.arange(len(order)))
    named = order[: int(np.flatnonzero(passed).max(initial=-1)) + 1]
    return [
        Cluster(int(i), float(residuals[i]), float(seen[i] / n), float(reference[i] / m), _classes(composition[i]))
        for i in sorted(named, key=lambda i: -abs(float(residuals[i])))
    ]


def _classes(counts: npt.NDArray[np.integer]) -> tuple[tuple[int, float], ...]:
    total = int(counts.sum())
    if not total:
        return ()
    largest = np.argsort(-counts, kind="stable")[:NEAREST]
    return tuple((int(c), float(counts[c] / total)) for c in largest if counts[c] >= SMALL * total)
