"""Accuracy without labels, from the confidence histogram: an estimate with an interval, never a proof.

Three estimates: the accuracy that the reference had at these confidences (CBPE, as NannyML calls it); the reference's
accuracy less the fall in mean confidence (DoC: Guillory et al., 2021); the share of confidences above the threshold
that the reference's accuracy lies at (ATC: Garg et al., 2022). The first two, which erred least over eleven measured
shifts (.025 on average, ATC .035), are averaged; the interval holds all three, that error, and the sampling error. All
are too hopeful under strong shifts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
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
    parts = [(reference, np.maximum(counts, 0)) for reference, counts in parts]  # noise may leave less than none
    estimated = variance = held = lowest = highest = 0.0
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
        all_three = (by_bin, by_fall, _above(share, usual, reference.accuracy))
        estimated += size / n * float(np.clip((by_bin + by_fall) / 2, 0, 1))
        lowest += size / n * min(all_three)
        highest += size / n * max(all_three)
        held += size / n * reference.accuracy
        spread = float(share @ (reference.bin_accuracy - by_bin) ** 2)
        variance += (size / n) ** 2 * spread / size
    width = Z95 * math.sqrt(variance + MODEL_ERROR**2)
    sampling = Z95 * math.sqrt(variance)
    low, high = min(estimated - width, lowest - sampling), max(estimated + width, highest + sampling)
    return Estimate(estimated, max(low, 0.0), min(high, 1.0), held)


def _above(share: npt.NDArray[np.float64], usual: npt.NDArray[np.float64], accuracy: float) -> float:
    """ATC on bins [bins]: the share above the confidence that a share ``accuracy`` of the reference lies above."""
    left, total = accuracy, 0.0
    for now, before in zip(share[::-1], usual[::-1], strict=True):
        part = min(left / before, 1.0) if before > 0 else float(left > 0)
        total += part * float(now)
        left -= part * float(before)
        if left <= 1e-12:
            break
    return total


def refuted(estimate: Estimate | None, labelled: int, correct: int) -> bool:
    """Do labels show that accuracy is better than estimated? Exact binomial, one-sided, at ``REFUTED``: after a
    retraining, confidence on the shifted inputs may stay low while the answers are right."""
    if estimate is None or not labelled:
        return False
    return float(stats.binom.sf(correct - 1, labelled, estimate.accuracy)) < REFUTED


def label_p_value(labelled: int, correct: int, accuracy: float, tolerance: float) -> float:
    """Chance of so few correct if the true accuracy were ``accuracy - tolerance``: binomial, one-sided, exact."""
    return max(float(stats.binom.cdf(correct, labelled, max(accuracy - tolerance, 0.0))), 1e-300)
