"""Encoded sketches added without the sketch library: what a full spool does, in a process without numpy.

Every sketch is a tag of two bytes and a vector of integers; merging is the sum (``sketch.base``, ``sketch.vector``).
So two of one tag add up without their spec, which may have left the device with its bundle. A test holds this file
against the library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgewise.errors import SketchError

TAG_BYTES = 2
MAX_VALUE = 2**32
"""Beyond it two sketches are not added: far from where the library begins to saturate, so that both say the same."""
MAX_VALUES = 2**16


def add(a: Mapping[str, bytes], b: Mapping[str, bytes]) -> dict[str, bytes]:
    """Two windows' sketches as one's, by name; one that is missing counted nothing.

    Raises SketchError: sketches of different specs, damaged ones, or sums beyond MAX_VALUE.
    """
    return {
        name: add_encoded(a[name], b[name]) if name in a and name in b else a.get(name, b.get(name, b""))
        for name in sorted({*a, *b})
    }


def add_encoded(a: bytes, b: bytes) -> bytes:
    """Two encoded sketches as one. Raises SketchError as ``add`` does."""
    if a[:TAG_BYTES] != b[:TAG_BYTES]:
        raise SketchError(f"sketches: expected the same tag, got {a[:TAG_BYTES].hex()} and {b[:TAG_BYTES].hex()}")
    x, y = list(_decode(a[TAG_BYTES:])), list(_decode(b[TAG_BYTES:]))
    if len(x) != len(y):
        raise SketchError(f"sketches: expected as many values in both, got {len(x)} and {len(y)}")
    total = [i + j for i, j in zip(x, y, strict=True)]
    if max(map(abs, total), default=0) > MAX_VALUE:
        raise SketchError(f"sketches: a sum beyond {MAX_VALUE}")
    return a[:TAG_BYTES] + _encode(total)


def _decode(data: bytes) -> Iterator[int]:
    """The integers of a vector: zigzag LEB128, and after each 0 how many more zeros follow."""
    rest = shift = count = 0
    in_zeros = False
    for byte in data:
        rest |= (byte & 0x7F) << shift
        shift += 7
        if byte & 0x80:
            if shift > 56:
                raise SketchError("sketches: an integer that is too long")
            continue
        token, rest, shift = rest, 0, 0
        count += token + 1 if in_zeros else token != 0
        if count > MAX_VALUES:
            raise SketchError(f"sketches: more than {MAX_VALUES} values")
        if in_zeros:
            yield from (0 for _ in range(token + 1))
            in_zeros = False
        elif token:
            yield token >> 1 if not token & 1 else -((token + 1) >> 1)
        else:
            in_zeros = True
    if shift or in_zeros:
        raise SketchError("sketches: a cut-off vector")


def _encode(values: list[int]) -> bytes:
    out = bytearray()
    zeros = 0
    for value in [*values, None]:
        if value == 0:
            zeros += 1
            continue
        if zeros:
            out.append(0)
            _append(out, zeros - 1)
            zeros = 0
        if value is not None:
            _append(out, value << 1 if value > 0 else (-value << 1) - 1)
    return bytes(out)


def _append(out: bytearray, rest: int) -> None:
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
