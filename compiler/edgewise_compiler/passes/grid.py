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


def to_offset_grid(
    weight: npt.NDArray[np.float32], within: tuple[int, ...], bits: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """(codes, scales, offsets), the latter two of length one along ``within``: (codes - offsets) times scales ~ weight.

    A block's range holds zero. With few bits it is the part of it with the least squared error.
    """
    top = 2**bits - 1
    exact = weight.astype(np.float64)
    low = np.minimum(exact.min(axis=within, keepdims=True), 0.0)
    high = np.maximum(exact.max(axis=within, keepdims=True), 0.0)
    wide = np.where(high > low, high - low, 1.0)
    scales, offsets = np.zeros(low.shape), np.zeros(low.shape)
    least = np.full(low.shape, np.inf)
    for part in SHRINK if bits < 8 else SHRINK[-1:]:
        step = np.maximum(wide * part / top, np.finfo(np.float32).tiny).astype(np.float32).astype(np.float64)
        zero = np.clip(np.round(-low * part / step), 0, top)
        back = (np.clip(np.round(exact / step) + zero, 0, top) - zero) * step
        errors = ((back - exact) ** 2).sum(axis=within, keepdims=True)
        scales, offsets = np.where(errors < least, step, scales), np.where(errors < least, zero, offsets)
        least = np.minimum(least, errors)
    codes = np.clip(np.round(exact / scales) + offsets, 0, top)
    return codes.astype(np.uint8), scales.astype(np.float32), offsets.astype(np.uint8)
