"""LabelSketch: labels that arrived, against what was predicted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgewise.errors import SketchError
from edgewise.sketch.base import Field, Sketch
from edgewise.sketch.vector import Vector

MAX_CONFUSION = 32
"""Above so many classes the confusion matrix is too large: labels and correct answers of each class are kept."""


class LabelSketch(Sketch):
    """Up to ``MAX_CONFUSION`` classes ``counts`` is the confusion matrix [classes, classes], true classes down; above,
    it is [2, classes]: labels that arrived, and how many of them were predicted. ``invalid``: labels of no class."""

    def __init__(self, classes: int) -> None:
        rows = classes if classes <= MAX_CONFUSION else 2
        super().__init__("labels", [Field("invalid", 1), Field("counts", rows * classes)])
        self.classes = classes
        self.counts: Vector = self.part("counts").reshape(rows, classes)

    @property
    def histograms(self) -> int:
        """In how many places one item is counted."""
        return 1 if self.confusion is not None else 2

    @property
    def n(self) -> int:
        """How many labels of a class arrived."""
        return int(self.arrived.sum())

    @property
    def invalid(self) -> int:
        """How many labels, or predictions, were of no class."""
        return int(self.values[0])

    @property
    def arrived(self) -> Vector:
        """Labels of each class, int64 [classes]."""
        arrived: Vector = self.counts[0] if self.confusion is None else self.counts.sum(axis=1)
        return arrived

    @property
    def correct(self) -> Vector:
        """How many of those of each class were predicted, int64 [classes]."""
        return self.counts[1] if self.confusion is None else self.counts.diagonal()

    @property
    def confusion(self) -> Vector | None:
        """Counts by (true, predicted) class, int64 [classes, classes]; None above ``MAX_CONFUSION``."""
        return self.counts if self.classes <= MAX_CONFUSION else None

    def update(self, labels: npt.NDArray[np.integer], predictions: npt.NDArray[np.integer]) -> None:
        """Add true and predicted classes, int [n] each. Raises SketchError where they are not as many."""
        if labels.ndim != 1 or labels.shape != predictions.shape:
            raise SketchError(
                f"labels: expected a prediction for each, got {list(labels.shape)} and {list(predictions.shape)}"
            )
        known = (labels >= 0) & (labels < self.classes) & (predictions >= 0) & (predictions < self.classes)
        self.values[0] += len(labels) - int(known.sum())
        labels, predictions = labels[known], predictions[known]
        if self.confusion is not None:
            np.add.at(self.counts, (labels, predictions), 1)
        else:
            self.counts[0] += np.bincount(labels, minlength=self.classes)
            self.counts[1] += np.bincount(labels[labels == predictions], minlength=self.classes)
        self._limit()
