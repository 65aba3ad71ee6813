"""Sketches: mergeable summaries of what a model saw. ``update``, ``merge``, ``encode``, ``decode``; merging is exact.

Every accumulator is an integer of one fixed scale, so that ``merge`` is vector addition, bit for bit,
whatever the order and however a stream was split. ``docs/spec/sketch.md`` says what another implementation needs.
"""

from edgewise.sketch.base import Sketch
from edgewise.sketch.embedding import EmbeddingSketch
from edgewise.sketch.features import CategorySketch, FeatureSketch
from edgewise.sketch.histogram import ClassSketch, ConfidenceSketch, LatencySketch
from edgewise.sketch.labels import LabelSketch
from edgewise.sketch.spec import SketchSpec
from edgewise.sketch.window import WindowSketches

__all__ = [
    "CategorySketch",
    "ClassSketch",
    "ConfidenceSketch",
    "EmbeddingSketch",
    "FeatureSketch",
    "LabelSketch",
    "LatencySketch",
    "Sketch",
    "SketchSpec",
    "WindowSketches",
]
