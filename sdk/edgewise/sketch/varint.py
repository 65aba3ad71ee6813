"""Lists of integers as bytes: zigzag, then LEB128, seven bits a byte."""

from __future__ import annotations

from collections.abc import Iterable

from edgewise.errors import SketchError

_MAX_BYTES = 9  # 63 bits: fits an int64 whatever comes.


def encode(values: Iterable[int]) -> bytes:
    """Encode signed integers below 2**62 in size; small ones take one byte."""
    out = bytearray()
    for value in values:
        rest = value << 1 if value >= 0 else (-value << 1) - 1
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def decode(data: bytes, count: int) -> list[int]:
    """Decode exactly ``count`` integers. Raises SketchError when there are fewer, more, or one is too long."""
    values: list[int] = []
    rest = shift = 0
    for byte in data:
        rest |= (byte & 0x7F) << shift
        shift += 7
        if byte & 0x80:
            if shift >= 7 * _MAX_BYTES:
                raise SketchError(f"sketch: an integer of more than {_MAX_BYTES} bytes")
            continue
        values.append(rest >> 1 if not rest & 1 else -((rest + 1) >> 1))
        if len(values) > count:
            break
        rest = shift = 0
    if len(values) != count or shift:
        raise SketchError(
            f"sketch: expected {count} integers, got {len(values)}{' and a cut-off one' if shift else ''}"
        )
    return values
