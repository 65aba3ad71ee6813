"""Histograms: predicted classes, confidence in reference-quantile bins, latency in logarithmic bins."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from edgewise.errors import SketchError
from edgewise.sketch import varint

H = TypeVar("H", bound="Histogram")
Counts = npt.NDArray[np.int64]


class Histogram:
    """``counts``, int64 [bins]. Merge is addition."""

    def __init__(self, bins: int) -> None:
        self.counts: Counts = np.zeros(bins, dtype=np.int64)

    @property
    def n(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def _add(self, indices: npt.NDArray[np.integer]) -> None:
        self.counts += np.bincount(indices, minlength=len(self.counts))

    def merge(self: H, other: H) -> None:
        """Add another histogram of the same kind and bins. Raises SketchError otherwise."""
        if type(other) is not type(self) or len(other.counts) != len(self.counts):
            raise SketchError(f"histogram: expected {len(self.counts)} bins of {type(self).__name__}")
        self.counts += other.counts

    def encode(self) -> bytes:
        """Varints: one byte for a count below 64."""
        return varint.encode(self.counts.tolist())

    def _fill(self: H, data: bytes) -> H:
        values = varint.decode(data, len(self.counts))
        if min(values) < 0 or max(values) >= 2**40:
            raise SketchError("histogram: expected counts, got a negative or absurd one")
        self.counts = np.array(values, dtype=np.int64)
        return self


class ClassSketch(Histogram):
    """Predicted classes: argmax of the scores. Rows with NaN are left out (they are counted as non-finite outputs)."""

    def update(self, scores: npt.NDArray[np.floating]) -> None:
        """Add scores [n, classes]."""
        if scores.ndim != 2 or scores.shape[1] != len(self.counts):
            raise SketchError(f"scores: expected shape [n, {len(self.counts)}], got {list(scores.shape)}")
        self._add(scores[np.isfinite(scores).all(axis=1)].argmax(axis=1))

    @classmethod
    def decode(cls, classes: int, data: bytes) -> ClassSketch:
        """Raises SketchError on damage."""
        return cls(classes)._fill(data)


class ConfidenceSketch(Histogram):
    """Largest softmax probability, in bins between the spec's edges."""

    def __init__(self, edges: list[float]) -> None:
        super().__init__(len(edges) + 1)
        self.edges = np.array(edges, dtype=np.float64)

    def update(self, scores: npt.NDArray[np.floating]) -> None:
        """Add scores (logits) [n, classes]."""
        self._add(np.searchsorted(self.edges, confidence(scores[np.isfinite(scores).all(axis=1)]), side="right"))

    @classmethod
    def decode(cls, edges: list[float], data: bytes) -> ConfidenceSketch:
        """Raises SketchError on damage."""
        return cls(edges)._fill(data)


def confidence(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Largest softmax probability of each row: logits [n, classes] -> [n], in float64."""
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True, initial=-np.inf)
    result: npt.NDArray[np.float64] = 1.0 / np.exp(shifted).sum(axis=1)
    return result


class LatencySketch(Histogram):
    """Latency in 64 bins, four an octave, from 16 microseconds to one second; the last bin holds all above."""

    BINS = 64
    FIRST_S = 16e-6

    def __init__(self) -> None:
        super().__init__(self.BINS)

    def update(self, seconds: float) -> None:
        """Add one request's latency in seconds."""
        octaves = np.log2(max(seconds, self.FIRST_S) / self.FIRST_S)
        self.counts[min(int(octaves * 4), self.BINS - 1)] += 1

    def quantile(self, q: float) -> float:
        """The upper edge, in seconds, of the bin that holds quantile ``q``; NaN when empty."""
        if not self.n:
            return float("nan")
        index = int(np.searchsorted(self.counts.cumsum(), q * self.n))
        return float(self.FIRST_S * 2 ** ((min(index, self.BINS - 1) + 1) / 4))

    @classmethod
    def decode(cls, data: bytes) -> LatencySketch:
        """Raises SketchError on damage."""
        return cls()._fill(data)
