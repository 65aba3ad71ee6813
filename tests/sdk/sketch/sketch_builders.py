"""One spec with every sketch, and streams of requests for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.sketch.spec import CategorySpec, EmbeddingSpec, FeatureSpec

D, FEATURES, CLASSES, CELLS, AXES = 8, 32, 5, 4, 3
EMBEDDING = EmbeddingSpec(
    dimension=D, features=FEATURES, sigma=2.0, seed=1, projection="ab" * 32, cells=CELLS, axes=AXES, precision=1.5,
    distance_edges=[4.0, 8.0, 16.0], expected=[(7 * i) % 41 - 20 for i in range(FEATURES)],
)  # fmt: skip
SPEC = SketchSpec(
    embedding=EMBEDDING,
    classes=CLASSES,
    confidence_edges=[0.3, 0.5, 0.9],
    features=[
        FeatureSpec(name="heat", input="row", column=0, edges=[-0.5, 0.0, 0.5], low=-3.0, high=3.0),
        FeatureSpec(name="load", input="row", column=2, edges=[0.1], low=-3.0, high=3.0),
    ],
    categories=[CategorySpec(name="kind", input="kind", values=[0.0, 1.0, 7.0])],
)
PROJECTION = (np.random.default_rng(0).normal(size=(EMBEDDING.rows, D)) / 2).astype(np.float32)


@dataclass(frozen=True)
class Stream:
    """n requests of one item each, some of them not finite."""

    scores: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32]
    latencies: npt.NDArray[np.float64]
    inputs: dict[str, npt.NDArray[Any]]
    labels: npt.NDArray[np.int64]
    predictions: npt.NDArray[np.int64]

    def sketches(self, rows: list[int] | range) -> WindowSketches:
        """Some of them, request by request."""
        window = WindowSketches(SPEC, PROJECTION)
        for row in rows:
            at = slice(row, row + 1)
            window.update(
                float(self.latencies[row]), self.scores[at], self.embeddings[at],
                {name: array[at] for name, array in self.inputs.items()},
            )  # fmt: skip
            assert window.labels is not None
            window.labels.update(self.labels[at], self.predictions[at])
        return window


def stream(seed: int, n: int) -> Stream:
    """The same for the same seed."""
    rng = np.random.default_rng(seed)
    scores, embeddings, rows = (rng.normal(size=(n, width)).astype(np.float32) for width in (CLASSES, D, 3))
    for array in (scores, embeddings, rows):
        array[rng.random(array.shape) < 0.02] = rng.choice([np.nan, np.inf, 1e9])
    return Stream(
        scores=scores,
        embeddings=embeddings,
        latencies=rng.exponential(0.01, n),
        inputs={"row": rows, "kind": rng.choice([0, 1, 7, 8], size=n)},
        labels=rng.integers(-1, CLASSES + 1, n),
        predictions=rng.integers(0, CLASSES, n),
    )
