"""Histograms: predicted classes, confidence in reference-quantile bins, latency in logarithmic bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgewise.errors import SketchError
from edgewise.sketch.base import Field, Sketch
from edgewise.sketch.vector import Vector

Scores = npt.NDArray[np.floating]


class Histogram(Sketch):
    """``counts``, int64 [bins]; ``invalid``: items that could not be counted, such as NaN."""

    def __init__(self, kind: str, bins: int, described: Sequence[float] = ()) -> None:
        super().__init__(kind, [Field("invalid", 1, 0), Field("counts", bins)], described)
        self.counts: Vector = self.part("counts")

    @property
    def n(self) -> int:
        """How many values were counted; ``invalid`` ones are not."""
        return int(self.counts.sum())

    @property
    def invalid(self) -> int:
        """How many could not be counted."""
        return int(self.values[0])

    def _add(self, indices: npt.NDArray[np.integer], invalid: int = 0) -> None:
        self.counts += np.bincount(indices, minlength=len(self.counts))
        self.values[0] += invalid
        self._limit()


class ClassSketch(Histogram):
    """Predicted classes: argmax of the scores, the first of equals. Rows that are not finite are invalid."""

    def __init__(self, classes: int) -> None:
        super().__init__("classes", classes)

    def update(self, scores: Scores) -> None:
        """Add scores [n, classes]. Raises SketchError on another width."""
        finite = _finite(scores, len(self.counts))
        self._add(finite.argmax(axis=1), len(scores) - len(finite))


class ConfidenceSketch(Histogram):
    """Largest softmax probability, between the spec's ascending edges: bin i holds edge[i-1] <= c < edge[i]."""

    def __init__(self, edges: Sequence[float]) -> None:
        super().__init__("confidence", len(edges) + 1, edges)
        self.edges = np.array(edges, dtype=np.float64)

    def update(self, scores: Scores) -> None:
        """Add scores (logits) [n, classes]."""
        finite = _finite(scores)
        self._add(np.searchsorted(self.edges, confidence(finite), side="right"), len(scores) - len(finite))


def confidence(scores: Scores) -> npt.NDArray[np.float64]:
    """Largest softmax probability of each row: logits [n, classes] -> [n], in float64."""
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True, initial=-np.inf)
    result: npt.NDArray[np.float64] = 1.0 / np.exp(shifted, out=shifted).sum(axis=1)
    return result


def _finite(scores: Scores, classes: int | None = None) -> Scores:
    """The rows of scores [n, classes] that are finite. Raises SketchError on another shape."""
    if scores.ndim != 2 or (classes is not None and scores.shape[1] != classes):
        raise SketchError(f"scores: expected shape [n, {classes or 'classes'}], got {list(scores.shape)}")
    finite = np.isfinite(scores)
    return scores if finite.all() else scores[finite.all(axis=1)]


class LatencySketch(Histogram):
    """Latency in 64 bins, four an octave, from 16 microseconds to one second; the last bin holds all above."""

    BINS = 64
    FIRST_S = 16e-6

    def __init__(self) -> None:
        super().__init__("latency", self.BINS)

    def update(self, seconds: float | Sequence[float] | npt.NDArray[np.float64]) -> None:
        """Add the latency of one request or of several, in seconds."""
        taken = np.atleast_1d(np.asarray(seconds, dtype=np.float64))
        known = taken[np.isfinite(taken)]
        octaves = np.log2(np.maximum(known, self.FIRST_S) / self.FIRST_S)
        self._add(np.minimum((octaves * 4).astype(np.int64), self.BINS - 1), len(taken) - len(known))

    def quantile(self, q: float) -> float:
        """The upper edge, in seconds, of the bin that holds quantile ``q``; NaN when empty."""
        if not self.n:
            return float("nan")
        index = int(np.searchsorted(self.counts.cumsum(), q * self.n))
        return float(self.FIRST_S * 2 ** ((min(index, self.BINS - 1) + 1) / 4))
