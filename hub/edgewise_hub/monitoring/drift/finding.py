"""What a group's span comes to, all looked at: the verdict, which kind of drift it is, and what changed.

| first that holds | verdict | kind |
|---|---|---|
| inputs are broken (``quality``) | data-quality | - |
| labels show more errors: in the span (``panel``), or as evidence over time (``concept``) | harmful | concept |
| the panel alarms | its own (``panel``'s table) | covariate, prediction, label (estimated) |
| the watch alarms over several spans | drift | covariate |
| otherwise | the panel's: quiet or wait | - |

Kinds are the field's: covariate drift is p(X), by embeddings; prediction drift p(y^), by predicted classes; label drift
p(Y), by the labels that arrived, else estimated from predictions; concept drift p(Y|X), by labels alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

from edgewise_hub.monitoring.drift import classes, label_shift, localise
from edgewise_hub.monitoring.drift.baseline import PROMISE
from edgewise_hub.monitoring.drift.columns import Column, rank
from edgewise_hub.monitoring.drift.localise import Cluster
from edgewise_hub.monitoring.drift.over_time import Watched
from edgewise_hub.monitoring.drift.panel import Judged
from edgewise_hub.monitoring.drift.quality import Broken
from edgewise_hub.monitoring.drift.strata import Stratum, combine
from edgewise_hub.monitoring.drift.summary import Counts

DriftKind = Literal["covariate", "prediction", "label", "concept"]
CONCEPT = PROMISE
"""Evidence of labelled errors at which they are called drift: a false one comes at most once in so many spans."""
RATE = 0.05
"""False discovery rate of the classes, clusters and columns named as changed."""
MIN_LABELS = 30
"""Labels in a span before their mix is compared."""


@dataclass(frozen=True)
class Finding:
    """``judged`` with the verdict of all; ``changed``: predicted classes that come more or less often;
    ``clusters``: cells of the embedding space; ``columns``: of a table, all, ranked; ``prior``: the estimated prior,
    where label shift explains the change and the reference has labels; ``labels_p``: p-value of the true labels that
    arrived against the reference's, None where too few did."""

    judged: Judged
    kinds: tuple[DriftKind, ...]
    broken: tuple[Broken, ...]
    watched: Watched | None
    changed: tuple[Cluster, ...]
    clusters: tuple[Cluster, ...]
    columns: tuple[Column, ...]
    prior: label_shift.Prior | None
    labels_p: float | None

    @property
    def sure(self) -> bool:
        """Whether it needs no second span to be believed: it took many to say it, or inputs are broken."""
        slow = self.watched is not None and self.watched.group is not None and self.watched.group.alarm
        return bool(self.broken) or slow or (self.watched is not None and self.watched.concept >= CONCEPT)


class Columns(NamedTuple):
    """Names of a bundle's columns, in the order of its sketches."""

    features: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


def find(
    judged: Judged,
    strata: Sequence[Stratum],
    watched: Watched | None,
    broken: Sequence[Broken],
    names: Mapping[str, Columns] = MappingProxyType({}),
) -> Finding:
    """Put together what was seen of one group and span. ``names``: each bundle's columns."""
    slow = watched is not None and watched.group is not None and watched.group.alarm
    concept = watched is not None and watched.concept >= CONCEPT
    kinds = list(_kinds(judged))
    verdict = judged.verdict
    if slow and not judged.alarm:
        verdict = "drift"
        kinds.append("covariate")
    if concept:
        verdict = "harmful"
    if concept and "concept" not in kinds:
        kinds.append("concept")
    labels_p = _labels_differ(strata)
    if labels_p is not None and labels_p < judged.alpha:
        kinds = [*(kind for kind in kinds if kind != "label"), "label"]
    if broken:
        verdict = "data-quality"
    shown = verdict not in ("wait", "quiet")
    return Finding(
        replace(judged, verdict=verdict),
        tuple(kinds),
        tuple(broken),
        watched,
        _changed(strata) if shown else (),
        _clusters(strata) if shown else (),
        _columns(strata, names) if shown else (),
        _prior(strata) if verdict == "label-shift" else None,
        labels_p,
    )


def _kinds(judged: Judged) -> list[DriftKind]:
    if not judged.alarm:
        return []
    alarms = {reading.test for reading in judged.readings if reading.alarm}
    found: list[DriftKind] = []
    if alarms & {"embedding", "mmd", "columns", "embedding-vs-rest"}:
        found.append("covariate")
    if alarms & {"classes", "classes-vs-rest", "confidence"}:
        found.append("prediction")
    if judged.verdict == "label-shift":
        found.append("label")
    if judged.labels_alarm:
        found.append("concept")
    return found


def _changed(strata: Sequence[Stratum]) -> tuple[Cluster, ...]:
    """Predicted classes, of the bundle with most items: they have one meaning in all bundles of a version."""
    most = _largest([s for s in strata if s.baseline.reference.classes is not None and s.seen.classes.sum()])
    if most is None:
        return ()
    usual = most.baseline.reference.class_counts
    effect = most.baseline.design_effect(most.run)
    return tuple(localise.clusters(np.maximum(most.seen.classes, 0), usual, np.diag(usual), RATE, effect))


def _clusters(strata: Sequence[Stratum]) -> tuple[Cluster, ...]:
    """Voronoi cells, of the bundle with most items: each variant has cells of its own."""
    most = _largest([s for s in strata if s.baseline.reference.cells is not None and len(s.seen.cells)])
    if most is None:
        return ()
    reference = most.baseline.reference
    effect = most.baseline.design_effect(most.run)
    return tuple(
        localise.clusters(np.maximum(most.seen.cells, 0), reference.cell_counts, reference.cell_classes, RATE, effect)
    )


def _columns(strata: Sequence[Stratum], names: Mapping[str, Columns]) -> tuple[Column, ...]:
    """Columns of a table, of the bundle with most items."""
    most = _largest([s for s in strata if s.bundle in names and len(s.seen.features) + len(s.seen.categories)])
    if most is None:
        return ()
    reference, of = most.baseline.reference, names[most.bundle]
    seen: dict[str, Counts] = {}
    usual: dict[str, Counts] = {}
    for columns, counts, table in (
        (of.features, most.seen.features, reference.table("feature_places")),
        (of.categories, most.seen.categories, reference.table("category_places")),
    ):
        if table is not None and counts.shape == table.shape:
            seen |= dict(zip(columns, np.maximum(counts, 0), strict=True))
            usual |= dict(zip(columns, table, strict=True))
    return tuple(rank(seen, usual, RATE, np.random.default_rng(0), most.baseline.design_effect(most.run)))


def _prior(strata: Sequence[Stratum]) -> label_shift.Prior | None:
    known = [s for s in strata if s.baseline.reference.classes is not None and s.baseline.reference.has_labels]
    most = _largest(known)
    if most is None:
        return None
    reference = most.baseline.reference
    assert reference.labels is not None and reference.classes is not None
    labels = reference.labels.astype(np.int64)
    matrix = label_shift.confusion(labels, reference.classes.astype(np.int64), reference.class_count)
    usual = np.bincount(labels, minlength=reference.class_count) / reference.m
    return label_shift.estimate(matrix, usual, np.maximum(most.seen.classes, 0))


def _labels_differ(strata: Sequence[Stratum]) -> float | None:
    """p-value of the true labels that arrived, against the reference's: label drift p(Y) as it is. None without any."""
    found = []
    for s in strata:
        arrived = _arrived(s)
        if arrived is not None and arrived.sum() >= MIN_LABELS:
            labels = s.baseline.reference.labels
            assert labels is not None
            usual = np.bincount(labels.astype(np.int64), minlength=len(arrived))
            effect = s.baseline.design_effect(s.run)
            found.append(classes.test(arrived, usual, np.random.default_rng(0), effect)[1])
    return combine(found)[1] if found else None


def _arrived(stratum: Stratum) -> Counts | None:
    """True labels of each class, out of the label sketch; None where there are none to compare."""
    counts, size = stratum.seen.labels, stratum.baseline.reference.class_count
    if not len(counts) or not stratum.baseline.reference.has_labels:
        return None
    counts = np.maximum(counts, 0)
    found: Counts = counts[0] if counts.shape[0] == 2 and size != 2 else counts.sum(axis=1)
    return found


def _largest(strata: Sequence[Stratum]) -> Stratum | None:
    return max(strata, key=lambda s: s.seen.n, default=None)
