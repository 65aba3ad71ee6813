"""What a bundle's sketches are: fixed by the compiler, carried as a blob, named in each window by its digest."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from edgewise.errors import SketchError
from edgewise.wire.codec import Digest, Message, Name, Text

SCALE = 256
"""Fixed point of the features: z lies within +-sqrt(2/D); rounding to 1/256 adds 0.03% to its variance at D=256."""
MAX_FEATURES = 128
"""Of a tabular model: more columns are an input like any other, and have no sketch of their own."""

Edges = Annotated[list[float], msgspec.Meta(max_length=63)]


class EmbeddingSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Random Fourier features of an RBF kernel, distance to the reference, Voronoi cells: see ``embedding``.

    ``dimension``: d of the embedding; ``features``: D, even; ``sigma``: bandwidth by the median heuristic;
    ``cells``: centres; ``axes``: rows of G; ``precision``: 1 / variance off those axes; ``distance_edges``: inner edges
    of the bins of squared distance, ascending (none: no such histogram); ``expected``: fixed-point features of an
    average item of the reference [D] (none: zeros), so that what is encoded grows with the square root of n.

    ``projection``: digest of the blob, float32 little-endian, shape [rows, d]: W [D/2], centres [cells], G [axes], and,
    where there are distance edges, the mean [1]. It is never drawn anew.
    """

    dimension: Annotated[int, msgspec.Meta(ge=1, le=65536)]
    features: Annotated[int, msgspec.Meta(ge=2, le=4096, multiple_of=2)]
    sigma: Annotated[float, msgspec.Meta(gt=0)]
    seed: int
    scale: Annotated[int, msgspec.Meta(ge=1, le=65536)] = SCALE
    cells: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    axes: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    precision: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    distance_edges: Edges = []
    expected: Annotated[list[int], msgspec.Meta(max_length=4096)] = []
    projection: Digest

    def __post_init__(self) -> None:
        _ascending("distance_edges", self.distance_edges)
        if self.axes and not self.distance_edges:
            raise ValueError("axes: expected distance_edges beside them")
        if self.expected and (len(self.expected) != self.features or max(map(abs, self.expected)) > self.scale):
            raise ValueError(f"expected: {self.features} numbers within +-{self.scale}")

    @property
    def rows(self) -> int:
        """Of the projection blob."""
        return self.features // 2 + self.cells + self.axes + bool(self.distance_edges)


class FeatureSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a tabular input: ``column`` of the item's values in ``input``. ``edges``: inner edges of its bins,
    ascending (quantiles of the reference); beyond ``low`` and ``high`` lies no value of the reference."""

    name: Text
    input: Name
    column: Annotated[int, msgspec.Meta(ge=0, lt=65536)] = 0
    edges: Edges
    low: float
    high: float

    def __post_init__(self) -> None:
        _ascending(f"feature {self.name!r}: edges", self.edges)


class CategorySpec(msgspec.Struct, frozen=True, kw_only=True):
    """One category of a tabular input. ``values``: all that the reference has, ascending."""

    name: Text
    input: Name
    column: Annotated[int, msgspec.Meta(ge=0, lt=65536)] = 0
    values: Annotated[list[float], msgspec.Meta(min_length=1, max_length=64)]

    def __post_init__(self) -> None:
        _ascending(f"category {self.name!r}: values", self.values)


class SketchSpec(Message, frozen=True, kw_only=True):
    """All sketches of one bundle; a part that the model has no output for is None or empty.

    ``classes``: number of classes; ``confidence_edges``: inner edges of the confidence bins, ascending
    (quantiles of the reference); ``features`` and ``categories``: the columns of a tabular model.
    """

    bound: ClassVar[int] = 128 * 1024
    embedding: EmbeddingSpec | None = None
    classes: Annotated[int, msgspec.Meta(ge=2, le=1000)] | None = None
    confidence_edges: Edges = []
    features: Annotated[list[FeatureSpec], msgspec.Meta(max_length=MAX_FEATURES)] = []
    categories: Annotated[list[CategorySpec], msgspec.Meta(max_length=MAX_FEATURES)] = []

    def __post_init__(self) -> None:
        _ascending("confidence_edges", self.confidence_edges)


def projection_matrix(spec: EmbeddingSpec, data: bytes) -> npt.NDArray[np.float32]:
    """The projection blob's bytes as an array [spec.rows, d]. Raises SketchError on a wrong size, or values that are
    not finite."""
    expected = spec.rows * spec.dimension * 4
    if len(data) != expected:
        raise SketchError(f"projection: expected {expected} bytes, got {len(data)}")
    matrix = np.frombuffer(data, dtype="<f4").reshape(spec.rows, spec.dimension).astype(np.float32)
    if not np.isfinite(matrix).all():
        raise SketchError("projection: expected finite values")
    return matrix


def _ascending(what: str, values: list[float]) -> None:
    if not all(map(math.isfinite, values)) or any(a >= b for a, b in itertools.pairwise(values)):
        raise ValueError(f"{what}: expected ascending numbers")
