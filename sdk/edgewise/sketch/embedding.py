"""EmbeddingSketch: where a window's embeddings lie, as sums of integers.

Of each item's embedding x [d], by the rows of the bundle's projection blob:
- random Fourier features z(x) = sqrt(2/D) [cos Wx, sin Wx] of an RBF kernel (Rahimi and Recht, 2007), in fixed point:
  their mean tells distributions apart, whatever d is (Gretton et al., 2012);
- its Mahalanobis distance to the reference under a probabilistic PCA (Tipping and Bishop, 1999), in reference-quantile
  bins: precision * |x - mean|^2 - |G (x - mean)|^2;
- its Voronoi cell: the nearest of the reference's centres, which says where something changed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgewise.errors import SketchError
from edgewise.sketch.base import Field, Sketch
from edgewise.sketch.spec import EmbeddingSpec
from edgewise.sketch.vector import LIMIT, Vector

Rows = npt.NDArray[np.float32]
_EXACT = 2**24
"""Integers up to here are exact in float32."""
_FEW, _ALONE = 256, 2**18
"""Of so few items, products so small that no BLAS wakes a second thread for them."""


class Projected(NamedTuple):
    """Of n items: ``features`` float32 [n, D], whole numbers; ``cells`` int [n]; ``distances`` float32 [n] (squared).
    ``cells`` and ``distances`` are empty where the spec has none."""

    features: Rows
    cells: npt.NDArray[np.intp]
    distances: Rows


class Projection:
    """A projection blob ready for use: one matrix product an item for all its rows."""

    def __init__(self, spec: EmbeddingSpec, matrix: Rows) -> None:
        """``matrix`` [spec.rows, d] as ``projection_matrix`` reads it. Raises SketchError on another shape."""
        if matrix.shape != (spec.rows, spec.dimension):
            raise SketchError(f"projection: expected shape [{spec.rows}, {spec.dimension}], got {list(matrix.shape)}")
        self.spec, half = spec, spec.features // 2
        centres, axes = matrix[half : half + spec.cells], matrix[half + spec.cells : half + spec.cells + spec.axes]
        self._mean = matrix[-1] if spec.distance_edges else np.zeros(spec.dimension, dtype=np.float32)
        self._rows = np.ascontiguousarray(matrix[: half + spec.cells + spec.axes].T)
        self._offsets = -0.5 * np.einsum("ij,ij->i", centres, centres)
        self._along_mean = axes @ self._mean
        self._amplitude = np.float32(spec.scale * math.sqrt(2.0 / spec.features))
        self.chunk = max(1, min(4096, int(_EXACT / (self._amplitude + 1))))
        """Items whose features add up exactly in float32."""

    def project(self, embeddings: npt.NDArray[np.floating]) -> Projected:
        """Of the rows of ``embeddings`` [n, d] that are finite, in order; the others are left out."""
        spec, half = self.spec, self.spec.features // 2
        x = embeddings.astype(np.float32, copy=False)
        with np.errstate(all="ignore"):
            along = self._along(x)
            finite = np.isfinite(along)
            if not finite.all():
                rows = finite.all(axis=1)
                x, along = x[rows], along[rows]
            features = np.empty((len(x), spec.features), dtype=np.float32)
            np.cos(along[:, :half], out=features[:, :half])
            np.sin(along[:, :half], out=features[:, half:])
            features *= self._amplitude
            np.rint(features, out=features)
            cells, distances = np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.float32)
            if spec.cells:
                cells = (along[:, half : half + spec.cells] + self._offsets).argmax(axis=1)
            if spec.distance_edges:
                centred, inside = x - self._mean, along[:, half + spec.cells :] - self._along_mean
                distances = np.float32(spec.precision) * np.einsum("ij,ij->i", centred, centred)
                distances -= np.einsum("ij,ij->i", inside, inside)
        return Projected(features, cells, distances)

    def _along(self, x: Rows) -> Rows:
        """x [n, d] -> x @ rows. On a busy device, a BLAS that gives half of it to a thread of its own waits for that
        thread, which spins afterwards: tens of milliseconds for a product of 30 microseconds."""
        if len(x) > _FEW:
            return x @ self._rows
        step = _ALONE // self._rows.size // 4 * 4 or 1  # BLAS is slow with two or three rows
        along = np.empty((len(x), self._rows.shape[1]), dtype=np.float32)
        for start in range(0, len(x), step):
            np.matmul(x[start : start + step], self._rows, out=along[start : start + step])
        return along


def features(spec: EmbeddingSpec, projection: Rows, embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.int32]:
    """Fixed-point features of each finite row: embeddings [n, d] -> int32 [n, D], round(scale * z(x))."""
    return Projection(spec, projection).project(embeddings).features.astype(np.int32)


class EmbeddingSketch(Sketch):
    """``n`` items and ``total``, int64 [D]: the sum of their fixed-point features. ``distances``, int64 [bins], and
    ``cells``, int64 [cells]: counts. ``invalid``: items whose embedding is not finite. With more items than sums have
    room for, ``n`` is LIMIT and the rest, of which nothing can be said any longer, is 0."""

    def __init__(self, spec: EmbeddingSpec, projection: Rows | None = None) -> None:
        """``projection`` [spec.rows, d] is needed to update; the hub, which only merges, gives none."""
        unit = math.ceil(spec.scale + math.sqrt(spec.features) / 2)  # |round(scale * z)| is no larger
        fields = [
            Field("n", 1, 0),
            Field("invalid", 1, 0),
            Field("distances", len(spec.distance_edges) + 1 if spec.distance_edges else 0),
            Field("cells", spec.cells),
            Field("total", spec.features, unit),
        ]
        described = [
            spec.dimension,
            spec.sigma,
            spec.scale,
            spec.axes,
            spec.precision,
            *spec.distance_edges,
            *spec.expected,
        ]
        super().__init__("embedding", fields, described, spec.projection)
        self.spec, self._edges = spec, np.array(spec.distance_edges, dtype=np.float32)
        self._projection = None if projection is None else Projection(spec, projection)
        self._typical = np.zeros(len(self.values), dtype=np.int64)
        if spec.expected:
            self._typical[-spec.features :] = spec.expected
        self._largest = spec.scale * math.sqrt(2.0 / spec.features) + 0.5
        self.total: Vector = self.part("total")
        self.distances: Vector = self.part("distances")
        self.cells: Vector = self.part("cells")

    @property
    def histograms(self) -> int:
        """In how many places one item is counted."""
        return bool(len(self.distances)) + bool(len(self.cells))

    @property
    def n(self) -> int:
        """How many items are in ``total``."""
        return int(self.values[0])

    @property
    def invalid(self) -> int:
        """How many could not be counted."""
        return int(self.values[1])

    def update(self, embeddings: npt.NDArray[np.floating]) -> None:
        """Add a batch [n, d]. Raises SketchError on another width."""
        projection, spec = self._projection, self.spec
        if projection is None:
            raise SketchError("embedding sketch: expected a projection to update, got none")
        if embeddings.ndim != 2 or embeddings.shape[1] != spec.dimension:
            raise SketchError(f"embedding: expected shape [n, {spec.dimension}], got {list(embeddings.shape)}")
        for start in range(0, len(embeddings), projection.chunk):
            chunk = embeddings[start : start + projection.chunk]
            seen = projection.project(chunk)
            n = len(seen.features)
            self.values[0] += n
            self.values[1] += len(chunk) - n
            self.total += seen.features.sum(axis=0).astype(np.int64)
            if spec.cells:
                self.cells += np.bincount(seen.cells, minlength=spec.cells)
            if spec.distance_edges:
                bins = np.searchsorted(self._edges, seen.distances, side="right")
                self.distances += np.bincount(bins, minlength=len(self.distances))
            self._limit()

    def mean(self) -> npt.NDArray[np.float64]:
        """Mean feature vector [D]; zeros when nothing was seen."""
        return self.total / (max(self.n, 1) * self.spec.scale)

    def _expected(self, values: Vector) -> Vector | int:
        expected: Vector = values[0] * self._typical
        return expected

    def _limit(self) -> None:
        if self.values[0] * self._largest >= LIMIT:
            self.values[0], self.values[2:] = LIMIT, 0  # cut sums of either sign would depend on the order
        super()._limit()

    def _check(self) -> None:
        largest = max(self.n, 0) * self._largest + self.slack(self.fields[-1].unit)
        if min(self.n, self.invalid) < 0 or np.abs(self.total).max() > largest:
            raise SketchError(f"embedding sketch: sums out of range for n = {self.n}")
        for counts in filter(len, (self.distances, self.cells)):
            if counts.min() < -self.slack() or abs(int(counts.sum()) - self.n) > self.slack(len(counts)):
                raise SketchError(f"embedding sketch: expected counts of n = {self.n} items, got {int(counts.sum())}")
