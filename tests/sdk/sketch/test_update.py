"""What each sketch counts of a batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sketch_builders import CELLS, CLASSES, EMBEDDING, FEATURES, PROJECTION, SPEC, D

from edgewise.errors import SketchError
from edgewise.sketch import (
    CategorySketch,
    ClassSketch,
    ConfidenceSketch,
    EmbeddingSketch,
    FeatureSketch,
    LabelSketch,
    LatencySketch,
    SketchSpec,
    WindowSketches,
)
from edgewise.sketch.embedding import Projection, features
from edgewise.sketch.features import columns
from edgewise.sketch.histogram import confidence
from edgewise.sketch.spec import CategorySpec, EmbeddingSpec, FeatureSpec, projection_matrix


def test_a_window_of_ten_classes_is_under_a_kilobyte():
    """64-d embeddings, 256 features, 32 cells, 14 bins of distance, 10 classes, a fifth of the items labelled."""
    rng = np.random.default_rng(2)
    wide = EmbeddingSpec(
        dimension=64, features=256, sigma=5.0, seed=1, projection="ab" * 32, cells=32, axes=16, precision=1.0,
        distance_edges=np.linspace(40, 90, 13).tolist(),
    )  # fmt: skip
    spec = SketchSpec(embedding=wide, classes=10, confidence_edges=[i / 10 for i in range(1, 10)])
    window = WindowSketches(spec, (rng.normal(size=(wide.rows, 64)) / 8).astype(np.float32))
    for n in (300, 19_700):
        window.update(rng.lognormal(-6, 0.3, n), rng.normal(size=(n, 10)), rng.normal(size=(n, 64)).astype(np.float32))
        labels, predictions = rng.integers(0, 10, (2, n // 5))
        window.labels.update(labels, predictions)
        assert sum(map(len, window.encode().values())) <= 1024


def test_the_mean_feature_is_the_kernel_within_its_rounding():
    """z(x)'z(y) estimates exp(-|x - y|^2 / (2 sigma^2)); rounding to 1/256 is not felt."""
    rng = np.random.default_rng(3)
    spec = EmbeddingSpec(dimension=D, features=1024, sigma=2.0, seed=1, projection="ab" * 32)
    projection = (rng.normal(size=(512, D)) / 2.0).astype(np.float32)
    x = rng.normal(size=(6, D)).astype(np.float32)
    z = features(spec, projection, x) / spec.scale
    exact = np.exp(-((x[:, None] - x[None]) ** 2).sum(axis=2) / (2 * 2.0**2))
    assert np.abs(z @ z.T - exact).max() < 0.12
    assert np.allclose(np.diag(z @ z.T), 1, atol=0.02)
    assert np.linalg.norm(z * spec.scale, axis=1).max() <= spec.scale + np.sqrt(1024) / 2, "what noise is measured in"


def test_the_nearest_centre_is_counted():
    x = np.random.default_rng(4).normal(size=(50, D)).astype(np.float32)
    centres = PROJECTION[FEATURES // 2 : FEATURES // 2 + CELLS]
    nearest = np.linalg.norm(x[:, None] - centres[None], axis=2).argmin(axis=1)
    sketch = EmbeddingSketch(EMBEDDING, PROJECTION)
    sketch.update(x)
    assert sketch.cells.tolist() == np.bincount(nearest, minlength=CELLS).tolist()


def test_the_distance_is_mahalanobis_under_probabilistic_pca():
    rng = np.random.default_rng(5)
    mixing, mean = rng.normal(size=(D, 3)), rng.normal(size=D)
    covariance = mixing @ mixing.T + 0.5 * np.eye(D)
    values, vectors = np.linalg.eigh(covariance)
    axes = (vectors[:, -3:] * np.sqrt(1 / 0.5 - 1 / values[-3:])).T
    spec = msgspec.structs.replace(EMBEDDING, precision=1 / 0.5)
    matrix = np.concatenate([PROJECTION[: FEATURES // 2 + CELLS], axes, mean[None]]).astype(np.float32)
    x = rng.multivariate_normal(mean, covariance, 20)
    exact = np.einsum("ij,jk,ik->i", x - mean, np.linalg.inv(covariance), x - mean)
    assert Projection(spec, matrix).project(x).distances == pytest.approx(exact, rel=1e-3)


def test_rows_that_are_not_finite_are_invalid():
    rng = np.random.default_rng(1)
    scores, embedded = rng.normal(size=(4, CLASSES)), rng.normal(size=(4, D)).astype(np.float32)
    scores[1, 2], embedded[2, 0], embedded[3, 1] = np.nan, np.inf, np.nan
    window = WindowSketches(SPEC, PROJECTION)
    window.update(0.01, scores, embedded)
    assert (window.classes.n, window.confidence.n, window.embedding.n, window.latency.n) == (3, 3, 2, 1)
    assert (window.classes.invalid, window.confidence.invalid, window.embedding.invalid) == (1, 1, 2)
    assert window.embedding.distances.sum() == window.embedding.cells.sum() == 2


@pytest.mark.parametrize("shape", [(3, D + 1), (D,), (2, 2, D)])
def test_embeddings_of_another_shape_are_refused(shape):
    with pytest.raises(SketchError, match=rf"expected shape \[n, {D}\]"):
        EmbeddingSketch(EMBEDDING, PROJECTION).update(np.zeros(shape, np.float32))


def test_scores_of_another_shape_are_refused():
    with pytest.raises(SketchError, match=rf"expected shape \[n, {CLASSES}\]"):
        ClassSketch(CLASSES).update(np.zeros((2, 3)))


def test_the_hub_only_merges():
    with pytest.raises(SketchError, match="expected a projection"):
        EmbeddingSketch(EMBEDDING).update(np.zeros((1, D), np.float32))


def test_a_projection_of_another_size_or_with_nan_is_refused():
    data = PROJECTION.astype("<f4").tobytes()
    assert np.array_equal(projection_matrix(EMBEDDING, data), PROJECTION)
    with pytest.raises(SketchError, match=f"expected {EMBEDDING.rows * D * 4} bytes, got 3"):
        projection_matrix(EMBEDDING, b"abc")
    with pytest.raises(SketchError, match="finite"):
        projection_matrix(EMBEDDING, np.float32(np.nan).tobytes() + data[4:])
    with pytest.raises(SketchError, match="expected shape"):
        EmbeddingSketch(EMBEDDING, PROJECTION[1:])


def test_confidence_is_the_largest_softmax_probability():
    scores = np.array([[0.0, 0.0], [1000.0, 0.0], [np.log(3), 0.0]])
    assert confidence(scores) == pytest.approx([0.5, 1.0, 0.75])
    assert confidence(np.zeros((0, 4))).shape == (0,)
    counted = ConfidenceSketch([0.6, 0.8])
    counted.update(np.log(np.array([[0.5, 0.5], [0.75, 0.25], [0.9, 0.1], [0.95, 0.05]])))
    assert counted.counts.tolist() == [1, 1, 2]


def test_a_class_never_seen_has_its_place():
    counted = ClassSketch(4)
    counted.update(np.array([[0.0, 1.0, 1.0, 0.0], [5.0, 1.0, 1.0, 0.0]]))
    assert counted.counts.tolist() == [1, 1, 0, 0], "the first of equals"


@pytest.mark.parametrize("seconds", [0.0, 16e-6, 1e-3, 0.05, 0.9])
def test_a_latency_quantile_is_the_upper_edge_of_its_bin(seconds):
    latency = LatencySketch()
    latency.update(seconds)
    found = latency.quantile(0.95)
    assert max(seconds, 16e-6) < found <= max(seconds, 16e-6) * 2**0.25 * (1 + 1e-9)


def test_latency_has_a_last_bin_and_no_quantile_of_nothing():
    latency = LatencySketch()
    assert np.isnan(latency.quantile(0.5))
    latency.update([3600.0, float("nan")])
    assert latency.counts[-1] == latency.n == latency.invalid == 1


def test_numbers_fall_between_their_edges_or_are_null_invalid_or_outliers():
    specs = [
        FeatureSpec(name="a", input="x", column=1, edges=[0.0, 1.0], low=-5.0, high=5.0),
        FeatureSpec(name="b", input="x", column=0, edges=[], low=0.0, high=1.0),
    ]
    rows = np.array([[0.5, -1.0], [0.5, 0.0], [np.nan, 0.5], [2.0, 1.0], [np.inf, 6.0], [-0.1, -np.inf]])
    sketch = FeatureSketch(specs)
    sketch.update(columns(specs, {"x": rows}))
    #                                 null, invalid, outlier, bins
    assert sketch.counts.tolist() == [[0, 1, 1, 1, 2, 1], [1, 1, 2, 2, 0, 0]]


def test_categories_are_counted_by_value_with_what_the_reference_has_not():
    specs = [
        CategorySpec(name="a", input="a", values=[1.0, 4.0, 9.0]),
        CategorySpec(name="b", input="b", column=1, values=[0.0, 1.0]),
    ]
    inputs = {"a": np.array([1, 9, 9, 3]), "b": np.array([[5, 0], [5, 1], [5, np.nan], [5, 1]])}
    sketch = CategorySketch(specs)
    sketch.update(columns(specs, inputs))
    #                                 null, unseen, values
    assert sketch.counts.tolist() == [[0, 1, 1, 0, 2], [1, 0, 1, 2, 0]]


def test_inputs_without_their_columns_are_refused():
    with pytest.raises(SketchError, match="expected an input 'row'"):
        columns(SPEC.features, {"kind": np.zeros(2)})
    with pytest.raises(SketchError, match="'load': input 'row' has no column 2"):
        columns(SPEC.features, {"row": np.zeros((2, 2))})
    with pytest.raises(SketchError, match=r"expected shape \[n, 2\]"):
        FeatureSketch(SPEC.features).update(np.zeros((2, 3)))


@pytest.mark.parametrize("classes", [3, 40])
def test_labels_are_counted_by_class_and_by_what_was_predicted(classes):
    sketch = LabelSketch(classes)
    sketch.update(np.array([0, 0, 2, 2, -1, classes]), np.array([0, 1, 2, 2, 0, 0]))
    assert (sketch.n, sketch.invalid, sketch.correct.sum()) == (4, 2, 3)
    assert sketch.arrived[:3].tolist() == [2, 0, 2] and sketch.correct[:3].tolist() == [1, 0, 2]
    if classes == 3:
        assert sketch.confusion.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 2]]
    else:
        assert sketch.confusion is None
    with pytest.raises(SketchError, match="expected a prediction for each"):
        sketch.update(np.array([0, 0]), np.array([0]))


def test_the_vectors_for_other_implementations_hold():
    root = Path(__file__).parents[3]
    ran = subprocess.run([sys.executable, root / "scripts" / "vectors.py", "--check"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
