"""What every sketch is: a vector of integers in named fields. One protocol: update, merge, encode, decode.

Rules that hold here:
- ``merge`` is vector addition, so the same bit for bit in any order and however a stream was split;
- a counter at ``LIMIT`` stays there, and ``saturated`` names it; nothing overflows;
- bytes begin with a tag of encoding, kind and spec: those of another spec are refused;
- decoding is bounded by the spec, and gives only what a device could have counted.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from edgewise.errors import SketchError
from edgewise.sketch import vector
from edgewise.sketch.vector import LIMIT, Vector

ENCODING = "edgewise-sketch-1"
TAG_BYTES = 2
MAX_COUNT = 2**40
"""Of anything in one encoded sketch: so many of them merge without coming near LIMIT."""
NOISE_SIGMAS = 40
"""Noise beyond so many standard deviations is damage."""

S = TypeVar("S", bound="Sketch")


@dataclass(frozen=True)
class Field:
    """``size`` integers. ``unit``: what one item adds at most, and so what noise is measured in; 0: never noised."""

    name: str
    size: int
    unit: int = 1


class Sketch:
    """``values`` int64 [size]: all fields, one after another. ``noise``: variance of the noise in each count (0 without
    ``privacy``); a field of unit u holds u^2 times as much."""

    def __init__(self, kind: str, fields: Sequence[Field], described: Sequence[float] = (), digest: str = "") -> None:
        """``described`` and ``digest``: what must be the same for two sketches of this kind to merge."""
        self.kind, self.fields = kind, tuple(fields)
        self.tag = _tag(kind, [*(field.size for field in fields), *described], digest)
        self.noise = 0
        self.values: Vector = np.zeros(sum(field.size for field in fields), dtype=np.int64)
        self._parts: dict[str, Vector] = {}
        start = 0
        for field in fields:
            self._parts[field.name] = self.values[start : start + field.size]
            start += field.size

    def part(self, name: str) -> Vector:
        """One field of ``values``: a view, not a copy."""
        return self._parts[name]

    @property
    def histograms(self) -> int:
        """In how many places one item is counted."""
        return 1

    @property
    def n(self) -> int:
        """How many items were counted."""
        raise NotImplementedError

    @property
    def empty(self) -> bool:
        """Was nothing counted?"""
        return not self.noise and not self.values.any()

    @property
    def saturated(self) -> tuple[str, ...]:
        """The fields with a counter at its limit, as ``kind.field``: they say "at least"."""
        return tuple(
            f"{self.kind}.{name}" for name, part in self._parts.items() if np.abs(part).max(initial=0) >= LIMIT
        )

    def merge(self, other: Sketch) -> None:
        """Add another sketch of the same kind and spec. Raises SketchError otherwise."""
        if other.kind != self.kind or other.tag != self.tag or len(other.values) != len(self.values):
            raise SketchError(
                f"{self.kind} sketch: expected one of the same spec, got a {other.kind} sketch of another"
            )
        self.values += other.values
        self.noise = min(self.noise + other.noise, LIMIT)
        self._limit()

    def encode(self) -> bytes:
        """The tag, then as one vector ``noise`` and ``values``, these less what their first one makes us expect."""
        return self.tag + vector.encode([self.noise, *(self.values - self._expected(self.values)).tolist()])

    @classmethod
    def decode(cls: type[S], data: bytes, *spec: Any) -> S:
        """A sketch of its bytes; ``spec``: what the constructor takes. Raises SketchError on damage or another spec."""
        sketch = cls(*spec)
        sketch.load(data)
        return sketch

    def load(self, data: bytes) -> None:
        """Take what an encoded sketch of the same spec holds. Raises SketchError as ``decode`` does."""
        if data[:TAG_BYTES] != self.tag:
            found = data[:TAG_BYTES].hex() or "nothing"
            raise SketchError(f"{self.kind} sketch: expected tag {self.tag.hex()}, got {found}: it is of another spec")
        values = vector.decode(data[TAG_BYTES:], len(self.values) + 1)
        if not 0 <= values[0] <= MAX_COUNT or np.abs(values).max() > MAX_COUNT:
            raise SketchError(f"{self.kind} sketch: expected at most {MAX_COUNT} of anything")
        self.noise = int(values[0])
        self.values[:] = values[1:] + self._expected(values[1:])
        self._check()

    def slack(self, unit: int = 1) -> float:
        """How far noise may take a value of a field of this unit, or the sum of so many counts."""
        return NOISE_SIGMAS * unit * math.sqrt(self.noise)

    def _expected(self, values: Vector) -> Vector | int:
        """What a sketch with this first value is likely to hold in its other ones: they are encoded as differences."""
        return 0

    def _check(self) -> None:
        """Is this what a device could have counted? Raises SketchError."""
        if self.values.min(initial=0) < -self.slack():
            raise SketchError(f"{self.kind} sketch: expected counts, got a negative one")

    def _limit(self) -> None:
        np.clip(self.values, -LIMIT, LIMIT, out=self.values)


def _tag(kind: str, described: Sequence[float], digest: str) -> bytes:
    """The first bytes of sha256 over ``ENCODING/kind/digest``, then each number as a little-endian double."""
    text = f"{ENCODING}/{kind}/{digest}".encode()
    return hashlib.sha256(text + struct.pack(f"<{len(described)}d", *described)).digest()[:TAG_BYTES]
