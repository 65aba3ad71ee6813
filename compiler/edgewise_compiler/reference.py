"""The reference: what the *compiled* bundle answered to the reference split, which windows are held against.

``reference.npz`` stays on the hub. m items, in the order of time; an array is absent where the model or the data has
nothing for it:

- ``features`` int8 [m, D]: fixed-point random Fourier features of each item (|z| * 256 <= 23 at D = 256);
- ``classes`` int16 [m]: predicted class (argmax of the scores);
- ``confidence`` float32 [m]: largest softmax probability;
- ``cells`` uint8 [m] and ``distances`` float32 [m]: Voronoi cell and squared distance of each item's embedding;
- ``feature_places`` and ``category_places`` int8 [m, columns]: where ``edgewise.sketch.features`` counts each column;
- ``labels`` int16 [m] and ``correct`` bool [m]: where labels came;
- ``nonfinite`` int64 []: items left out because an answer was not finite. The compiler refuses such a
  model, so it is 0.

Blocks for a block bootstrap are cut from it by whoever tests: the order is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewise.bundle import Bounds
from edgewise.sketch import CategorySketch, FeatureSketch, SketchSpec
from edgewise.sketch.features import columns as values_of
from edgewise.sketch.histogram import confidence
from edgewise_compiler.data import Array, Data
from edgewise_compiler.model import Answers
from edgewise_compiler.sketches import confidence_edges, embedding_parts, tabular

MAX_CLASSES = 1000
SMOKE_ITEMS = 4
MAX_FEATURES = 256
MARGIN = 0.25
"""Of a feature's range, on each side of it."""


@dataclass(frozen=True)
class Reference:
    """``projection``: the blob's bytes, or None without an embedding. ``arrays``: as in ``reference.npz``. ``smoke``:
    up to ``SMOKE_ITEMS`` real items by input name, batched where the model takes batches, else one feed."""

    spec: SketchSpec
    projection: bytes | None
    bounds: dict[str, Bounds]
    smoke: dict[str, Array]
    arrays: dict[str, Array]
    notes: list[str]


def make_reference(
    answers: Answers,
    data: Data,
    ranks: dict[str, int],
    *,
    batched: bool,
    seed: int,
    columns: Sequence[str] = (),
    categorical: Collection[str] = (),
) -> Reference:
    """Sketch spec, projection, bounds, smoke inputs and reference of one bundle.

    ``data`` is what ``answers`` answer. ``ranks``: number of axes of each input of the model; ``batched``: does it take
    several items at once? ``seed`` fixes what is drawn for the sketches. ``columns`` and ``categorical``: as in
    ``sketches.tabular``.
    """
    finite = answers.finite()
    notes: list[str] = []
    arrays: dict[str, Array] = {"nonfinite": np.array(int((~finite).sum()), dtype=np.int64)}
    classes, edges = None, list[float]()
    if answers.scores is None:
        notes.append("no output of class scores: no class sketch and no confidence sketch")
    else:
        scores = answers.scores[finite]
        certainty = confidence(scores)
        classes = scores.shape[1] if scores.shape[1] <= MAX_CLASSES else None
        if classes is None:
            notes.append(f"{scores.shape[1]} classes: no class sketch above {MAX_CLASSES}")
        arrays["classes"] = scores.argmax(axis=1).astype(np.int16)
        arrays["confidence"] = certainty.astype(np.float32)
        if data.labels is not None:
            arrays["labels"] = data.labels[finite].astype(np.int16)
            arrays["correct"] = arrays["classes"] == arrays["labels"]
        edges = confidence_edges(certainty, arrays.get("correct"))  # type: ignore[arg-type]
    embedding, projection = None, None
    if answers.embedding is None:
        notes.append("no output 'embedding': no embedding sketch, so feature drift is seen in the scores alone")
    else:
        parts = embedding_parts(answers.embedding[finite], seed)
        if parts is None:
            notes.append("embedding: the same for most items of the reference: no embedding sketch")
        else:
            embedding, projection = parts.spec, parts.projection
            arrays |= {"features": parts.features, "distances": parts.distances}
            if parts.spec.cells:
                arrays["cells"] = parts.cells
    features, categories = tabular(data.inputs, ranks, columns, categorical)
    inputs = data.take(np.flatnonzero(finite)).inputs
    if features:
        arrays["feature_places"] = FeatureSketch(features).places(values_of(features, inputs)).astype(np.int8)
    if categories:
        arrays["category_places"] = CategorySketch(categories).places(values_of(categories, inputs)).astype(np.int8)
    return Reference(
        spec=SketchSpec(
            embedding=embedding,
            classes=classes,
            confidence_edges=edges,
            features=features,
            categories=categories,
        ),
        projection=projection,
        bounds={name: _bounds(array) for name, array in data.inputs.items() if array.dtype.kind in "iuf"},
        smoke=smoke_items(data, finite, ranks, batched),
        arrays=arrays,
        notes=notes,
    )


def _bounds(items: Array) -> Bounds:
    finite = items[np.isfinite(items)] if items.dtype.kind == "f" else items
    if not finite.size:
        return Bounds(low=0.0, high=0.0)
    low, high = float(finite.min()), float(finite.max())
    return Bounds(low=low, high=high, features=_of_features(items, low, high))


def _of_features(items: Array, low: float, high: float) -> list[tuple[float, float]]:
    """Of floats [n, features], each feature's range, wider by ``MARGIN``; none of anything else. Many features are
    outside the bare range of some other items by chance; what is meant to be found is another unit, or another column.
    """
    if items.ndim != 2 or items.dtype.kind != "f" or not 0 < items.shape[1] <= MAX_FEATURES:
        return []
    columns = [column[np.isfinite(column)] for column in items.astype(np.float64).T]
    ranges = [(float(one.min()), float(one.max())) if one.size else (low, high) for one in columns]
    least = 0.1 * (high - low)  # of the whole input's range: a feature that never changed may
    margins = [MARGIN * max(above - below, least) for below, above in ranges]
    return [(below - margin, above + margin) for (below, above), margin in zip(ranges, margins, strict=True)]


def smoke_items(data: Data, finite: npt.NDArray[np.bool_], ranks: dict[str, int], batched: bool) -> dict[str, Array]:
    """One feed of up to ``SMOKE_ITEMS`` real items, spread over those that the model answers finitely."""
    rows = np.flatnonzero(finite)
    chosen = data.take(rows[np.unique(np.linspace(0, len(rows) - 1, SMOKE_ITEMS).astype(int))])
    return next(iter(chosen.feeds(ranks, SMOKE_ITEMS if batched else 1)))
