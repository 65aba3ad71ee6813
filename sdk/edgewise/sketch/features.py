"""Tabular inputs, feature by feature: numbers in reference-quantile bins, categories by value.

All numeric features of a model are one sketch, and all categories another: a batch is counted in a few array operations
whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgewise.errors import SketchError
from edgewise.sketch.base import Field, Sketch
from edgewise.sketch.spec import CategorySpec, FeatureSpec
from edgewise.sketch.vector import Vector

Columns = npt.NDArray[np.float64]
NULL, INVALID, OUTLIER, FIRST_BIN = 0, 1, 2, 3
"""Places of a numeric feature's counts, the bins last."""
CATEGORY_NULL, UNSEEN, FIRST_VALUE = 0, 1, 2
"""Places of a category's counts, the values last."""


def columns(specs: Sequence[FeatureSpec | CategorySpec], inputs: Mapping[str, npt.NDArray[np.generic]]) -> Columns:
    """The features' values, float64 [n, features], out of a batch of inputs, each [n, ...].

    Raises SketchError where an input is missing or too narrow.
    """
    flat: dict[str, npt.NDArray[np.generic]] = {}
    for name in dict.fromkeys(spec.input for spec in specs):
        if name not in inputs or not inputs[name].ndim:
            raise SketchError(f"features: expected an input {name!r}, items first, got {sorted(inputs)}")
        flat[name] = inputs[name].reshape(len(inputs[name]), math.prod(inputs[name].shape[1:]))
    for spec in specs:
        if spec.column >= flat[spec.input].shape[1]:
            raise SketchError(f"feature {spec.name!r}: input {spec.input!r} has no column {spec.column}")
    if len(flat) == 1:
        return next(iter(flat.values()))[:, [spec.column for spec in specs]].astype(np.float64)
    return np.stack([flat[spec.input][:, spec.column].astype(np.float64) for spec in specs], axis=1)


class _Table(Sketch):
    """``counts``, int64 [features, places]: each item is counted once for each feature."""

    def __init__(self, kind: str, names: Sequence[str], places: int, described: Sequence[float]) -> None:
        super().__init__(kind, [Field("counts", len(names) * places)], described)
        self.names = tuple(names)
        self.counts: Vector = self.values.reshape(len(names), places)

    @property
    def histograms(self) -> int:
        """In how many places one item is counted."""
        return len(self.names)

    @property
    def n(self) -> int:
        """How many items were counted."""
        return int(self.counts.sum(axis=1).max(initial=0))

    def _add(self, places: npt.NDArray[np.intp]) -> None:
        """Count ``places`` [n, features]."""
        features, width = self.counts.shape
        flat = (places + width * np.arange(features)).ravel()
        self.values += np.bincount(flat, minlength=features * width)
        self._limit()

    def _check(self) -> None:
        super()._check()
        gaps = self.counts.sum(axis=1) - self.n
        if np.abs(gaps).max(initial=0) > 2 * self.slack(self.counts.shape[1]):
            raise SketchError(
                f"{self.kind} sketch: expected as many items of each feature, got {self.counts.sum(axis=1)}"
            )

    def _columns(self, values: Columns) -> Columns:
        if values.ndim != 2 or values.shape[1] != len(self.names):
            raise SketchError(f"{self.kind}: expected shape [n, {len(self.names)}], got {list(values.shape)}")
        return values


class FeatureSketch(_Table):
    """Numeric features: counts of null (NaN), invalid (infinite), outlier (beyond the spec's fences), then of each bin.
    Bin i holds edge[i-1] <= x < edge[i]; a feature with fewer edges than another leaves its last places at 0."""

    def __init__(self, specs: Sequence[FeatureSpec]) -> None:
        bins = max((len(spec.edges) for spec in specs), default=0) + 1
        described = [number for spec in specs for number in (spec.low, spec.high, len(spec.edges), *spec.edges)]
        super().__init__("features", [spec.name for spec in specs], FIRST_BIN + bins, described)
        self._low, self._high = np.array([s.low for s in specs]), np.array([s.high for s in specs])
        self._edges = np.full((len(specs), bins - 1), np.inf)
        for row, spec in zip(self._edges, specs, strict=True):
            row[: len(spec.edges)] = spec.edges

    def places(self, values: Columns) -> npt.NDArray[np.intp]:
        """Where each value is counted: float64 [n, features] -> [n, features]."""
        values = self._columns(values)
        found: npt.NDArray[np.intp] = (values[:, :, None] >= self._edges).sum(axis=2) + FIRST_BIN
        found[(values < self._low) | (values > self._high)] = OUTLIER
        found[np.isinf(values)] = INVALID
        found[np.isnan(values)] = NULL
        return found

    def update(self, values: Columns) -> None:
        """Add a batch [n, features], as ``columns`` gives it. Raises SketchError on another width."""
        self._add(self.places(values))


class CategorySketch(_Table):
    """Categories: counts of null (NaN), unseen (a value that the reference does not have), then of each value."""

    def __init__(self, specs: Sequence[CategorySpec]) -> None:
        width = max((len(spec.values) for spec in specs), default=0)
        described = [number for spec in specs for number in (len(spec.values), *spec.values)]
        super().__init__("categories", [spec.name for spec in specs], FIRST_VALUE + width, described)
        self._values = np.full((len(specs), width), np.nan)
        for row, spec in zip(self._values, specs, strict=True):
            row[: len(spec.values)] = spec.values

    def places(self, values: Columns) -> npt.NDArray[np.intp]:
        """Where each value is counted: float64 [n, categories] -> [n, categories]."""
        values = self._columns(values)
        same = values[:, :, None] == self._values
        found = np.where(same.any(axis=2), same.argmax(axis=2) + FIRST_VALUE, UNSEEN)
        found[np.isnan(values)] = CATEGORY_NULL
        return found

    def update(self, values: Columns) -> None:
        """Add a batch [n, categories], as ``columns`` gives it. Raises SketchError on another width."""
        self._add(self.places(values))
