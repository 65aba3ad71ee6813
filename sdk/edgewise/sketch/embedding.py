"""EmbeddingSketch: the sum of random Fourier features over a window, in integers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgewise.errors import SketchError
from edgewise.sketch import varint
from edgewise.sketch.spec import EmbeddingSpec


def features(
    spec: EmbeddingSpec, projection: npt.NDArray[np.float32], embeddings: npt.NDArray[np.floating]
) -> npt.NDArray[np.int32]:
    """Fixed-point features of each row: embeddings [n, d] -> int32 [n, D], round(scale * z(x))."""
    angles = embeddings.astype(np.float32, copy=False) @ projection.T
    amplitude = np.float32(spec.scale * np.sqrt(2.0 / spec.features))
    return np.rint(amplitude * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)).astype(np.int32)


class EmbeddingSketch:
    """``n`` rows seen and ``total``, int64 [D]: the sum of their fixed-point features. Rows with NaN are left out."""

    def __init__(self, spec: EmbeddingSpec, projection: npt.NDArray[np.float32] | None = None) -> None:
        """``projection`` [D/2, d] is needed to update; the hub, which only merges, gives none."""
        self.spec = spec
        self._projection = projection
        self.n = 0
        self.total: npt.NDArray[np.int64] = np.zeros(spec.features, dtype=np.int64)

    def update(self, embeddings: npt.NDArray[np.floating]) -> None:
        """Add a batch [n, d]. Raises SketchError on another width."""
        if self._projection is None:
            raise SketchError("embedding sketch: expected a projection to update, got none")
        if embeddings.ndim != 2 or embeddings.shape[1] != self.spec.dimension:
            raise SketchError(f"embedding: expected shape [n, {self.spec.dimension}], got {list(embeddings.shape)}")
        embeddings = embeddings[np.isfinite(embeddings).all(axis=1)]
        self.total += features(self.spec, self._projection, embeddings).sum(axis=0, dtype=np.int64)
        self.n += len(embeddings)

    def merge(self, other: EmbeddingSketch) -> None:
        """Add another sketch of the same spec. Raises SketchError otherwise."""
        if other.spec != self.spec:
            raise SketchError("embedding sketch: expected the same spec")
        self.total += other.total
        self.n += other.n

    def mean(self) -> npt.NDArray[np.float64]:
        """Mean feature vector [D]; zeros when nothing was seen."""
        return self.total / (max(self.n, 1) * self.spec.scale)

    def encode(self) -> bytes:
        """n, then the D sums, as varints: about 2 bytes a feature."""
        return varint.encode([self.n, *self.total.tolist()])

    @classmethod
    def decode(cls, spec: EmbeddingSpec, data: bytes) -> EmbeddingSketch:
        """Raises SketchError on damage, or on sums that n rows cannot give."""
        values = varint.decode(data, spec.features + 1)
        sketch = cls(spec)
        sketch.n = values[0]
        largest = max(sketch.n, 0) * (spec.scale * np.sqrt(2.0 / spec.features) + 0.5)
        if sketch.n < 0 or sketch.n >= 2**40 or max(map(abs, values[1:])) > largest:
            raise SketchError(f"embedding sketch: sums out of range for n = {sketch.n}")
        sketch.total = np.array(values[1:], dtype=np.int64)
        return sketch
