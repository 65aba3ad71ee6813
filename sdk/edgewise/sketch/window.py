"""All sketches of one window: filled on the device, merged on the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgewise.errors import SketchError
from edgewise.sketch.base import Sketch
from edgewise.sketch.embedding import EmbeddingSketch
from edgewise.sketch.features import CategorySketch, FeatureSketch, columns
from edgewise.sketch.histogram import ClassSketch, ConfidenceSketch, LatencySketch
from edgewise.sketch.labels import LabelSketch
from edgewise.sketch.spec import SketchSpec

Inputs = Mapping[str, npt.NDArray[np.generic]]


class WindowSketches:
    """The sketches that a spec asks for, each None where it does not. ``parts``: those that there are, by name."""

    def __init__(self, spec: SketchSpec, projection: npt.NDArray[np.float32] | None = None) -> None:
        """``projection`` [rows, d] is needed to update the embedding sketch; the hub gives none."""
        self.spec = spec
        self.latency = LatencySketch()
        self.embedding = EmbeddingSketch(spec.embedding, projection) if spec.embedding else None
        self.classes = ClassSketch(spec.classes) if spec.classes else None
        self.confidence = ConfidenceSketch(spec.confidence_edges) if spec.classes and spec.confidence_edges else None
        self.features = FeatureSketch(spec.features) if spec.features else None
        self.categories = CategorySketch(spec.categories) if spec.categories else None
        self.labels = LabelSketch(spec.classes) if spec.classes else None
        of_window = (
            self.latency, self.embedding, self.classes, self.confidence, self.features, self.categories, self.labels
        )  # fmt: skip
        self.parts: dict[str, Sketch] = {part.kind: part for part in of_window if part is not None}

    def update(
        self,
        latency_s: float | Sequence[float] | None = None,
        scores: npt.NDArray[np.floating] | None = None,
        embeddings: npt.NDArray[np.floating] | None = None,
        inputs: Inputs | None = None,
    ) -> None:
        """Add requests: their latencies, scores [n, classes], embeddings [n, d], and the inputs by name, [n, ...] each.
        What the spec does not ask for is ignored."""
        if latency_s is not None:
            self.latency.update(latency_s)
        if scores is not None and self.classes:
            self.classes.update(scores)
        if scores is not None and self.confidence:
            self.confidence.update(scores)
        if embeddings is not None and self.embedding:
            self.embedding.update(embeddings)
        if inputs is not None and self.features:
            self.features.update(columns(self.spec.features, inputs))
        if inputs is not None and self.categories:
            self.categories.update(columns(self.spec.categories, inputs))

    def merge(self, other: WindowSketches) -> None:
        """Add another window's sketches. Raises SketchError when its spec is another."""
        if other.spec != self.spec:
            raise SketchError("window: expected sketches of the same spec")
        for name, part in self.parts.items():
            part.merge(other.parts[name])

    @property
    def saturated(self) -> tuple[str, ...]:
        """Every ``sketch.field`` with a counter at its limit."""
        return tuple(name for part in self.parts.values() for name in part.saturated)

    def encode(self) -> dict[str, bytes]:
        """By name, for ``Window.sketches``; what counted nothing is left out."""
        return {name: part.encode() for name, part in self.parts.items() if not part.empty}

    @classmethod
    def decode(cls, spec: SketchSpec, data: Mapping[str, bytes]) -> WindowSketches:
        """A part that is not there counted nothing. Raises SketchError on damage, or a name that the spec has not."""
        sketches = cls(spec)
        if unknown := data.keys() - sketches.parts.keys():
            raise SketchError(f"window: expected sketches {sorted(sketches.parts)}, got {sorted(unknown)} besides")
        for name, encoded in data.items():
            sketches.parts[name].load(encoded)
        return sketches
