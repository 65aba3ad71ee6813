"""The reference: what the *compiled* bundle answered to the reference split, which windows are held against.

``reference.npz`` stays on the hub. m items, in the order of time; an array is absent where the model or the data has
nothing for it:

- ``features`` int8 [m, D]: ``edgewise.sketch.embedding.features`` of each item (|z| * 256 <= 23 at D = 256);
- ``classes`` int16 [m]: predicted class (argmax of the scores);
- ``confidence`` float32 [m]: largest softmax probability;
- ``labels`` int16 [m] and ``correct`` bool [m]: where labels came;
- ``nonfinite`` int64 []: items left out because an answer was not finite. The compiler refuses such a
  model, so it is 0.

Blocks for a block bootstrap are cut from it by whoever tests: the order is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist

from edgewise.bundle import Bounds, digest
from edgewise.sketch.embedding import features
from edgewise.sketch.histogram import confidence
from edgewise.sketch.spec import EmbeddingSpec, SketchSpec, projection_matrix
from edgewise_compiler.model import Answers
from edgewise_compiler.recipe import Array

FEATURES = 256
SIGMA_ITEMS = 1000
QUANTILES = np.arange(1, 10) / 10
MAX_CLASSES = 1000
SMOKE_ITEMS = 4


@dataclass(frozen=True)
class Reference:
    """``projection``: the blob's bytes, or None without an embedding. ``arrays``: as in ``reference.npz``."""

    spec: SketchSpec
    projection: bytes | None
    bounds: Bounds
    smoke: Array
    arrays: dict[str, Array]
    notes: list[str]


def make_reference(answers: Answers, items: Array, labels: npt.NDArray[np.int64] | None, *, seed: int) -> Reference:
    """Sketch spec, projection, bounds, smoke inputs and reference of one bundle.

    ``items`` [m, ...] are what ``answers`` answer; ``labels`` int [m]. ``seed`` fixes sigma's subsample and W.
    """
    finite = answers.finite()
    scores = answers.scores[finite]
    certainty = confidence(scores)
    edges = np.unique(np.quantile(certainty, QUANTILES))
    classes = scores.shape[1] if scores.shape[1] <= MAX_CLASSES else None
    notes = [] if classes else [f"{scores.shape[1]} classes: no class sketch above {MAX_CLASSES}"]
    arrays: dict[str, Array] = {
        "classes": scores.argmax(axis=1).astype(np.int16),
        "confidence": certainty.astype(np.float32),
        "nonfinite": np.array(int((~finite).sum()), dtype=np.int64),
    }
    if labels is not None:
        arrays["labels"] = labels[finite].astype(np.int16)
        arrays["correct"] = arrays["classes"] == arrays["labels"]
    embedding, projection = None, None
    if answers.embedding is None:
        notes.append("no output 'embedding': no embedding sketch, so feature drift is seen in the scores alone")
    else:
        embedded = answers.embedding[finite]
        sigma = median_distance(embedded, seed)
        if sigma > 0:
            embedding, projection = draw(embedded.shape[1], sigma, seed)
            arrays["features"] = _features(embedding, projection, embedded)
        else:
            notes.append("embedding: the same for most items of the reference: no embedding sketch")
    finite_items = items[np.isfinite(items)] if items.dtype.kind == "f" else items
    return Reference(
        spec=SketchSpec(embedding=embedding, classes=classes, confidence_edges=[float(edge) for edge in edges]),
        projection=projection,
        bounds=Bounds(low=float(finite_items.min()), high=float(finite_items.max())),
        smoke=smoke_items(items, finite),
        arrays=arrays,
        notes=notes,
    )


def median_distance(embeddings: npt.NDArray[np.float32], seed: int) -> float:
    """The median heuristic: the median distance between two of up to ``SIGMA_ITEMS`` items, drawn with ``seed``."""
    if len(embeddings) < 2:
        return 0.0
    rows = np.random.default_rng(seed).permutation(len(embeddings))[:SIGMA_ITEMS]
    return float(np.median(pdist(embeddings[np.sort(rows)].astype(np.float64))))


def draw(dimension: int, sigma: float, seed: int) -> tuple[EmbeddingSpec, bytes]:
    """The spec and W ~ N(0, 1/sigma^2), float32 little-endian [D/2, d], drawn once; everybody else reads the blob."""
    matrix = np.random.default_rng([seed, 1]).standard_normal((FEATURES // 2, dimension)) / sigma
    projection = matrix.astype("<f4").tobytes()
    spec = EmbeddingSpec(dimension=dimension, features=FEATURES, sigma=sigma, seed=seed, projection=digest(projection))
    return spec, projection


def _features(spec: EmbeddingSpec, projection: bytes, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    values = features(spec, projection_matrix(spec, projection), embeddings)
    return values.astype(np.int8)


def smoke_items(items: Array, finite: npt.NDArray[np.bool_]) -> Array:
    """Up to ``SMOKE_ITEMS`` real items [k, ...], spread over those that the model answers finitely."""
    rows = np.flatnonzero(finite)
    chosen: Array = items[rows[np.unique(np.linspace(0, len(rows) - 1, SMOKE_ITEMS).astype(int))]]
    return chosen
