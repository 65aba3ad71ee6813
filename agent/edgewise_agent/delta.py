"""Makes a blob from another one and a delta, in bounded memory. Pure but for the two files that it reads.

A delta is a BSDIFF40 file (C. Percival, "Naive differences of executable code", 2003): 32 bytes of header, then three
bzip2 streams: controls (``add``, ``copy``, ``seek``), the bytes to add to the base's, and bytes to copy.

Rules that hold here:
- what comes out is exactly as long as the signed manifest says, or the delta is refused; memory is three bzip2 windows
  (about 12 MB) and two blocks, whatever the delta claims;
- every control makes something: a delta cannot keep the device busy for nothing;
- nothing is trusted because it applied: the caller checks the whole by its sha256;
- no numpy: the supervisor stays light. Bytes are added 64 KiB at a time, as one Python integer.
"""

from __future__ import annotations

import bz2
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgewise.errors import EdgewiseError

MAGIC = b"BSDIFF40"
_HEADER = 32
_PIECE = 64 * 1024


class BadDelta(EdgewiseError):
    """A delta that is damaged, or is not from this base to a blob of the promised size."""

    code = "bad-delta"


def patched(base: Path, delta: Path, size: int, block_size: int) -> Iterator[bytes]:
    """The blob of ``size`` bytes that ``delta`` makes from ``base``, in blocks (the last one may be shorter).

    Raises BadDelta, and OSError where a file cannot be read.
    """
    with base.open("rb") as old, delta.open("rb") as file:
        block = bytearray()
        for piece in _pieces(old, file, base.stat().st_size, delta.stat().st_size, size):
            block += piece
            while len(block) >= block_size:
                yield bytes(block[:block_size])
                del block[:block_size]
        if block:
            yield bytes(block)


def _pieces(old: BinaryIO, file: BinaryIO, old_size: int, delta_size: int, size: int) -> Iterator[bytes]:
    header = file.read(_HEADER)
    if len(header) != _HEADER or header[:8] != MAGIC:
        raise BadDelta(f"delta: expected a {MAGIC.decode()} file, got {header[:8]!r}")
    controls_size, adds_size, makes = (_integer(header[at : at + 8]) for at in (8, 16, 24))
    if makes != size:
        raise BadDelta(f"delta: expected one that makes {size} bytes, got {makes}")
    copies_at = _HEADER + controls_size + adds_size
    if min(controls_size, adds_size) < 0 or copies_at > delta_size:
        raise BadDelta(f"delta: its parts are longer than its {delta_size} bytes")
    controls = _Stream(file, _HEADER, controls_size)
    adds = _Stream(file, _HEADER + controls_size, adds_size)
    copies = _Stream(file, copies_at, delta_size - copies_at)
    made = at = 0
    while made < size:
        add, copy, seek = (_integer(controls.read(8)) for _ in range(3))
        if min(add, copy) < 0 or add + copy == 0 or made + add + copy > size:
            raise BadDelta(f"delta: a control of {add} and {copy} bytes at {made} of {size}")
        if add and not 0 <= at <= old_size - add:
            raise BadDelta(f"delta: bytes {at} to {at + add} of a base of {old_size}: it is from another base")
        old.seek(at)
        for length in _split(add):
            yield added(old.read(length), adds.read(length))
        for length in _split(copy):
            yield copies.read(length)
        made, at = made + add + copy, at + add + seek


def added(first: bytes, second: bytes) -> bytes:
    """Byte by byte, first + second modulo 256; raises BadDelta where the lengths differ.

    All bytes at once: the low seven bits of each are summed, which cannot carry into the next byte, and the high bits
    are added without carry (Warren, Hacker's Delight, 2-18).
    """
    length = len(first)
    if length != len(second):
        raise BadDelta(f"delta: expected {len(second)} bytes of the base, got {length}")
    if second.count(0) == length:
        return first
    low = int.from_bytes(b"\x7f" * length, "little")
    x, y = int.from_bytes(first, "little"), int.from_bytes(second, "little")
    high = low + int.from_bytes(b"\x01" * length, "little")
    return (((x & low) + (y & low)) ^ ((x ^ y) & high)).to_bytes(length, "little")


class _Stream:
    """One bzip2 stream within the delta, read as it is needed."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._at, self._left = file, start, length
        self._decompressor = bz2.BZ2Decompressor()

    def read(self, length: int) -> bytes:
        """Exactly ``length`` bytes. Raises BadDelta."""
        got = bytearray()
        while len(got) < length:
            if self._decompressor.eof:
                raise BadDelta(f"delta: a part ends early, {length - len(got)} bytes are missing")
            compressed = self._fill() if self._decompressor.needs_input else b""
            try:
                got += self._decompressor.decompress(compressed, max_length=length - len(got))
            except (OSError, ValueError) as error:
                raise BadDelta(f"delta: {error}") from error
        return bytes(got)

    def _fill(self) -> bytes:
        self._file.seek(self._at)
        compressed = self._file.read(min(_PIECE, self._left))
        if not compressed:
            raise BadDelta("delta: a part is cut short")
        self._at, self._left = self._at + len(compressed), self._left - len(compressed)
        return compressed


def _split(length: int) -> Iterator[int]:
    for begin in range(0, length, _PIECE):
        yield min(_PIECE, length - begin)


def _integer(data: bytes) -> int:
    """bsdiff's integer: 63 bits little-endian, and a sign bit."""
    value = int.from_bytes(data, "little")
    return -(value & ~(1 << 63)) if value >> 63 else value
