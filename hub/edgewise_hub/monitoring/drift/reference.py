"""What windows are held against: the items of a reference in order of time, summed up once.

Rules that hold here:
- a reference is of one bundle and one sketch spec;
- its order is time's, and neighbours may depend on each other: it is drawn from in blocks long enough to keep that;
- n of a judgement is at most m / 10: nearer to m, any fixed reference gives false alarms of .08 to .15.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import linalg

from edgewise_hub.monitoring.drift.memory import block_length
from edgewise_hub.monitoring.drift.ridge_t2 import Metric
from edgewise_hub.monitoring.drift.summary import Counts

LEADING = 5
"""Principal components whose autocorrelation sets the block length."""
PRIOR = 2.0
"""Items of overall accuracy added to each confidence bin, so that an empty bin has an accuracy too."""


@dataclass(frozen=True)
class Reference:
    """``features`` int [m, D] (fixed point of ``scale``), ``classes`` int [m] below ``class_count``, ``confidence``
    float [m] with its inner bin ``edges``, ``correct`` bool [m], ``labels`` int [m]. ``cells`` and ``distances`` int
    [m]: Voronoi cell and bin of distance; ``feature_places`` and ``category_places`` int [m, columns]: where each
    column is counted. ``sizes``: how many cells, bins or places there are, by name. None for what the model or its data
    do not have."""

    m: int
    scale: int = 1
    features: npt.NDArray[np.integer] | None = None
    classes: npt.NDArray[np.integer] | None = None
    class_count: int = 0
    confidence: npt.NDArray[np.floating] | None = None
    edges: tuple[float, ...] = ()
    correct: npt.NDArray[np.bool_] | None = None
    labels: npt.NDArray[np.integer] | None = None
    cells: npt.NDArray[np.integer] | None = None
    distances: npt.NDArray[np.integer] | None = None
    feature_places: npt.NDArray[np.integer] | None = None
    category_places: npt.NDArray[np.integer] | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def block(self) -> int:
        """How far items depend on those before them, in items: 1 where they do not."""
        if self.features is not None:
            series = leading_components(self.rows(), LEADING)
        elif self.confidence is not None:
            series = self.confidence[:, None].astype(np.float64)
        else:
            return 1
        return max(block_length(series[:, i]) for i in range(series.shape[1]))

    def rows(self) -> npt.NDArray[np.float32]:
        """Features as floats [m, D]."""
        if self.features is None:
            raise ValueError("reference: expected features, got none")
        return self.features.astype(np.float32) / np.float32(self.scale)

    @cached_property
    def metric(self) -> Metric:
        """Mean and ridged covariance of all features."""
        return _metric(self.rows())

    def watched(self) -> npt.NDArray[np.float32]:
        """What is watched over time [m, D]: features, or, of a model without them, indicators of classes and confidence
        bins, or, without those, of its columns' places. ``Summary.watched`` is the same of a window."""
        if self.features is not None:
            return self.rows()
        parts = [] if self.classes is None else [one_hot(self.classes, self.class_count)]
        parts += [] if self.confidence is None else [one_hot(self.bins, len(self.edges) + 1)]
        columns = None if parts else self.column_indicators()
        parts += [] if columns is None else [columns]
        return np.concatenate(parts, axis=1)

    @cached_property
    def watched_metric(self) -> Metric:
        """Mean and ridged covariance of what is watched."""
        return self.metric if self.features is not None else _metric(self.watched())

    @cached_property
    def class_counts(self) -> Counts:
        """Predicted classes, int64 [K]."""
        return np.bincount(self.classes if self.classes is not None else [], minlength=self.class_count)

    @property
    def has_labels(self) -> bool:
        """Whether there are labels, all of classes that the model can predict."""
        labels = self.labels
        return labels is not None and 0 <= int(labels.min()) <= int(labels.max()) < self.class_count

    @cached_property
    def cell_counts(self) -> Counts:
        """Items in each Voronoi cell, int64 [cells]."""
        assert self.cells is not None
        return np.bincount(self.cells, minlength=self.sizes["cells"])

    @cached_property
    def cell_classes(self) -> Counts:
        """Items of each class in each cell [cells, K]: the label's where there are labels, else the predicted one's."""
        assert self.cells is not None
        found = np.zeros((self.sizes["cells"], max(self.class_count, 1)), dtype=np.int64)
        kinds = self.labels if self.has_labels else self.classes
        if kinds is not None:
            np.add.at(found, (self.cells, kinds), 1)
        return found

    def table(self, name: str) -> Counts | None:
        """Counts of each column at each place, int64 [columns, places]; ``name``: feature_places or category_places."""
        places: npt.NDArray[np.integer] | None = getattr(self, name)
        if places is None:
            return None
        return np.stack([np.bincount(column, minlength=self.sizes[name]) for column in places.T])

    @property
    def tables(self) -> list[tuple[int, int]]:
        """(columns, places) of the numeric features and of the categories, where there are any."""
        found = [(self.feature_places, "feature_places"), (self.category_places, "category_places")]
        return [(places.shape[1], self.sizes[name]) for places, name in found if places is not None]

    @cached_property
    def column_counts(self) -> Counts:
        """Counts of all columns' places, one after another."""
        found = [self.table(name) for name in ("feature_places", "category_places")]
        return np.concatenate([counts.ravel() for counts in found if counts is not None])

    def column_indicators(self) -> npt.NDArray[np.float32] | None:
        """Where each item is counted in each column, as 0 or 1 [m, sum of columns * places]; None without columns."""
        parts = []
        for name in ("feature_places", "category_places"):
            places: npt.NDArray[np.integer] | None = getattr(self, name)
            if places is not None:
                parts.append(one_hot(places.ravel(), self.sizes[name]).reshape(self.m, -1))
        return np.concatenate(parts, axis=1) if parts else None

    @cached_property
    def class_means(self) -> npt.NDArray[np.float64]:
        """Mean features of each predicted class [K, D]; a class never predicted has the mean of all."""
        assert self.classes is not None
        totals = one_hot(self.classes, self.class_count).T @ self.rows()
        return means_by_class(totals, self.class_counts, self.metric.mean)

    @cached_property
    def bins(self) -> npt.NDArray[np.int64]:
        """The confidence bin of each item [m], as the device's sketch counts it."""
        assert self.confidence is not None
        bins: npt.NDArray[np.int64] = np.searchsorted(np.array(self.edges), self.confidence, side="right")
        return bins

    @cached_property
    def bin_counts(self) -> Counts:
        """Items in each confidence bin, int64 [bins]."""
        return np.bincount(self.bins, minlength=len(self.edges) + 1)

    @cached_property
    def bin_confidence(self) -> npt.NDArray[np.float64]:
        """Mean confidence in each bin [bins]; an empty one has its upper edge."""
        assert self.confidence is not None
        total = np.bincount(self.bins, weights=self.confidence, minlength=len(self.edges) + 1)
        return np.where(self.bin_counts > 0, total / np.maximum(self.bin_counts, 1), [*self.edges, 1.0])

    @cached_property
    def bin_accuracy(self) -> npt.NDArray[np.float64]:
        """Accuracy in each bin [bins], drawn towards the overall accuracy by PRIOR items."""
        assert self.correct is not None and self.accuracy is not None
        right = np.bincount(self.bins, weights=self.correct, minlength=len(self.edges) + 1)
        return (right + PRIOR * self.accuracy) / (self.bin_counts + PRIOR)

    @cached_property
    def accuracy(self) -> float | None:
        """Share of correct items, where labels are known."""
        return float(self.correct.mean()) if self.correct is not None else None


def _metric(rows: npt.NDArray[np.float32]) -> Metric:
    return Metric.of_moments(len(rows), rows.sum(axis=0, dtype=np.float64), (rows.T @ rows).astype(np.float64))


def one_hot(values: npt.NDArray[np.integer], count: int) -> npt.NDArray[np.float32]:
    """Indicators [m, count]."""
    found: npt.NDArray[np.float32] = (values[:, None] == np.arange(count)).astype(np.float32)
    return found


def means_by_class(
    totals: npt.NDArray[np.floating], counts: npt.NDArray[np.number], default: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Mean row of each class [K, D], from their sums [K, D] and ``counts`` [K]; ``default`` [D] for a class without
    rows."""
    n = counts[:, None]
    means: npt.NDArray[np.float64] = np.where(n > 0, totals / np.maximum(n, 1), default)
    return means.astype(np.float64)


def leading_components(rows: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float64]:
    """Scores of the first principal components [m, count]."""
    centred = rows - rows.mean(axis=0)
    width = rows.shape[1]
    covariance = (centred.T @ centred).astype(np.float64)
    _, vectors = linalg.eigh(covariance, subset_by_index=[max(width - count, 0), width - 1])
    scores: npt.NDArray[np.float64] = centred.astype(np.float64) @ vectors
    return scores
