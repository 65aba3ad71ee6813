"""Champion against challenger: pure. The challenger has to win on the new slice and must not lose on the old one.

Rules that hold here:
- the new slice is held out by a hash of each sample's key, so that a sample is on the same side in every run;
- a win is a gain larger than its own standard error;
- on a slice of fewer than ``MIN_NEW`` items nothing is accepted, whatever the figures.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

MIN_NEW = 30
TRAIN_SHARE = 0.7
FOLDS = 20


@dataclass(frozen=True)
class Slice:
    """The metric (higher is better) of both on one slice of ``n`` items."""

    slice: Literal["old", "new"]
    n: int
    champion: float
    challenger: float

    @property
    def gain(self) -> float:
        """Challenger minus champion."""
        return self.challenger - self.champion


@dataclass(frozen=True)
class Verdict:
    """``reason`` is one sentence with the figures."""

    accepted: bool
    reason: str


def held_out(keys: Sequence[str]) -> npt.NDArray[np.bool_]:
    """For each sample's key, True when the sample is held out (about 1 - TRAIN_SHARE of them)."""
    draws = [int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64 for key in keys]
    return np.array(draws, dtype=np.float64) >= TRAIN_SHARE


def too_few(n: int) -> Verdict | None:
    """The verdict where the new slice can show nothing, else None."""
    if n >= MIN_NEW:
        return None
    return Verdict(False, f"not accepted: expected at least {MIN_NEW} new samples held out to compare on, got {n}")


def standard_error(gain: Callable[[npt.NDArray[np.intp]], float], n: int) -> float:
    """Standard error of a gain over n items, by the delete-a-group jackknife; holds for any metric of items.

    ``gain``: challenger minus champion over the items of these rows. Every FOLDS-th item is one group, so that each
    group has items of all devices. Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 11.
    """
    folds = min(FOLDS, n)
    rows = np.arange(n)
    without = np.array([gain(rows[rows % folds != fold]) for fold in range(folds)])
    return float(math.sqrt((folds - 1) / folds * np.sum((without - without.mean()) ** 2)))


def decide(old: Slice, new: Slice, error: float, *, metric: str, max_old_loss: float) -> Verdict:
    """Accept when the gain on ``new`` exceeds its standard ``error`` and ``old`` loses at most ``max_old_loss``."""
    few = too_few(new.n)
    if few is not None:
        return few
    on_new = (
        f"on {new.n} new samples {metric} goes from {new.champion:.3f} to {new.challenger:.3f} "
        f"({new.gain:+.3f}, standard error {error:.3f})"
    )
    on_old = f"on {old.n} old ones from {old.champion:.3f} to {old.challenger:.3f} ({old.gain:+.3f})"
    if not all(math.isfinite(value) for value in (old.gain, new.gain, error)):
        return Verdict(False, f"not accepted: a figure is not finite: {on_new}, {on_old}")
    if new.gain <= error:
        return Verdict(False, f"not accepted: {on_new}, which is no gain beyond chance; {on_old}")
    if -old.gain > max_old_loss:
        return Verdict(False, f"not accepted: {on_new}, but {on_old}, and at most {max_old_loss:.3f} may be lost")
    return Verdict(True, f"accepted: {on_new}; {on_old}")
