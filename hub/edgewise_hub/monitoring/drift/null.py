"""The distribution of a statistic where nothing drifted, from simulated draws, and its tail beyond them.

Up to the 97.5% quantile a p-value is the share of draws at or above the statistic. Beyond, the tail is exponential with
the mean excess of the draws over that quantile (peaks over threshold, shape 0; Pickands, 1975). The statistics here
(quadratic forms of means, squared Kolmogorov-Smirnov distances) have log-concave tails, which fall at least as fast as
an exponential: the p-value is then, if anything, too large. A scaled chi-squared fitted by two moments (Satterthwaite)
errs the other way where one direction dominates, and would call 1e-5 what is 1e-4.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

TAIL = 0.025
SMALLEST = 1e-300
"""No p-value is smaller, so that its logarithm is finite."""


class Null:
    """Sorted draws of a statistic, large values being extreme."""

    def __init__(self, draws: npt.NDArray[np.floating]) -> None:
        """``draws`` [B], B >= 400. Raises ValueError on fewer: their tail says nothing."""
        if len(draws) < 400:
            raise ValueError(f"null: expected at least 400 draws, got {len(draws)}")
        self._draws = np.sort(draws.astype(np.float64))
        self._from = float(np.quantile(self._draws, 1 - TAIL))
        above = self._draws[self._draws > self._from]
        self._excess = max(float(np.mean(above - self._from)) if len(above) else 0.0, 1e-12)
        self.mean = float(self._draws.mean())
        self.deviation = float(self._draws.std())

    def quantile(self, share: float) -> float:
        """The value below which so large a share of the draws lies."""
        return float(np.quantile(self._draws, share))

    def p_value(self, statistic: float) -> float:
        """Chance of a statistic at least as large where nothing drifted, within (0, 1]."""
        return float(self.p_values(np.array([statistic]))[0])

    def p_values(self, statistics: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """The p-value of each statistic [k]."""
        beyond = np.clip((statistics - self._from) / self._excess, 0, -math.log(SMALLEST))
        reached = len(self._draws) - np.searchsorted(self._draws, statistics, side="left")
        within = np.maximum((1 + reached) / (1 + len(self._draws)), TAIL)
        found: npt.NDArray[np.float64] = np.where(
            statistics > self._from, np.maximum(TAIL * np.exp(-beyond), SMALLEST), within
        )
        return found
