"""How long a stream remembers: items that follow each other on one device know less than as many drawn one by one.

- ``block_length``: how long blocks must be for a block bootstrap (Politis and White, 2004; corrected by Patton, Politis
  and White, 2009);
- ``Memory``: how much more the mean of a run of n items varies than that of n / b blocks of b items each, V(n) / V(b),
  with V(n) = c_0 + 2 sum_{k<n} (1 - k/n) c_k and the autocovariances c_k tapered by the flat-top window of Politis and
  Romano (1995). Blocks alone always give too small a variance, since they forget at their ends; longer ones give too
  few draws to see a tail by. So blocks stay short, and draws are inflated by this ratio.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Series = npt.NDArray[np.floating]
Vector = npt.NDArray[np.float64]

SHORTEST = 80
"""Items below which no memory is looked for."""
COLUMNS = 32
"""Columns transformed at a time: bounds the working memory."""


class Memory:
    """The autocovariances of some columns, summed: a run's variance in their joint scale."""

    def __init__(self, columns: Series) -> None:
        """``columns`` [m, k], in order of time, scaled as the statistic weighs them."""
        self._tapered, _ = _covariances(columns)

    def inflation(self, run: float, block: int) -> float:
        """V(run) / V(block), at least 1: 1 where blocks are as long as the run."""
        return 1.0 if run <= block else max(1.0, self._variance(run) / max(self._variance(block), 1e-300))

    @property
    def time(self) -> float:
        """Items that know as much about a mean as one drawn alone: V / c_0, at least 1 (Kass et al., 1998)."""
        return max(1.0, self._variance(math.inf) / max(float(self._tapered[0]), 1e-300))

    def _variance(self, n: float) -> float:
        lags = np.arange(1, len(self._tapered) if math.isinf(n) else min(len(self._tapered), math.ceil(n)))
        total = float(self._tapered[0]) + 2 * float(((1 - lags / n) * self._tapered[lags]).sum())
        return max(total, 0.1 * float(self._tapered[0]))


def block_length(series: Series) -> int:
    """The automatic block length for a series [m]: 1 when no autocorrelation is seen, at most m / 40."""
    m = len(series)
    tapered, lag = _covariances(series[:, None])
    if lag == 0:
        return 1
    lags = np.arange(1, len(tapered))
    long_run = tapered[0] + 2 * tapered[1:].sum()
    slope = 2 * (lags * tapered[1:]).sum()
    if long_run <= 0:
        return max(1, min(2 * lag, m // 40))
    best = float(np.cbrt(2 * slope**2 / (4 / 3 * long_run**2) * m))
    return max(1, min(math.ceil(best), m // 40))


def _covariances(columns: Series) -> tuple[Vector, int]:
    """Tapered autocovariances summed over columns [lags + 1], and the lag beyond which none is seen (0: no memory)."""
    m = len(columns)
    patience = max(5, math.ceil(math.sqrt(math.log10(max(m, 2)))))
    furthest = math.ceil(math.sqrt(m)) + patience
    covariances = np.zeros(furthest + 1)
    size = 1 << (2 * m - 1).bit_length()
    for start in range(0, columns.shape[1], COLUMNS):
        part = columns[:, start : start + COLUMNS]
        spectrum = np.abs(np.fft.rfft(part - part.mean(axis=0), size, axis=0)) ** 2
        covariances += np.fft.irfft(spectrum.sum(axis=1), size)[: furthest + 1] / m
    if m < SHORTEST or covariances[0] <= 0:
        return covariances[:1], 0
    small = np.abs(covariances[1:] / covariances[0]) < 2 * math.sqrt(math.log10(m) / m)
    lag = next((k for k in range(furthest - patience + 1) if small[k : k + patience].all()), furthest)
    lags = np.arange(0, min(2 * lag, furthest) + 1)
    taper = np.clip(2 * (1 - lags / max(2 * lag, 1)), 0, 1) if lag else np.ones(1)
    tapered: Vector = taper * covariances[lags]
    if lag:  # the mean is the series' own: each autocovariance is too small by the variance of a mean of m items
        weight = float(2 * taper.sum() - 1) / m
        tapered += taper * (2 * float(tapered.sum()) - float(tapered[0])) / (m * max(1 - weight, 0.5))
    return tapered, lag
