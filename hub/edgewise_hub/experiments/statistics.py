"""Statistics that hold however often they are looked at ("peeking"). Pure.

- ``Capital``: bets against hypotheses "the mean is m" of values in [0, 1]; what a hypothesis loses is evidence against
  it. Waudby-Smith, Ramdas 2024, "Estimating means of bounded random variables by betting", theorem 3 (hedged capital)
  with the predictable plug-in bets of its section 4.2; by Ville's inequality the chance that the capital against the
  true mean ever reaches 1 / alpha is at most alpha. No intersection over time is taken, so that devices whose effects
  differ move the interval and never empty it.
- ``shares_evidence``: is a split what it was drawn to be? The mixture sequential test of multinomial counts (Lindon,
  Malek 2022, "Anytime-valid inference for multinomial count data"; the mixture SPRT of Robbins 1970).

A value must have the same mean whatever came before it: the unit is a block of one device (``observe``), never one
request, since the requests of a device are alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

GRID = 2001
"""Means that an interval is found among: it is known to 1/2000 of the range of values, and given wider by as much."""
TRUNCATION = 0.75
"""Of the largest bet that cannot lose everything (c in the paper)."""
SPLIT_PRIOR = 100.0
"""Counts that the mixture of splits is worth: it looks for deviations of about a tenth of a share of one half."""


class Capital(msgspec.Struct, kw_only=True):
    """What was won against each of ``means`` by betting above (``up``) and below it (``down``), as logarithms, and what
    the next bet depends on: the values so far. Grows by ``add`` alone."""

    means: list[float]
    alpha: float
    up: list[float]
    down: list[float]
    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    """Sum of (value - mean of the values up to it)**2."""

    @classmethod
    def against(cls, means: Sequence[float], alpha: float) -> Capital:
        """Nothing seen yet. ``alpha``: the bets are the best ones for an interval of this error."""
        return cls(means=list(means), alpha=alpha, up=[0.0] * len(means), down=[0.0] * len(means))

    @classmethod
    def grid(cls, alpha: float) -> Capital:
        """Against all of [0, 1]: for ``interval``."""
        return cls.against(np.linspace(0, 1, GRID).tolist(), alpha)

    @property
    def mean(self) -> float:
        """Of the values; 1/2 while there is none."""
        return self.total / self.n if self.n else 0.5

    def add(self, values: Sequence[float]) -> None:
        """More values in [0, 1], in the order in which they came. Raises ValueError for another one."""
        means = np.asarray(self.means)
        up, down = np.asarray(self.up), np.asarray(self.down)
        # a bet above m may stake up to 1/m, one below it up to 1/(1 - m)
        most_up = TRUNCATION / np.maximum(means, 1e-12)
        most_down = TRUNCATION / np.maximum(1 - means, 1e-12)
        for value in values:
            if not 0 <= value <= 1:
                raise ValueError(f"a value: expected one in [0, 1], got {value}")
            bet = self._bet()
            up = up + np.log1p(np.minimum(bet, most_up) * (value - means))
            down = down + np.log1p(-np.minimum(bet, most_down) * (value - means))
            self.n += 1
            self.total += value
            self.squares += (value - (0.5 + self.total) / (self.n + 1)) ** 2
        self.up, self.down = up.tolist(), down.tolist()

    def interval(self) -> tuple[float, float]:
        """The confidence sequence now: the means that lost less than all. (0, 1) while nothing is known."""
        left = np.nonzero(self._hedged() < math.log(1 / self.alpha))[0]
        if not len(left):
            return self.mean, self.mean
        step = 1 / (len(self.means) - 1)
        return max(0.0, self.means[left[0]] - step), min(1.0, self.means[left[-1]] + step)

    def evidence(self) -> float:
        """Log of the evidence against the first mean, on either side: reject at log(1 / alpha)."""
        return float(self._hedged()[0])

    def evidence_above(self) -> float:
        """Log of the evidence that the mean is larger than the first of ``means``: reject at log(1 / alpha)."""
        return self.up[0]

    def _hedged(self) -> Floats:
        found: Floats = np.maximum(np.asarray(self.up), np.asarray(self.down)) - math.log(2)
        return found

    def _bet(self) -> float:
        variance = (0.25 + self.squares) / (self.n + 1)
        t = self.n + 1
        return math.sqrt(2 * math.log(2 / self.alpha) / (variance * t * math.log(t + 1)))


def shares_evidence(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Log of the evidence that independent units were not split by ``shares`` (each in (0, 1), together 1)."""
    n = sum(counts)
    found = math.lgamma(SPLIT_PRIOR) - math.lgamma(SPLIT_PRIOR + n)
    for count, share in zip(counts, shares, strict=True):
        prior = SPLIT_PRIOR * share
        found += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return found
