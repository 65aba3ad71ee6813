"""Confidence: do the model's confidences fall elsewhere? Kolmogorov-Smirnov on the binned cumulative distribution.

The statistic is n_e * D^2 (D: the largest gap between two cumulative distributions over the bins), whose tail is
exponential. Its null comes from the same block draws as the embedding's: binning makes the textbook null too wide.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def statistics(
    counts: npt.NDArray[np.integer], reference: npt.NDArray[np.integer], n_e: float
) -> npt.NDArray[np.float64]:
    """n_e * D^2 of each row of ``counts`` [k, bins] against ``reference`` [bins]: [k]."""
    shares = counts.cumsum(axis=1) / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    gaps = np.abs(shares - reference.cumsum() / max(int(reference.sum()), 1)).max(axis=1)
    result: npt.NDArray[np.float64] = n_e * gaps**2
    return result
