"""The difference of two files as a BSDIFF40 delta (C. Percival, "Naive differences of executable code", 2003). Pure.

Two compiles of one graph have one layout, so bytes are first subtracted in place, which for int8 fine-tunes beats
general tools (``docs/benchmarks/transfer.md``); where layouts differ, ``align`` finds what moved.
"""

from __future__ import annotations

import bz2
import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

ANCHOR = 32
"""Bytes that must be equal for a place of the base to count as where a place of the target came from."""
MIN_RUN = 8
"""Anchors in a row that make a move worth following."""
GOOD_SHARE = 0.35
"""Of the target's size; where subtracting in place leaves more, it is tried with what moved."""

Bytes = npt.NDArray[np.uint8]


class Piece(NamedTuple):
    """``length`` bytes of the target from ``start`` on lie ``shift`` bytes further on in the base (None: nowhere)."""

    start: int
    length: int
    shift: int | None


def diff(old: bytes, new: bytes) -> bytes:
    """A BSDIFF40 delta from ``old`` to ``new``: in place where the sizes agree, and aligned where that is no good."""
    base, target = np.frombuffer(old, np.uint8), np.frombuffer(new, np.uint8)
    candidates = []
    if len(old) == len(new):
        candidates.append(_encode(base, target, [Piece(0, len(new), 0)]))
    if not candidates or len(candidates[0]) > GOOD_SHARE * len(new):
        candidates.append(_encode(base, target, align(base, target)))
    return min(candidates, key=len)


def align(base: Bytes, target: Bytes) -> list[Piece]:
    """Where each part of the target came from: runs of equal ANCHOR bytes at one shift, each extended to the next run.

    Bytes between two runs are taken at the shift of the first: there the weights changed, not their place.
    """
    starts, shifts = _anchors(base, target)
    runs: list[tuple[int, int]] = []  # (start in the target, shift)
    if len(starts):
        cuts = np.flatnonzero(np.diff(shifts)) + 1
        for begin, end in zip([0, *cuts], [*cuts, len(starts)], strict=True):
            if end - begin >= MIN_RUN and (not runs or runs[-1][1] != shifts[begin]):
                runs.append((int(starts[begin]), int(shifts[begin])))
    if not runs:
        return [Piece(0, len(target), None)]
    first = runs[0][1]
    runs[0] = (max(1, -first) if first else 0, first)  # the format begins both files at once, or with a copy
    pieces = [Piece(0, runs[0][0], None)] if runs[0][0] else []
    for (start, shift), (end, _) in zip(runs, [*runs[1:], (len(target), 0)], strict=True):
        inside = min(end, max(start, len(base) - shift))
        pieces.append(Piece(start, inside - start, shift))
        if inside < end:
            pieces.append(Piece(inside, end - inside, None))
    return [piece for piece in pieces if piece.length]


def _anchors(base: Bytes, target: Bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(places in the target, ascending; how much further on in the base the same ANCHOR bytes are)."""
    count = len(base) // ANCHOR
    if not count or len(target) < ANCHOR:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    hashes = _hashes(base[: count * ANCHOR])
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    once = np.ones(count, bool)  # what the base has more than once says nothing of where it came from
    same = ordered[1:] == ordered[:-1]
    once[1:] &= ~same
    once[:-1] &= ~same
    ordered, order = ordered[once], order[once]
    starts, shifts = [], []
    for offset in range(ANCHOR):
        blocks = (len(target) - offset) // ANCHOR
        if not blocks or not len(ordered):
            break
        wanted = _hashes(target[offset : offset + blocks * ANCHOR])
        at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
        found = np.flatnonzero(ordered[at] == wanted)
        places = found * ANCHOR + offset
        starts.append(places)
        shifts.append(order[at[found]] * ANCHOR - places)
    if not starts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    start, shift = np.concatenate(starts), np.concatenate(shifts)
    ascending = np.argsort(start, kind="stable")
    return start[ascending], shift[ascending]


def _hashes(data: Bytes) -> npt.NDArray[np.uint64]:
    """One number for every ANCHOR bytes: multilinear hashing (Lemire and Kaser, 2014)."""
    words = np.ascontiguousarray(data).view("<u4").reshape(-1, ANCHOR // 4).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, size=ANCHOR // 4, dtype=np.uint64) | np.uint64(1)
    hashes: npt.NDArray[np.uint64] = (words * factors).sum(axis=1, dtype=np.uint64)
    return hashes


def _encode(base: Bytes, target: Bytes, pieces: list[Piece]) -> bytes:
    """The delta file. Its controls are (bytes added to the base's, bytes copied, how far to move on in the base)."""
    controls, adds, copies = [], [], []
    at = 0  # the reader's place in the base
    for piece in pieces:
        part = target[piece.start : piece.start + piece.length]
        if piece.shift is None:
            controls.append([0, piece.length, 0])
            copies.append(part.tobytes())
            continue
        place = piece.start + piece.shift
        if controls:
            controls[-1][2] = place - at
        adds.append((part - base[place : place + piece.length]).tobytes())
        controls.append([piece.length, 0, 0])
        at = place + piece.length
    packed = [
        bz2.compress(b"".join(_integer(value) for control in controls for value in control)),
        bz2.compress(b"".join(adds)),
        bz2.compress(b"".join(copies)),
    ]
    return b"BSDIFF40" + struct.pack("<qqq", len(packed[0]), len(packed[1]), len(target)) + b"".join(packed)


def _integer(value: int) -> bytes:
    """bsdiff's integer: 63 bits little-endian, and a sign bit."""
    return (value if value >= 0 else -value | 1 << 63).to_bytes(8, "little")
