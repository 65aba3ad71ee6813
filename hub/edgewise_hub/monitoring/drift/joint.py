"""One decision from several tests at the stated level: single-step minP of Westfall and Young (1993, algorithm 2.5).

The tests of one window lean on each other, so that k times the smallest p-value is too careful. Windows drawn where
nothing drifted are put through all tests at once, and the smallest p-value of each draw says how small the smallest
must be. Where fewer than ``ENOUGH`` draws are as small, draws cannot tell, and Bonferroni's k holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from edgewise_hub.monitoring.drift.null import SMALLEST

ENOUGH = 40

PValues = npt.NDArray[np.float64]


class Joint:
    """The smallest of k p-values where nothing drifted."""

    def __init__(self, tests: Sequence[PValues]) -> None:
        """``tests``: each test's p-values [B] over the same draws. Raises ValueError for none."""
        if not tests:
            raise ValueError("joint: expected the draws of at least one test, got none")
        self._minima = np.sort(np.min(tests, axis=0))
        self._k = len(tests)

    def p_value(self, smallest: float) -> float:
        """Of the smallest of the k p-values seen."""
        reached = int(np.searchsorted(self._minima, smallest, side="right"))
        draws = len(self._minima) + 1
        if reached >= ENOUGH:
            return (1 + reached) / draws
        return min(self._k * smallest, (1 + ENOUGH) / draws)

    def limit(self, alpha: float) -> float:
        """The p-value below which one test alarms, so that all together do with chance ``alpha``."""
        place = int(alpha * (len(self._minima) + 1)) - 1
        return alpha / self._k if place <= ENOUGH else max(float(self._minima[place]), alpha / self._k)


def fisher(parts: Sequence[PValues]) -> PValues:
    """Fisher's method over independent bundles, draw by draw: each [B] -> [B]."""
    statistic = -2.0 * sum(np.log(np.maximum(part, SMALLEST)) for part in parts)
    found: PValues = np.maximum(stats.chi2.sf(statistic, 2 * len(parts)), SMALLEST)
    return found
