"""The panel: every test on one group's span, one judgement.

Rules that hold here:
- ``alpha`` is the false-alarm rate of one judgement of one group over all its tests and bundles: the tests against the
  reference are one family, those against the rest another, labels a third; within a family the smallest p-value counts,
  held against draws of all tests at once (``joint``), and over families it is multiplied by their number;
- no single test wins: the embedding sees what the classes do not, and the other way round;
- what is called harmful is estimated or labelled to harm; a mere difference is not; labels overrule the estimate.

| inputs differ | accuracy estimated | labels | verdict |
|---|---|---|---|
| any | any | below the reference less the tolerance | harmful (real) |
| yes | its interval lies below the reference less the tolerance | none, or not surely above the estimate | harmful |
| classes alone, or no longer once the reference has the span's mix of classes | - | - | label-shift |
| yes | otherwise | - | drift (virtual) |
| no | - | - | quiet |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgewise_hub.monitoring.drift import accuracy as estimates
from edgewise_hub.monitoring.drift import strata as tests
from edgewise_hub.monitoring.drift.accuracy import Estimate
from edgewise_hub.monitoring.drift.baseline import PROMISE
from edgewise_hub.monitoring.drift.strata import Result, Stratum
from edgewise_hub.monitoring.drift.versus_rest import VersusRest

Verdict = Literal["wait", "quiet", "label-shift", "drift", "harmful", "data-quality"]
Test = Literal["embedding", "mmd", "classes", "confidence", "columns", "embedding-vs-rest", "classes-vs-rest"]


@dataclass(frozen=True)
class Policy:
    """``alpha`` of one judgement; ``min_n``: items before a span is judged; ``tolerance``: accuracy that may be lost;
    ``certain``: a judgement with a p-value below opens an alert alone, others need ``to_open`` in a row; an alert
    closes after ``to_close`` quiet ones."""

    alpha: float = 1e-3
    min_n: int = 150
    tolerance: float = 0.02
    certain: float = 1e-6
    to_open: int = 2
    to_close: int = 3

    @property
    def false_alert_rate(self) -> float:
        """Chance that a judgement of a group where nothing drifted opens an alert, were judgements independent: by the
        panel, by the watch, or by labels."""
        return self.alpha**self.to_open + self.certain + 2.0 / PROMISE


@dataclass(frozen=True)
class Reading:
    """One test over all bundles: ``statistic`` is Fisher's -2 sum ln p, whatever the test, so that it can be compared
    over tests and time; ``threshold``: where this test alone alarms."""

    test: Test
    statistic: float
    threshold: float
    p_value: float
    n: int
    alarm: bool


@dataclass(frozen=True)
class Judged:
    """A judgement. ``labels_p``: p-value of the labelled accuracy, None without labels. ``explained_p``: p-value of the
    embeddings against the reference with the span's own mix of classes. ``bundles``: each test's own statistic and
    p-value, by bundle. ``one_device``: the device without which there would be no alarm.
    ``labels_alarm``: labels alone show harm."""

    verdict: Verdict
    n: int
    p_value: float
    alpha: float
    effect: float
    effect_low: float
    effect_high: float
    readings: tuple[Reading, ...]
    estimate: Estimate | None
    labelled: int
    correct: int
    labels_p: float | None
    explained_p: float | None
    versions: tuple[int, ...]
    bundles: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    one_device: str | None = None
    labels_alarm: bool = False

    @property
    def refuted(self) -> bool:
        """Whether labels show the estimated accuracy to be too low."""
        return estimates.refuted(self.estimate, self.labelled, self.correct)

    @property
    def alarm(self) -> bool:
        """Whether the judgement raises the alarm."""
        return self.verdict not in ("wait", "quiet")


def judge(strata: Sequence[Stratum], versus: VersusRest | None, policy: Policy, rng: np.random.Generator) -> Judged:
    """Judge one group's span: its strata (one a bundle) against their references, and the group against the rest."""
    by_bundle: dict[Test, list[tuple[str, Result]]] = {
        "embedding": _each(strata, [tests.embedding(s) for s in strata]),
        "mmd": _each(strata, [tests.discrepancy(s) for s in strata]),
        "classes": _each(strata, [tests.classes(s, rng) for s in strata]),
        "confidence": _each(strata, [tests.confidence(s) for s in strata]),
        "columns": _each(strata, [tests.columns(s) for s in strata]),
    }
    by_bundle = {test: found for test, found in by_bundle.items() if found}
    rest: dict[Test, Sequence[Result]] = {}
    if versus is not None:
        rest = {"embedding-vs-rest": versus.embedding, "classes-vs-rest": versus.classes}
    rest = {test: found for test, found in rest.items() if found}
    estimate = estimates.estimate([(s.baseline.reference, s.seen.confidence) for s in strata])
    labelled, correct = sum(s.seen.labelled for s in strata), sum(s.seen.correct for s in strata)
    labels_p = _labels_p(strata, labelled, correct, policy)
    families = bool(by_bundle) + bool(rest) + (labels_p is not None)
    each = policy.alpha / max(families, 1)
    readings: list[Reading] = []
    p_values = [labels_p] if labels_p is not None else []
    if by_bundle:
        null = tests.joint(
            [(s, s.seen.n) for s in strata], {t: [b for b, _ in found] for t, found in by_bundle.items()}
        )
        own: dict[Test, Sequence[Result]] = {test: [result for _, result in found] for test, found in by_bundle.items()}
        readings += [_reading(test, results, null.limit(each)) for test, results in own.items()]
        p_values.append(null.p_value(min(reading.p_value for reading in readings)))
    if rest and versus is not None and versus.joint is not None:
        readings += [_reading(test, results, versus.joint.limit(each)) for test, results in rest.items()]
        p_values.append(versus.p_value)
    explained = [result.p_value for result in map(tests.reweighted, strata) if result is not None]
    explained_p = tests.combine(explained)[1] if explained else None
    bundles: dict[str, dict[str, tuple[float, float]]] = {}
    for test, found in by_bundle.items():
        for bundle, result in found:
            bundles.setdefault(bundle, {})[test] = (result.statistic, result.p_value)
    return Judged(
        verdict=_verdict(
            readings,
            labels_p,
            explained_p,
            each,
            None if estimates.refuted(estimate, labelled, correct) else estimate,
            policy,
        )
        if p_values
        else "wait",
        n=sum(s.seen.n for s in strata),
        p_value=min(1.0, families * min(p_values)) if p_values else 1.0,
        alpha=policy.alpha,
        effect=_effect([(result.n, result.effect2) for _, result in by_bundle.get("embedding", [])]),
        effect_low=_effect([(result.n, result.low2) for _, result in by_bundle.get("embedding", [])]),
        effect_high=_effect([(result.n, result.high2) for _, result in by_bundle.get("embedding", [])]),
        readings=tuple(readings),
        estimate=estimate,
        labelled=labelled,
        correct=correct,
        labels_p=labels_p,
        explained_p=explained_p,
        versions=tuple(sorted({s.version for s in strata})),
        bundles=bundles,
        labels_alarm=labels_p is not None and labels_p < each,
    )


def _verdict(
    readings: Sequence[Reading],
    labels_p: float | None,
    explained_p: float | None,
    each: float,
    estimate: Estimate | None,
    policy: Policy,
) -> Verdict:
    if labels_p is not None and labels_p < each:
        return "harmful"
    alarms = {reading.test for reading in readings if reading.alarm}
    if not alarms:
        return "quiet"
    if estimate is not None and estimate.high < estimate.reference - policy.tolerance:
        return "harmful"
    mix = alarms & {"classes", "classes-vs-rest"}
    inputs = alarms & {"embedding", "mmd", "columns", "embedding-vs-rest"}
    explained = explained_p is None or explained_p >= each
    if mix and (not inputs or (inputs & {"embedding", "mmd", "columns"} and explained)):
        return "label-shift"
    return "drift"


def _each(strata: Sequence[Stratum], results: Sequence[Result | None]) -> list[tuple[str, Result]]:
    return [(s.bundle, result) for s, result in zip(strata, results, strict=True) if result is not None]


def _reading(test: Test, results: Sequence[Result], limit: float) -> Reading:
    """``limit``: the p-value below which this test alarms."""
    statistic, p_value = tests.combine([result.p_value for result in results])
    threshold = tests.threshold(limit, len(results))
    return Reading(test, statistic, threshold, p_value, sum(result.n for result in results), p_value < limit)


def _labels_p(strata: Sequence[Stratum], labelled: int, correct: int, policy: Policy) -> float | None:
    parts = [(s.seen.labelled, s.baseline.reference.accuracy) for s in strata if s.seen.labelled]
    known = [(n, accuracy) for n, accuracy in parts if accuracy is not None]
    if not known or len(known) < len(parts):
        return None
    expected = sum(n * accuracy for n, accuracy in known) / labelled
    return estimates.label_p_value(labelled, correct, expected, policy.tolerance)


def _effect(squares: Sequence[tuple[int, float]]) -> float:
    """The distance over bundles, from (items, squared distance) of each."""
    n = sum(count for count, _ in squares)
    return math.sqrt(sum(count * square for count, square in squares) / n) if n else 0.0
