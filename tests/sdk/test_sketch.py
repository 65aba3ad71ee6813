"""Sketches: merging is exact, bit for bit, in any order and however a stream was split; damage is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.errors import SketchError
from edgewise.sketch import (
    ClassSketch,
    ConfidenceSketch,
    EmbeddingSketch,
    LatencySketch,
    SketchSpec,
    WindowSketches,
    varint,
)
from edgewise.sketch import embedding as embeddings
from edgewise.sketch import spec as specs
from edgewise.sketch.histogram import confidence
from edgewise.wire import codec

D, FEATURES, CLASSES = 8, 32, 5
EMBEDDING = specs.EmbeddingSpec(dimension=D, features=FEATURES, sigma=2.0, seed=1, projection="ab" * 32)
SPEC = SketchSpec(embedding=EMBEDDING, classes=CLASSES, confidence_edges=[0.3, 0.5, 0.9])
PROJECTION = (np.random.default_rng(0).normal(size=(FEATURES // 2, D)) / 2).astype(np.float32)


def stream(seed, n):
    """Scores [n, CLASSES], embeddings [n, D] and latencies [n] of n requests."""
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, CLASSES)).astype(np.float32),
        rng.normal(size=(n, D)).astype(np.float32),
        rng.exponential(0.01, n),
    )


def sketch(scores, embedded, latencies, rows):
    window = WindowSketches(SPEC, PROJECTION)
    for row in rows:
        window.update(float(latencies[row]), scores[row : row + 1], embedded[row : row + 1])
    return window


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(1, 6), st.randoms(use_true_random=False))
def test_merging_is_exact_in_any_order_and_any_split(seed, n, parts, random):
    data = stream(seed, n)
    whole = sketch(*data, range(n)).encode()
    rows = list(range(n))
    random.shuffle(rows)
    pieces = [sketch(*data, rows[i::parts]) for i in range(parts)]
    random.shuffle(pieces)
    merged = WindowSketches(SPEC)
    for piece in pieces:
        merged.merge(WindowSketches.decode(SPEC, piece.encode()))
    assert merged.encode() == whole


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_merging_groups_in_any_way_is_the_same(seed):
    a, b, c = (sketch(*stream(seed + i, 7), range(7)) for i in range(3))
    left, right = WindowSketches(SPEC), WindowSketches(SPEC)
    for part in (a, b, c):
        left.merge(part)
    c.merge(b)
    right.merge(c)
    right.merge(a)
    assert left.encode() == right.encode()


def test_a_window_comes_back_as_it_was_and_is_about_a_kilobyte():
    wide = specs.EmbeddingSpec(dimension=64, features=256, sigma=5.0, seed=1, projection="ab" * 32)
    spec = SketchSpec(embedding=wide, classes=10, confidence_edges=[i / 10 for i in range(1, 10)])
    rng = np.random.default_rng(2)
    window = WindowSketches(spec, (rng.normal(size=(128, 64)) / 5).astype(np.float32))
    window.update(0.002, rng.normal(size=(300, 10)), rng.normal(size=(300, 64)))
    data = window.encode()
    assert WindowSketches.decode(spec, data).encode() == data
    assert sum(map(len, data.values())) < 1024


def test_the_mean_feature_is_the_kernel_within_its_rounding():
    """z(x)'z(y) estimates exp(-|x - y|^2 / (2 sigma^2)); rounding to 1/256 is not felt."""
    rng = np.random.default_rng(3)
    spec = specs.EmbeddingSpec(dimension=D, features=1024, sigma=2.0, seed=1, projection="ab" * 32)
    projection = (rng.normal(size=(512, D)) / 2.0).astype(np.float32)
    x = rng.normal(size=(6, D)).astype(np.float32)
    z = embeddings.features(spec, projection, x) / spec.scale
    exact = np.exp(-((x[:, None] - x[None]) ** 2).sum(axis=2) / (2 * 2.0**2))
    assert np.abs(z @ z.T - exact).max() < 0.12
    assert np.allclose(np.diag(z @ z.T), 1, atol=0.02)


def test_rows_that_are_not_finite_are_left_out():
    scores, embedded, _ = stream(1, 4)
    scores[1, 2], embedded[2, 0] = np.nan, np.inf
    window = WindowSketches(SPEC, PROJECTION)
    window.update(0.01, scores, embedded)
    assert (window.classes.n, window.confidence.n, window.embedding.n, window.latency.n) == (3, 3, 3, 1)


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


def test_sketches_of_another_spec_never_merge():
    other = specs.EmbeddingSpec(dimension=D, features=FEATURES, sigma=2.5, seed=1, projection="ab" * 32)
    with pytest.raises(SketchError, match="same spec"):
        EmbeddingSketch(EMBEDDING).merge(EmbeddingSketch(other))
    with pytest.raises(SketchError, match="same spec"):
        WindowSketches(SPEC).merge(WindowSketches(SketchSpec(classes=CLASSES)))
    with pytest.raises(SketchError, match="expected 5 bins"):
        ClassSketch(5).merge(ClassSketch(6))
    with pytest.raises(SketchError, match="of ClassSketch"):
        ClassSketch(4).merge(ConfidenceSketch([0.1, 0.2, 0.3]))


def test_a_spec_without_a_part_has_no_sketch_of_it():
    window = WindowSketches(SketchSpec())
    window.update(0.001, np.zeros((1, 3)), np.zeros((1, 3)))
    assert set(window.encode()) == {"latency"}


@given(st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=60, deadline=None)
def test_damage_is_refused_or_leaves_what_a_window_could_hold(seed, data):
    """No checksum: the broker and the envelope of a message keep bytes whole. But nothing damaged breaks the hub."""
    encoded = sketch(*stream(seed, 5), range(5)).encode()
    name = data.draw(st.sampled_from(sorted(encoded)))
    raw = bytearray(encoded[name])
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = WindowSketches.decode(SPEC, {**encoded, name: bytes(raw)})
    except SketchError:
        return
    assert min(found.classes.counts.min(), found.confidence.counts.min(), found.latency.counts.min()) >= 0
    largest = max(found.embedding.n, 0) * (EMBEDDING.scale * np.sqrt(2 / FEATURES) + 0.5)
    assert np.abs(found.embedding.total).max() <= largest


@pytest.mark.parametrize("name", ["embedding", "classes", "confidence", "latency"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\0", lambda _: b""])
def test_cut_off_lengthened_or_empty_bytes_are_refused(name, damage):
    encoded = sketch(*stream(1, 5), range(5)).encode()
    with pytest.raises(SketchError, match=r"expected \d+ integers"):
        WindowSketches.decode(SPEC, {**encoded, name: damage(encoded[name])})


def test_sums_that_so_few_rows_cannot_give_are_refused():
    with pytest.raises(SketchError, match="out of range for n = 1"):
        EmbeddingSketch.decode(EMBEDDING, varint.encode([1, *[5000] * FEATURES]))
    with pytest.raises(SketchError, match="out of range"):
        EmbeddingSketch.decode(EMBEDDING, varint.encode([-1, *[0] * FEATURES]))


@pytest.mark.parametrize("counts", [[-1, 0, 0], [2**41, 0, 0]])
def test_negative_or_absurd_counts_are_refused(counts):
    with pytest.raises(SketchError, match="negative or absurd"):
        ClassSketch.decode(3, varint.encode(counts))


def test_names_that_are_not_the_specs_are_refused():
    encoded = sketch(*stream(1, 3), range(3)).encode()
    for changed in ({**encoded, "more": b""}, {name: encoded[name] for name in ("latency", "classes")}):
        with pytest.raises(SketchError, match="expected sketches"):
            WindowSketches.decode(SPEC, changed)


def test_confidence_is_the_largest_softmax_probability():
    scores = np.array([[0.0, 0.0], [1000.0, 0.0], [np.log(3), 0.0]])
    assert confidence(scores) == pytest.approx([0.5, 1.0, 0.75])
    assert confidence(np.zeros((0, 4))).shape == (0,)


def test_confidences_are_counted_between_their_edges():
    counted = ConfidenceSketch([0.6, 0.8])
    counted.update(np.log(np.array([[0.5, 0.5], [0.75, 0.25], [0.9, 0.1], [0.95, 0.05]])))
    assert counted.counts.tolist() == [1, 1, 2]


@pytest.mark.parametrize("seconds", [0.0, 16e-6, 1e-3, 0.05, 0.9])
def test_a_latency_quantile_is_the_upper_edge_of_its_bin(seconds):
    latency = LatencySketch()
    latency.update(seconds)
    found = latency.quantile(0.95)
    assert max(seconds, 16e-6) < found <= max(seconds, 16e-6) * 2**0.25 * (1 + 1e-9)


def test_latency_has_a_last_bin_and_no_quantile_of_nothing():
    latency = LatencySketch()
    assert np.isnan(latency.quantile(0.5))
    latency.update(3600.0)
    assert latency.counts[-1] == 1


@given(st.lists(st.integers(-(2**62) + 1, 2**62 - 1), max_size=50))
def test_varints_come_back(values):
    assert varint.decode(varint.encode(values), len(values)) == values


@given(st.binary(max_size=60), st.integers(0, 20))
def test_any_bytes_are_so_many_integers_or_an_error(data, count):
    try:
        values = varint.decode(data, count)
    except SketchError:
        return
    assert len(values) == count
    assert all(-(2**63) <= value < 2**63 for value in values), "each fits an int64"


def test_small_numbers_take_a_byte_and_endless_ones_are_refused():
    assert len(varint.encode([0, 63, -64])) == 3
    with pytest.raises(SketchError, match="more than 9 bytes"):
        varint.decode(b"\xff" * 10, 1)


def test_a_spec_travels_as_json_and_a_projection_as_floats():
    assert codec.decode_json(codec.encode_json(SPEC), SketchSpec) == SPEC
    assert np.array_equal(specs.projection_matrix(EMBEDDING, PROJECTION.astype("<f4").tobytes()), PROJECTION)


def test_a_projection_of_another_size_or_with_nan_is_refused():
    with pytest.raises(SketchError, match=f"expected {FEATURES // 2 * D * 4} bytes, got 3"):
        specs.projection_matrix(EMBEDDING, b"abc")
    broken = PROJECTION.copy()
    broken[0, 0] = np.nan
    with pytest.raises(SketchError, match="finite"):
        specs.projection_matrix(EMBEDDING, broken.tobytes())
