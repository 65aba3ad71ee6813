"""One test in one bundle, and how its p-values are combined over bundles.

Windows of two bundles never merge: each compiled variant has embeddings and confidences of its own. So each test runs
within each bundle, and the p-values are combined by Fisher's method, -2 sum ln p against chi-squared with two degrees
of freedom a bundle: it finds a drift that is small in each of two bundles and the same in both. Bundles of one version
share reference items, and so the reference's sampling error: at most 1/11 of the variance, since m >= 10 n.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from edgewise_hub.monitoring.drift import classes as class_test
from edgewise_hub.monitoring.drift import columns as column_test
from edgewise_hub.monitoring.drift import confidence as ks
from edgewise_hub.monitoring.drift import mmd, ridge_t2
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.joint import Joint, fisher
from edgewise_hub.monitoring.drift.null import SMALLEST, Null
from edgewise_hub.monitoring.drift.ridge_t2 import effective_n
from edgewise_hub.monitoring.drift.summary import Summary

Z95 = 1.96
MIN_ITEMS = 20
"""A bundle with fewer items in a span is left out: its mean is not normal enough."""


@dataclass(frozen=True)
class Result:
    """One test in one bundle: ``n`` items; ``effect2``: squared distance beyond what chance gives, and its 95% interval
    (embedding only)."""

    statistic: float
    p_value: float
    n: int
    effect2: float = 0.0
    low2: float = 0.0
    high2: float = 0.0


@dataclass(frozen=True)
class Stratum:
    """What a group (or the rest) sent of one bundle in a span. ``run``: items that follow each other on one device."""

    bundle: str
    version: int
    baseline: Baseline
    seen: Summary
    run: float


def combine(p_values: Sequence[float]) -> tuple[float, float]:
    """Fisher's method over bundles: (statistic, p-value). Raises ValueError for none."""
    if not p_values:
        raise ValueError("combine: expected p-values, got none")
    statistic = -2.0 * sum(math.log(max(p, SMALLEST)) for p in p_values)
    return statistic, max(float(stats.chi2.sf(statistic, 2 * len(p_values))), SMALLEST)


def threshold(alpha: float, bundles: int) -> float:
    """Fisher's statistic at which a test over so many bundles alarms at ``alpha``."""
    return float(stats.chi2.isf(alpha, 2 * bundles))


def embedding(stratum: Stratum, *, reweighted: bool = False) -> Result | None:
    """Ridge-T2 against the reference; ``reweighted``: against the reference with the span's own mix of classes."""
    reference, seen = stratum.baseline.reference, stratum.seen
    if reference.features is None or seen.n_embedding < MIN_ITEMS:
        return None
    n = _judged_n(stratum, seen.n_embedding)
    expected = reference.metric.mean
    if reweighted:
        if reference.classes is None or not seen.classes.sum():
            return None
        expected = seen.classes / seen.classes.sum() @ reference.class_means
    null = stratum.baseline.nulls(n, stratum.run)["reweighted" if reweighted else "embedding"]
    if null is None:
        return None
    n_e = effective_n(n, reference.m)
    statistic = ridge_t2.statistic(reference.metric, seen.mean(reference.scale) - expected, n_e)
    extra = n_e * seen.noise_of_mean(reference.scale) * reference.metric.inverse_trace
    statistic = _without_noise(statistic, null, extra)
    return _sized(statistic, null, seen.n_embedding, n_e)


def reweighted(stratum: Stratum) -> Result | None:
    """``embedding`` against the reference reweighted to the span's mix of classes."""
    return embedding(stratum, reweighted=True)


def discrepancy(stratum: Stratum) -> Result | None:
    """MMD of the embeddings against the reference."""
    reference, seen = stratum.baseline.reference, stratum.seen
    if reference.features is None or seen.n_embedding < MIN_ITEMS:
        return None
    n = _judged_n(stratum, seen.n_embedding)
    null = stratum.baseline.nulls(n, stratum.run)["mmd"]
    if null is None:
        return None
    delta = seen.mean(reference.scale) - reference.metric.mean
    n_e = effective_n(n, reference.m)
    extra = n_e * seen.noise_of_mean(reference.scale) * len(delta)
    statistic = _without_noise(float(mmd.statistics(delta[None, :], n_e)[0]), null, extra)
    return Result(statistic, null.p_value(statistic), seen.n_embedding)


def classes(stratum: Stratum, rng: np.random.Generator) -> Result | None:
    """Chi-squared of predicted classes against the reference's. Where a class is too rare for the draws to know, the
    p-value is no smaller than the exact test's."""
    reference, seen = stratum.baseline.reference, stratum.seen
    seen_classes = np.maximum(seen.classes, 0)  # noise for privacy may leave less than none
    counted = int(seen_classes.sum())
    if reference.classes is None or counted < MIN_ITEMS:
        return None
    n = _judged_n(stratum, counted)
    null = stratum.baseline.nulls(n, stratum.run)["classes"]
    if null is None:
        return None
    counts = np.rint(seen_classes * (n / counted)).astype(np.int64)
    shares = (reference.class_counts + counts) / (reference.m + n)
    noise = seen.noise.get("classes", 0) * (n / counted) ** 2
    extra = float((noise / (n * shares[shares > 0])).sum())
    statistic = float(class_test.statistics(counts[None, :], reference.class_counts)[0])
    p_value = null.p_value(_without_noise(statistic, null, extra))
    if not noise and class_test.is_sparse(counts, reference.class_counts):
        effect = stratum.baseline.design_effect(stratum.run)
        p_value = max(p_value, class_test.test(counts, reference.class_counts, rng, effect)[1])
    return Result(statistic, p_value, counted)


def confidence(stratum: Stratum) -> Result | None:
    """Kolmogorov-Smirnov of binned confidences against the reference's."""
    reference, seen = stratum.baseline.reference, stratum.seen
    counted = int(seen.confidence.sum())
    if reference.confidence is None or counted < MIN_ITEMS:
        return None
    n = _judged_n(stratum, counted)
    null = stratum.baseline.nulls(n, stratum.run)["confidence"]
    if null is None:
        return None
    n_e = effective_n(n, reference.m)
    statistic = float(ks.statistics(seen.confidence[None, :], reference.bin_counts, n_e)[0])
    extra = n_e * seen.noise.get("confidence", 0) * len(seen.confidence) / counted**2
    statistic = _without_noise(statistic, null, extra)
    return Result(statistic, null.p_value(statistic), counted)


def columns(stratum: Stratum) -> Result | None:
    """The column of a table that differs most from the reference's."""
    reference, seen = stratum.baseline.reference, stratum.seen
    counts = np.concatenate([seen.features.ravel(), seen.categories.ravel()])
    width = sum(columns * places for columns, places in reference.tables)
    if not width or len(counts) != width:
        return None
    first, places = reference.tables[0]
    counted = int(counts[: first * places].sum()) // first
    if counted < MIN_ITEMS:
        return None
    n = _judged_n(stratum, counted)
    null = stratum.baseline.nulls(n, stratum.run)["columns"]
    if null is None:
        return None
    n_e = effective_n(n, reference.m)
    statistic = float(column_test.statistics(counts[None, :], reference.column_counts, reference.tables, n_e)[0])
    noise = max(seen.noise.get("features", 0), seen.noise.get("categories", 0))
    most = max(places for _, places in reference.tables)
    extra = 2 * math.log(1 + sum(columns for columns, _ in reference.tables)) * n_e * noise * most / counted**2
    statistic = _without_noise(statistic, null, extra)
    return Result(statistic, null.p_value(statistic), counted)


def joint(strata: Sequence[tuple[Stratum, float]], tests: Mapping[str, Collection[str]]) -> Joint:
    """The joint null of ``tests`` (name -> the bundles that it ran in) over (stratum, n) of each bundle."""
    drawn = {s.bundle: s.baseline.nulls(n, s.run).drawn for s, n in strata}
    return Joint([fisher([drawn[bundle][test] for bundle in sorted(bundles)]) for test, bundles in tests.items()])


def _without_noise(statistic: float, null: Null, extra: float) -> float:
    """A statistic to which devices' noise for privacy adds ``extra`` on average, in the null's scale: its tail is then
    no heavier than the null's, since noise is spread over all directions."""
    return statistic * null.mean / (null.mean + extra) if extra > 0 else statistic


def _sized(statistic: float, null: Null, n: int, n_e: float) -> Result:
    """The statistic is a quadratic form: where the distance is d, it has the null's mean and n_e d^2, and at most the
    null's variance and 4 n_e d^2, since no weight of the form is above 1."""
    beyond = max(statistic - null.mean, 0.0)
    width = Z95 * math.sqrt(null.deviation**2 + 4 * beyond)
    low, high = max(statistic - null.mean - width, 0.0), max(statistic - null.mean + width, 0.0)
    return Result(statistic, null.p_value(statistic), n, beyond / n_e, low / n_e, high / n_e)


def _judged_n(stratum: Stratum, n: int) -> int:
    """More is judged as if it were as much as the limit: too careful, never too bold."""
    return min(n, stratum.baseline.limit)


def embedding_versus(stratum: Stratum, rest: Stratum) -> Result | None:
    """Ridge-T2 of a group against the rest, in the reference's metric: 1/n_e = 1/n_group + 1/n_rest."""
    reference, n, others = stratum.baseline.reference, stratum.seen.n_embedding, rest.seen.n_embedding
    if reference.features is None or min(n, others) < MIN_ITEMS:
        return None
    n_e = effective_n(n, others)
    null = stratum.baseline.nulls(n_e, max(stratum.run, rest.run))["embedding"]
    if null is None:
        return None
    delta = stratum.seen.mean(reference.scale) - rest.seen.mean(reference.scale)
    noise = stratum.seen.noise_of_mean(reference.scale) + rest.seen.noise_of_mean(reference.scale)
    statistic = ridge_t2.statistic(reference.metric, delta, n_e)
    statistic = _without_noise(statistic, null, n_e * noise * reference.metric.inverse_trace)
    return _sized(statistic, null, n, n_e)


def classes_versus(stratum: Stratum, rest: Stratum, rng: np.random.Generator) -> Result | None:
    """Chi-squared of predicted classes of a group against the rest."""
    n, others = int(stratum.seen.classes.sum()), int(rest.seen.classes.sum())
    if min(n, others) < MIN_ITEMS:
        return None
    effect = stratum.baseline.design_effect(max(stratum.run, rest.run))
    a, b = np.maximum(stratum.seen.classes, 0), np.maximum(rest.seen.classes, 0)
    noise = [part.seen.noise.get("classes", 0) / max(count, 1) for part, count in ((stratum, n), (rest, others))]
    effect += max(noise) * len(a)  # counts vary by so much more than draws would, class for class
    return Result(*class_test.test(a, b, rng, effect), n)
