"""A vector of integers as bytes: zigzag, then LEB128 (seven bits a byte, the lowest first), and runs of zeros counted.

A zero is followed by how many more zeros come right after it, so that a histogram that is mostly empty is short. There
is one encoding of each vector: a longer one (an integer with idle bytes, a run cut in two) is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from edgewise.errors import SketchError

Vector = npt.NDArray[np.int64]

LIMIT = 2**53 - 1
"""No integer is larger: a double holds each exactly, and so do other languages."""
_MAX_BYTES = 8


def encode(values: Iterable[int]) -> bytes:
    """Encode signed integers within +-LIMIT: one byte for those from -64 to 63."""
    out = bytearray()
    zeros = 0
    for value in values:
        if not value:
            zeros += 1
            continue
        if zeros:
            _append(out, 0)
            _append(out, zeros - 1)
            zeros = 0
        _append(out, value << 1 if value > 0 else (-value << 1) - 1)
    if zeros:
        _append(out, 0)
        _append(out, zeros - 1)
    return bytes(out)


def _append(out: bytearray, rest: int) -> None:
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)


def decode(data: bytes, count: int) -> Vector:
    """Decode exactly ``count`` integers. Raises SketchError on fewer, more, one over LIMIT, or another encoding."""
    tokens = _tokens(data, count)
    values = np.empty(count, dtype=np.int64)
    filled = at = 0
    for zero in np.flatnonzero(tokens == 0).tolist():
        if zero < at:
            continue  # it is a run's length
        run = int(tokens[zero + 1]) + 1 if zero + 1 < len(tokens) else 0
        end = filled + zero - at + run
        if not run or end > count or (zero + 2 < len(tokens) and not tokens[zero + 2]):
            raise SketchError(f"sketch: expected {count} integers, got a run of zeros that is cut or too long")
        values[filled : end - run] = _signed(tokens[at:zero])
        values[end - run : end] = 0
        filled, at = end, zero + 2
    if filled + len(tokens) - at != count:
        raise SketchError(f"sketch: expected {count} integers, got {filled + len(tokens) - at}")
    values[filled:] = _signed(tokens[at:])
    return values


def _tokens(data: bytes, count: int) -> Vector:
    """The unsigned integers of ``data``."""
    raw = np.frombuffer(data, dtype=np.uint8)
    if len(raw) > _MAX_BYTES * count or (len(raw) and raw[-1] > 0x7F):
        raise SketchError(f"sketch: expected {count} integers, got {len(raw)} bytes or a cut-off one")
    ends = np.flatnonzero(raw <= 0x7F)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(ends)]
    sizes = ends - starts + 1
    if len(ends) and int(sizes.max()) > _MAX_BYTES:
        raise SketchError(f"sketch: an integer of more than {_MAX_BYTES} bytes")
    if ((sizes > 1) & (raw[ends] == 0)).any():
        raise SketchError("sketch: an integer with idle bytes")
    shifts = 7 * (np.arange(len(raw)) - np.repeat(starts, sizes))
    parts = (raw & 0x7F).astype(np.int64) << shifts
    return np.add.reduceat(parts, starts) if len(ends) else np.zeros(0, dtype=np.int64)


def _signed(tokens: Vector) -> Vector:
    values = (tokens >> 1) ^ -(tokens & 1)
    if len(values) and max(int(values.max()), -int(values.min())) > LIMIT:
        raise SketchError(f"sketch: expected integers within +-{LIMIT}")
    return values
