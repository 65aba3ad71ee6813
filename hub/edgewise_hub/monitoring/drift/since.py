"""Since when? The span at which a group's evidence began to differ: one change point by least squares (Bai, 1997).

The evidence of each span, as a normal score of its p-value, is split in two where that leaves the least squares; the
interval holds every split whose squares are not surely more (a likelihood ratio below chi-squared's 95% quantile with
one degree of freedom, the scores having variance 1 where nothing changed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

SLACK = 3.84
FARTHEST = 8.0
"""Normal scores beyond say no more."""


@dataclass(frozen=True)
class Since:
    """Places in the history, 0 the oldest: the first span after the change, and the earliest and latest it may be."""

    index: int
    earliest: int
    latest: int


def change_point(p_values: Sequence[float]) -> Since | None:
    """Where the p-values, oldest first, became small; None where two means are no better than one, or where the second
    is the higher p-value: what is over is no change to date."""
    if len(p_values) < 2:
        return None
    scores = np.clip(stats.norm.isf(np.clip(p_values, 1e-300, 1.0)), -FARTHEST, FARTHEST)
    splits = range(1, len(scores))
    squares = np.array([_squares(scores[:k]) + _squares(scores[k:]) for k in splits])
    best = int(squares.argmin())
    before, after = scores[: best + 1].mean(), scores[best + 1 :].mean()
    if _squares(scores) - squares[best] < SLACK + 2 * np.log(len(scores)) or after <= before:
        return None
    possible = np.flatnonzero(squares <= squares[best] + SLACK)
    return Since(best + 1, int(possible.min()) + 1, int(possible.max()) + 1)


def _squares(values: np.ndarray) -> float:
    return float(((values - values.mean()) ** 2).sum())
