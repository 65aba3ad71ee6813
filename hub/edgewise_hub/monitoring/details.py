"""What a Judgement row keeps beside its columns, as JSON; ``api.drift`` shows it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from edgewise_hub.monitoring.drift import evalues, since
from edgewise_hub.monitoring.drift.finding import CONCEPT, Finding
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.monitoring.drift.versus_rest import VersusRest
from edgewise_hub.monitoring.drift.words import tell

COLUMNS = 32
"""Columns that are kept: the first of the ranking."""
DEVICES = 64
"""Devices of a group that are shown: those with most evidence."""


class Past(NamedTuple):
    """An earlier judgement: where its span began, its p-value, and the evidence so far."""

    at: float
    p_value: float
    evidence: float


def details_of(
    finding: Finding, versus: VersusRest, past: Sequence[Past], group: str, *, windows: int, policy: Policy
) -> dict[str, Any]:
    """``past``: earlier judgements that were no "wait", oldest first."""
    judged = finding.judged
    estimate, watched = judged.estimate, finding.watched
    before = past[-1].evidence if past else 0.0
    waits = judged.verdict == "wait"
    return {
        "words": tell(finding, group),
        "effect": judged.effect,
        "effect_low": judged.effect_low,
        "effect_high": judged.effect_high,
        "kinds": list(finding.kinds),
        "tests": [asdict(reading) for reading in judged.readings],
        "estimated_accuracy": estimate.accuracy if estimate else None,
        "estimated_low": estimate.low if estimate else None,
        "estimated_high": estimate.high if estimate else None,
        "reference_accuracy": estimate.reference if estimate else None,
        "labelled": judged.labelled,
        "labelled_accuracy": judged.correct / judged.labelled if judged.labelled else None,
        "labels_p": judged.labels_p,
        "explained_p": judged.explained_p,
        "windows": windows,
        "versions": list(judged.versions),
        "bundles": judged.bundles,
        "rest_without": list(versus.without),
        "stands_out": versus.stands_out,
        "one_device": judged.one_device,
        "sure": finding.sure,
        "false_alert_rate": policy.false_alert_rate,
        "evidence": before if waits else evalues.detector_step(before, evalues.calibrate(judged.p_value)),
        "concept_evidence": watched.concept if watched else 0.0,
        "concept_limit": CONCEPT,
        "watch": _watch(finding),
        "devices": _devices(finding),
        "quality": [
            {
                "problem": each.problem,
                "count": each.count,
                "n": each.n,
                "features": list(each.features),
                "words": each.words,
            }
            for each in finding.broken
        ],
        "changed": [
            {"index": each.index, "residual": each.residual, "share": each.share, "reference": each.reference}
            for each in finding.changed
        ],
        "clusters": [
            {
                "index": each.index,
                "residual": each.residual,
                "share": each.share,
                "reference": each.reference,
                "classes": [list(kind) for kind in each.classes],
            }
            for each in finding.clusters
        ],
        "columns": [
            {
                "name": each.name,
                "p_value": each.p_value,
                "named": each.named,
                "size": each.size,
                "place": each.bin,
                "share": each.share,
                "reference": each.reference,
            }
            for each in finding.columns[:COLUMNS]
        ],
        "label_drift_p": finding.labels_p,
        "prior": _prior(finding),
        "since": _since(finding, past),
    }


def _watch(finding: Finding) -> dict[str, Any] | None:
    reading = finding.watched.group if finding.watched else None
    if reading is None:
        return None
    return {
        "score": reading.score,
        "limit": reading.limit,
        "horizon": reading.horizon,
        "n": reading.n,
        "alarm": reading.alarm,
    }


def _devices(finding: Finding) -> list[dict[str, Any]]:
    found = sorted(finding.watched.devices if finding.watched else (), key=lambda each: (-each.score, each.device))
    return [asdict(each) for each in found[:DEVICES]]


def _prior(finding: Finding) -> list[dict[str, Any]]:
    prior = finding.prior
    if prior is None:
        return []
    return [
        {"index": i, "now": float(now), "low": float(low), "high": float(high), "reference": float(reference)}
        for i, (now, low, high, reference) in enumerate(
            zip(prior.now, prior.low, prior.high, prior.reference, strict=True)
        )
    ]


def _since(finding: Finding, past: Sequence[Past]) -> dict[str, float] | None:
    """When what is alarming now began, where the history shows it."""
    if finding.judged.verdict in ("wait", "quiet"):
        return None
    found = since.change_point([*(each.p_value for each in past), finding.judged.p_value])
    if found is None or found.index >= len(past):
        return None
    latest = min(found.latest, len(past) - 1)
    return {"at": past[found.index].at, "earliest": past[found.earliest].at, "latest": past[latest].at}
