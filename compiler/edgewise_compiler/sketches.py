"""What a bundle's sketches are made of, out of what the compiled model answered to the reference.

Everything that is drawn (bandwidth's subsample, projection, centres) is drawn once, here, with a seed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist

from edgewise.bundle import digest
from edgewise.sketch.embedding import Projection
from edgewise.sketch.spec import MAX_FEATURES, CategorySpec, EmbeddingSpec, FeatureSpec, projection_matrix
from edgewise_compiler.data import Array
from edgewise_compiler.errors import CompileError

FEATURES = 256
SIGMA_ITEMS = 1000
AXES = 16
CELLS = 32
CELL_ITEMS = 20
"""Items of the reference for each Voronoi cell, at least: fewer items, fewer cells."""
FIT_ITEMS = 4000
STEPS = 10
DISTANCES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
CONFIDENCES = tuple(k / 10 for k in range(1, 10))
BINS = 16
MAX_CATEGORIES = 32
"""An integer column with at most so many values is a category."""
FENCE = 3.0
"""Interquartile ranges beyond the quartiles where outliers begin (Tukey, 1977: "far out"), or where the reference ends.
"""


@dataclass(frozen=True)
class EmbeddingParts:
    """``projection``: the blob. Of each item of the reference: ``features`` int8 [m, D], ``cells`` uint8 [m] and
    ``distances`` float32 [m]; cells are empty where there are none."""

    spec: EmbeddingSpec
    projection: bytes
    features: npt.NDArray[np.int8]
    cells: npt.NDArray[np.uint8]
    distances: npt.NDArray[np.float32]


def embedding_parts(embeddings: npt.NDArray[np.float32], seed: int) -> EmbeddingParts | None:
    """Of finite embeddings [m, d]; None where most of them are the same."""
    sigma = median_distance(embeddings, seed)
    if not sigma > 0:
        return None
    dimension = embeddings.shape[1]
    # W ~ N(0, 1/sigma^2)
    weights = np.random.default_rng([seed, 1]).standard_normal((FEATURES // 2, dimension)) / sigma
    sample = _spread(embeddings, max(100, min(FIT_ITEMS, 2**21 // dimension))).astype(np.float64)
    centres = _centres(sample, seed)
    mean, axes, precision = _axes(sample)
    blob = np.concatenate([weights, centres, axes, mean[None]]).astype("<f4").tobytes()
    draft = EmbeddingSpec(
        dimension=dimension,
        features=FEATURES,
        sigma=sigma,
        seed=seed,
        cells=len(centres),
        axes=len(axes),
        precision=precision,
        distance_edges=[1.0],
        projection=digest(blob),
    )
    seen = Projection(draft, projection_matrix(draft, blob)).project(embeddings)
    edges = np.unique(np.quantile(seen.distances, DISTANCES).astype(np.float32))
    expected = np.rint(seen.features.mean(axis=0, dtype=np.float64)).astype(int)
    spec = msgspec.structs.replace(draft, distance_edges=_floats(edges), expected=expected.tolist())
    return EmbeddingParts(
        spec, blob, seen.features.astype(np.int8), seen.cells.astype(np.uint8), seen.distances.astype(np.float32)
    )


def median_distance(embeddings: npt.NDArray[np.float32], seed: int) -> float:
    """The median heuristic: the median distance between two of up to ``SIGMA_ITEMS`` items, drawn with ``seed``."""
    if len(embeddings) < 2:
        return 0.0
    rows = np.random.default_rng(seed).permutation(len(embeddings))[:SIGMA_ITEMS]
    return float(np.median(pdist(embeddings[np.sort(rows)].astype(np.float64))))


def _centres(items: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """Centres of the Voronoi cells [cells, d]: k-means from a start by k-means++ (Arthur and Vassilvitskii, 2007).
    Items that are fewer places than cells leave some out."""
    count = min(CELLS, len(items) // CELL_ITEMS)
    if count < 2:
        return np.zeros((0, items.shape[1]))
    rng = np.random.default_rng([seed, 2])
    centres: npt.NDArray[np.float64] = items[rng.integers(len(items))][None]
    nearest = ((items - centres[0]) ** 2).sum(axis=1)
    while len(centres) < count and nearest.any():
        centres = np.concatenate([centres, items[rng.choice(len(items), p=nearest / nearest.sum())][None]])
        nearest = np.minimum(nearest, ((items - centres[-1]) ** 2).sum(axis=1))
    for _ in range(STEPS):
        cells = (items @ centres.T - 0.5 * (centres**2).sum(axis=1)).argmax(axis=1)
        there = np.unique(cells)
        centres = np.stack([items[cells == cell].mean(axis=0) for cell in there])
    return centres


def _axes(items: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """(mean [d], G [axes, d], precision) of a probabilistic PCA (Tipping and Bishop, 1999): its inverse covariance is
    precision * I - G'G. Directions of next to no variance have a hundredth of the mean one's."""
    m, d = items.shape
    mean = items.mean(axis=0)
    _, singular, directions = np.linalg.svd(items - mean, full_matrices=False)
    variances = singular**2 / m
    total = float(variances.sum())
    kept = min(AXES, d - 1, len(variances))
    rest = (total - float(variances[:kept].sum())) / max(d - kept, 1)
    precision = 1.0 / max(rest, 1e-2 * total / d)
    larger = variances[:kept] > 1.0 / precision
    scale = np.sqrt(np.maximum(precision - 1.0 / variances[:kept][larger], 0.0))
    return mean, directions[:kept][larger] * scale[:, None], precision


def confidence_edges(confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_] | None) -> list[float]:
    """Inner edges of the confidence bins: deciles, and where labels are known the threshold above which there are as
    many items as are correct (ATC; Garg et al., 2022), so that the histogram holds their number."""
    places = [*CONFIDENCES] if correct is None else [*CONFIDENCES, 1.0 - float(correct.mean())]
    return _floats(np.unique(np.quantile(confidence, places)))


def tabular(
    inputs: Mapping[str, Array], ranks: Mapping[str, int], names: Sequence[str] = (), categorical: Collection[str] = ()
) -> tuple[list[FeatureSpec], list[CategorySpec]]:
    """The columns of a tabular model's inputs, in order: numbers and categories; none where they are too many.

    ``inputs``, [m, ...] each: those of [m] and [m, columns] that the model takes as such (``ranks``) are tabular.
    ``names``: of all columns in order, else ``input[3]``. ``categorical``: names of columns that are categories though
    they are no integers of few values. Raises CompileError (code ``bad-data``) on too few or many names.
    """
    places = [
        (name, column, array.reshape(len(array), -1)[:, column])
        for name, array in inputs.items()
        if array.dtype.kind in "biuf" and array.ndim == ranks[name] and array.ndim <= 2
        for column in range(min(array.size // len(array), MAX_FEATURES + 1))
    ]
    if len(places) > MAX_FEATURES:
        return [], []
    if names and len(names) != len(places):
        raise CompileError(f"feature_names: expected {len(places)}, one a column, got {len(names)}", code="bad-data")
    features, categories = [], []
    for number, (input, column, values) in enumerate(places):
        alone = inputs[input].ndim == 1
        name = names[number] if names else input if alone else f"{input}[{column}]"
        finite = values[np.isfinite(values)].astype(np.float64)
        distinct = np.unique(finite)
        few = values.dtype.kind in "biu" and len(distinct) <= MAX_CATEGORIES
        if len(distinct) and (few or (name in categorical and len(distinct) <= 2 * MAX_CATEGORIES)):
            categories.append(CategorySpec(name=name, input=input, column=column, values=_floats(distinct)))
        elif len(distinct):
            features.append(_number(name, input, column, finite, distinct))
    return features, categories


def _number(
    name: str, input: str, column: int, values: npt.NDArray[np.float64], distinct: npt.NDArray[np.float64]
) -> FeatureSpec:
    lower, upper = np.quantile(values, [0.25, 0.75])
    reach = FENCE * (upper - lower)
    edges = (distinct[:-1] + distinct[1:]) / 2
    if len(distinct) > BINS:
        edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    low, high = min(distinct[0], lower - reach), max(distinct[-1], upper + reach)
    return FeatureSpec(name=name, input=input, column=column, edges=_floats(edges), low=float(low), high=float(high))


def _spread(items: npt.NDArray[np.float32], most: int) -> npt.NDArray[np.float32]:
    """At most so many items, evenly spaced over all."""
    step = math.ceil(len(items) / most)
    return items[::step]


def _floats(values: npt.NDArray[np.floating]) -> list[float]:
    return [float(value) for value in values]
