"""Accuracy without labels, from the confidence histogram: an estimate with an interval, never a proof.

Two estimates are averaged: the accuracy that the reference had at these confidences (CBPE), and the reference's
accuracy less the fall in mean confidence (DoC). Each is wrong by .025 on average over eleven measured shifts, and too
hopeful under strong ones, so the interval holds that error beside the sampling error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from edgewise_hub.monitoring.drift.reference import Reference
from edgewise_hub.monitoring.drift.summary import Counts

MODEL_ERROR = 0.025 * math.sqrt(math.pi / 2)
"""Standard deviation of the estimate's own error, of mean size .025 if normal."""
Z95 = 1.96
REFUTED = 0.01
"""Chance of so many correct labels, were the estimate right, below which the estimate is wrong."""


@dataclass(frozen=True)
class Estimate:
    """Shares: the accuracy estimated, its 95% interval, and the accuracy on the reference."""

    accuracy: float
    low: float
    high: float
    reference: float


def estimate(parts: list[tuple[Reference, Counts]]) -> Estimate | None:
    """From (reference, confidence counts [bins]) of each bundle, weighted by items. None where the reference of any has
    no labels, or nothing was counted."""
    estimated = variance = held = 0.0
    n = sum(int(counts.sum()) for _, counts in parts)
    if not n:
        return None
    for reference, counts in parts:
        if reference.accuracy is None or reference.confidence is None:
            return None
        size = int(counts.sum())
        if not size:
            continue
        share, usual = counts / size, reference.bin_counts / reference.m
        by_bin = float(share @ reference.bin_accuracy)
        by_fall = reference.accuracy + float((share - usual) @ reference.bin_confidence)
        estimated += size / n * float(np.clip((by_bin + by_fall) / 2, 0, 1))
        held += size / n * reference.accuracy
        spread = float(share @ (reference.bin_accuracy - by_bin) ** 2)
        variance += (size / n) ** 2 * spread / size
    width = Z95 * math.sqrt(variance + MODEL_ERROR**2)
    return Estimate(estimated, max(estimated - width, 0.0), min(estimated + width, 1.0), held)


def refuted(estimate: Estimate | None, labelled: int, correct: int) -> bool:
    """Do labels show that accuracy is better than estimated? Exact binomial, one-sided, at ``REFUTED``: after a
    retraining, confidence on the shifted inputs may stay low while the answers are right."""
    if estimate is None or not labelled:
        return False
    return float(stats.binom.sf(correct - 1, labelled, estimate.accuracy)) < REFUTED


def label_p_value(labelled: int, correct: int, accuracy: float, tolerance: float) -> float:
    """Chance of so few correct if the true accuracy were ``accuracy - tolerance``: binomial, one-sided, exact."""
    return max(float(stats.binom.cdf(correct, labelled, max(accuracy - tolerance, 0.0))), 1e-300)
