"""All sketches of one window: filled on the device, merged on the hub."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgewise.errors import SketchError
from edgewise.sketch.embedding import EmbeddingSketch
from edgewise.sketch.histogram import ClassSketch, ConfidenceSketch, LatencySketch
from edgewise.sketch.spec import SketchSpec


class WindowSketches:
    """The sketches that a spec asks for. One that the model has no output for is None."""

    def __init__(self, spec: SketchSpec, projection: npt.NDArray[np.float32] | None = None) -> None:
        """``projection`` [D/2, d] is needed to update the embedding sketch; the hub gives none."""
        self.spec = spec
        self.latency = LatencySketch()
        self.embedding = EmbeddingSketch(spec.embedding, projection) if spec.embedding else None
        self.classes = ClassSketch(spec.classes) if spec.classes else None
        self.confidence = ConfidenceSketch(spec.confidence_edges) if spec.classes and spec.confidence_edges else None

    def update(
        self,
        latency_s: float,
        scores: npt.NDArray[np.floating] | None = None,
        embeddings: npt.NDArray[np.floating] | None = None,
    ) -> None:
        """Add one request: its latency, scores [n, classes] and embeddings [n, d]."""
        self.latency.update(latency_s)
        if scores is not None and self.classes:
            self.classes.update(scores)
        if scores is not None and self.confidence:
            self.confidence.update(scores)
        if embeddings is not None and self.embedding:
            self.embedding.update(embeddings)

    def merge(self, other: WindowSketches) -> None:
        """Add another window's sketches. Raises SketchError when its spec is another."""
        if other.spec != self.spec:
            raise SketchError("window: expected sketches of the same spec")
        self.latency.merge(other.latency)
        if self.embedding and other.embedding:
            self.embedding.merge(other.embedding)
        if self.classes and other.classes:
            self.classes.merge(other.classes)
        if self.confidence and other.confidence:
            self.confidence.merge(other.confidence)

    def encode(self) -> dict[str, bytes]:
        """By name, for ``Window.sketches``."""
        parts = {
            "latency": self.latency,
            "embedding": self.embedding,
            "classes": self.classes,
            "confidence": self.confidence,
        }
        return {name: part.encode() for name, part in parts.items() if part is not None}

    @classmethod
    def decode(cls, spec: SketchSpec, data: Mapping[str, bytes]) -> WindowSketches:
        """Raises SketchError on damage, or when the names are not those of the spec."""
        sketches = cls(spec)
        expected = set(sketches.encode())
        if set(data) != expected:
            raise SketchError(f"window: expected sketches {sorted(expected)}, got {sorted(data)}")
        sketches.latency = LatencySketch.decode(data["latency"])
        if spec.embedding:
            sketches.embedding = EmbeddingSketch.decode(spec.embedding, data["embedding"])
        if spec.classes:
            sketches.classes = ClassSketch.decode(spec.classes, data["classes"])
        if sketches.confidence:
            sketches.confidence = ConfidenceSketch.decode(spec.confidence_edges, data["confidence"])
        return sketches
