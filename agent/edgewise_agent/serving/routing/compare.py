"""How far two installs' outputs for the same inputs lie apart. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewise.wire.experiment import DISTANCE_BINS

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Comparison:
    """``agreed``: items whose best class is the same, of ``items``. ``max_abs``: the largest difference of a number;
    ``relative``: ||a - b|| / ||a|| over all of them (L2; infinite where only a is zero)."""

    items: int
    agreed: int
    max_abs: float
    relative: float


def compare(answered: Array, other: Array) -> Comparison | None:
    """Outputs [items, classes] of the answer and of the other; None where they cannot be compared: another shape, no
    number, or a value that is not finite."""
    if answered.shape != other.shape or answered.ndim != 2 or answered.size == 0:
        return None
    a, b = answered.astype(np.float64), other.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    apart, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(a))
    relative = apart / size if size else (0.0 if apart == 0 else math.inf)
    agreed = int((a.argmax(axis=1) == b.argmax(axis=1)).sum())
    return Comparison(len(a), agreed, float(np.abs(a - b).max()), relative)


def distance_bin(relative: float) -> int:
    """The bin of a relative distance: 0 below 2**-24, then one an octave, the last for all above."""
    if relative < 2.0**-24:
        return 0
    if not math.isfinite(relative):
        return DISTANCE_BINS - 1
    return min(DISTANCE_BINS - 1, 25 + math.frexp(relative)[1] - 1)
