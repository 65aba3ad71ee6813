"""Numbers on a grid: symmetric integers and a float scale per channel or block. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SHRINK = np.linspace(0.6, 1.0, 21)
"""Which parts of the largest magnitude are tried as the grid's edge where bits are few."""


def to_grid(
    weight: npt.NDArray[np.float32], within: tuple[int, ...], bits: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """(codes int8 in the weight's shape, scales of length one along the axes ``within``): codes times scales ~ weight.

    With 8 bits the edge is the largest magnitude. With fewer it is the part of it with the least squared error.
    """
    top = 2 ** (bits - 1) - 1
    exact = weight.astype(np.float64)
    largest = np.abs(exact).max(axis=within, keepdims=True)
    largest[largest == 0] = 1.0
    scales = np.maximum(largest / top, np.finfo(np.float32).tiny)
    if bits < 8:
        edge, least = scales, np.full(scales.shape, np.inf)
        for part in SHRINK:
            tried = edge * part
            errors = ((np.clip(np.round(exact / tried), -top, top) * tried - exact) ** 2).sum(
                axis=within, keepdims=True
            )
            scales = np.where(errors < least, tried, scales)
            least = np.minimum(least, errors)
    stored = scales.astype(np.float32)
    return np.clip(np.round(exact / stored), -top, top).astype(np.int8), stored
