"""Deltas made by hand: BSDIFF40 files from their three parts."""

from __future__ import annotations

import bz2
import struct

from edgewise_agent.delta import MAGIC


def delta_of(controls: list[tuple[int, int, int]], adds: bytes, copies: bytes, size: int) -> bytes:
    """A delta by hand. Integers are signed by their highest bit."""
    numbers = [value if value >= 0 else -value | 1 << 63 for control in controls for value in control]
    parts = [bz2.compress(data) for data in (struct.pack(f"<{len(numbers)}Q", *numbers), adds, copies)]
    return MAGIC + struct.pack("<qqq", len(parts[0]), len(parts[1]), size) + b"".join(parts)


def in_place(base: bytes, target: bytes) -> bytes:
    """A delta between two files of one size: the bytes subtracted."""
    adds = bytes((new - old) % 256 for old, new in zip(base, target, strict=True))
    return delta_of([(len(target), 0, 0)], adds, b"", len(target))
