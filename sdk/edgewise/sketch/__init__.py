"""Sketches: mergeable summaries of what a model saw. ``update``, ``merge``, ``encode``; merging is exact in any order.

Every accumulator is an integer of one fixed scale, so that ``merge`` is vector addition, bit for bit,
whatever the order and however a stream was split.
"""

from edgewise.sketch.embedding import EmbeddingSketch
from edgewise.sketch.histogram import ClassSketch, ConfidenceSketch, LatencySketch
from edgewise.sketch.spec import SketchSpec
from edgewise.sketch.window import WindowSketches

__all__ = ["ClassSketch", "ConfidenceSketch", "EmbeddingSketch", "LatencySketch", "SketchSpec", "WindowSketches"]
