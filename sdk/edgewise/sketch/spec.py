"""What a bundle's sketches are: fixed by the compiler, carried as a blob, named in each window by its digest."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from edgewise.errors import SketchError
from edgewise.wire.codec import Digest, Message

SCALE = 256
"""Fixed point of the features: z lies within +-sqrt(2/D); rounding to 1/256 adds 0.03% to its variance at D=256."""


class EmbeddingSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Random Fourier features of an RBF kernel (Rahimi and Recht, 2007): z(x) = sqrt(2/D) [cos Wx, sin Wx].

    ``dimension``: d of the embedding; ``features``: D, even; ``sigma``: bandwidth by the median heuristic;
    ``projection``: digest of the blob with W, float32 little-endian, shape [D/2, d]. W is never drawn anew.
    """

    dimension: Annotated[int, msgspec.Meta(ge=1, le=65536)]
    features: Annotated[int, msgspec.Meta(ge=2, le=4096, multiple_of=2)]
    sigma: Annotated[float, msgspec.Meta(gt=0)]
    seed: int
    scale: Annotated[int, msgspec.Meta(ge=1, le=65536)] = SCALE
    projection: Digest


class SketchSpec(Message, frozen=True, kw_only=True):
    """All sketches of one bundle; a part that the model has no output for is None.

    ``classes``: number of classes; ``confidence_edges``: inner edges of the confidence bins, ascending
    (quantiles of the reference).
    """

    bound: ClassVar[int] = 16 * 1024
    embedding: EmbeddingSpec | None = None
    classes: Annotated[int, msgspec.Meta(ge=2, le=1000)] | None = None
    confidence_edges: Annotated[list[float], msgspec.Meta(max_length=63)] = []


def projection_matrix(spec: EmbeddingSpec, data: bytes) -> npt.NDArray[np.float32]:
    """W, shape [D/2, d], from the blob's bytes. Raises SketchError on a wrong size or a value that is not finite."""
    expected = spec.features // 2 * spec.dimension * 4
    if len(data) != expected:
        raise SketchError(f"projection: expected {expected} bytes, got {len(data)}")
    matrix = np.frombuffer(data, dtype="<f4").reshape(spec.features // 2, spec.dimension).astype(np.float32)
    if not np.isfinite(matrix).all():
        raise SketchError("projection: expected finite values")
    return matrix
