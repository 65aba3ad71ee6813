"""Classes: is the mix of predicted classes another? Two-sample chi-squared on counts.

Where an expected count is below 5 the chi-squared distribution does not hold; the p-value then is Fisher's exact test
by Monte Carlo (tables of the same margins), and no smaller than 1 / (DRAWS + 1). Where a stream repeats itself, counts
vary more than a multinomial's: both statistic and n are divided by the design effect of the reference's blocks
(Rao and Scott, 1981, first order).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

Counts = npt.NDArray[np.int64]
DRAWS = 10_000


def test(a: Counts, b: Counts, rng: np.random.Generator, design_effect: float = 1.0) -> tuple[float, float]:
    """(statistic, p-value) of two count vectors [K]; classes that neither has seen are left out.

    ``design_effect`` >= 1: variance of counts over that of independent draws.
    """
    seen = (a + b) > 0
    a, b = _thin(a[seen], design_effect), _thin(b[seen], design_effect)
    if len(a) < 2 or not a.sum() or not b.sum():
        return 0.0, 1.0
    seen = (a + b) > 0  # thinning may have emptied a class
    a, b = a[seen], b[seen]
    if len(a) < 2:
        return 0.0, 1.0
    statistic = float(_chi_squared(a[None, :], a + b)[0])
    if not is_sparse(a, b):
        return statistic, max(float(stats.chi2.sf(statistic, len(a) - 1)), 1e-300)
    tables = rng.multivariate_hypergeometric(a + b, int(a.sum()), size=DRAWS, method="marginals")
    reached = int((_chi_squared(tables, a + b) >= statistic * (1 - 1e-12)).sum())
    return statistic, (1 + reached) / (1 + DRAWS)


def is_sparse(a: Counts, b: Counts) -> bool:
    """Whether an expected count is below 5, of a class that either has seen."""
    pooled = (a + b)[(a + b) > 0]
    return bool(min(int(a.sum()), int(b.sum())) * float(pooled.min(initial=2**62)) < 5 * float(pooled.sum()))


def statistics(tables: Counts, reference: Counts) -> npt.NDArray[np.float64]:
    """Pearson's statistic of each row of ``tables`` [k, K] and the reference's counts [K]: [k]. Classes that neither
    has are left out."""
    pooled = tables + reference
    n, m = tables.sum(axis=1, keepdims=True), reference.sum()
    expected = n * pooled / (n + m)
    gaps = np.divide((tables - expected) ** 2, pooled, out=np.zeros(pooled.shape), where=pooled > 0)
    result: npt.NDArray[np.float64] = (gaps.sum(axis=1, keepdims=True) * (n + m) ** 2 / np.maximum(n * m, 1)).ravel()
    return result


def design_effect(classes: npt.NDArray[np.integer], block: int) -> float:
    """How much more class counts of a reference vary from block to block than independent draws would: at least 1.

    ``classes`` int [m] in order of time. Weighted over classes as by Rao and Scott.
    """
    blocks = len(classes) // block
    if block < 2 or blocks < 2:
        return 1.0
    kinds, indices = np.unique(classes[: blocks * block], return_inverse=True)
    if len(kinds) < 2:
        return 1.0
    counts = np.zeros((blocks, len(kinds)))
    np.add.at(counts, (np.repeat(np.arange(blocks), block), indices.ravel()), 1)
    share = counts.sum(axis=0) / (blocks * block)
    ratios = counts.var(axis=0, ddof=1) / (block * share * (1 - share))
    return max(1.0, float(((1 - share) * ratios).sum() / (len(kinds) - 1)))


def _thin(counts: Counts, factor: float) -> Counts:
    return counts if factor <= 1 else np.rint(counts / factor).astype(np.int64)


def _chi_squared(tables: Counts, pooled: Counts) -> npt.NDArray[np.float64]:
    """Pearson's statistic of 2 x K tables with fixed margins: ``tables`` [k, K] are their first rows."""
    n, both = tables.sum(axis=1), pooled.sum()
    expected = n[:, None] * pooled / both
    # The second row's deviations are the first's, with its own expected counts.
    other = (both - n)[:, None] * pooled / both
    squared = (tables - expected) ** 2
    result: npt.NDArray[np.float64] = (squared / expected + squared / other).sum(axis=1)
    return result
