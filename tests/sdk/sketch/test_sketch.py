"""Sketches: merging is exact, bit for bit, in any order and however a stream was split; damage is refused."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch_builders import CLASSES, EMBEDDING, FEATURES, PROJECTION, SPEC, D, stream

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
from edgewise.sketch.base import MAX_COUNT
from edgewise.sketch.vector import LIMIT, encode
from edgewise.wire import codec

NAMES = ["latency", "embedding", "classes", "confidence", "features", "categories", "labels"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 50), st.integers(1, 6), st.randoms(use_true_random=False))
def test_merging_is_exact_in_any_order_and_any_split(seed, n, parts, random):
    data = stream(seed, n)
    whole = data.sketches(range(n)).encode()
    rows = list(range(n))
    random.shuffle(rows)
    pieces = [data.sketches(rows[i::parts]) for i in range(parts)]
    random.shuffle(pieces)
    merged = WindowSketches(SPEC)
    for piece in pieces:
        merged.merge(WindowSketches.decode(SPEC, piece.encode()))
    assert merged.encode() == whole


def test_a_batch_is_what_its_items_are_one_by_one_but_for_rounding():
    """Products of matrices round by their shape: a feature may fall to the next whole number, a distance into the next
    bin."""
    data = stream(5, 200)
    one_by_one = data.sketches(range(200))
    batch = WindowSketches(SPEC, PROJECTION)
    batch.update(data.latencies, data.scores, data.embeddings, data.inputs)
    batch.labels.update(data.labels, data.predictions)
    for name in set(NAMES) - {"embedding"}:
        assert batch.parts[name].encode() == one_by_one.parts[name].encode()
    assert (batch.embedding.n, batch.embedding.invalid) == (one_by_one.embedding.n, one_by_one.embedding.invalid)
    assert np.abs(batch.embedding.values - one_by_one.embedding.values).max() <= 2


numbers = st.one_of(st.integers(0, 100), st.integers(0, MAX_COUNT), st.integers(0, LIMIT))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=3, max_size=3))
def test_merging_is_associative_and_commutative_at_the_limit_too(counted):
    def of(*rows):
        merged = ClassSketch(3)
        for row in rows:
            one = ClassSketch(3)
            one.values[:] = row
            merged.merge(one)
        return merged

    a, b, c = counted
    left, right = of(a, b), of(c, b)
    left.merge(of(c))
    right.merge(of(a))
    assert (
        left.values.tolist()
        == right.values.tolist()
        == [min(sum(column), LIMIT) for column in zip(a, b, c, strict=True)]
    )
    assert left.saturated == tuple(
        f"classes.{name}" for name, part in (("invalid", left.values[:1]), ("counts", left.counts)) if LIMIT in part
    )


@settings(max_examples=40, deadline=None)
@given(st.permutations([1, 7, LIMIT // 140, LIMIT // 60, LIMIT // 40]))
def test_sums_that_have_no_room_left_say_so_in_any_order(sizes):
    merged = EmbeddingSketch(EMBEDDING)
    for n in sizes:
        one = EmbeddingSketch(EMBEDDING)
        one.values[0], one.total[:] = n, n * 60 * (-1) ** n
        merged.merge(one)
    assert merged.saturated == ("embedding.n",) and merged.n == LIMIT and not merged.total.any()


def test_a_count_at_its_limit_stays_there():
    full = LatencySketch()
    full.counts[3] = LIMIT
    full.update(16e-6 * 2**0.8)
    assert full.counts[3] == LIMIT and full.saturated == ("latency.counts",)
    window = WindowSketches(SPEC)
    window.latency.merge(full)
    assert window.saturated == ("latency.counts",)


def test_a_window_comes_back_as_it_was():
    data = stream(2, 300).sketches(range(300)).encode()
    assert sorted(data) == sorted(NAMES)
    assert WindowSketches.decode(SPEC, data).encode() == data


def test_what_counted_nothing_is_not_sent():
    assert WindowSketches(SPEC, PROJECTION).encode() == {}
    assert WindowSketches.decode(SPEC, {}).encode() == {}
    window = WindowSketches(SketchSpec())
    window.update(0.001, np.zeros((1, 3)), np.zeros((1, 3)), {"row": np.zeros((1, 3))})
    assert set(window.encode()) == {"latency"}


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("value", [0.0, 1.0, np.nan, -np.inf, 3e38])
def test_empty_constant_and_single_batches_are_counted(n, value):
    window = WindowSketches(SPEC, PROJECTION)
    inputs = {"row": np.full((n, 3), value, np.float32), "kind": np.full(n, value)}
    window.update([0.0] * n, np.full((n, CLASSES), value), np.full((n, D), value, np.float32), inputs)
    for part in (window.embedding, window.classes, window.confidence):
        assert part.n + part.invalid == n
    assert window.features.n == window.categories.n == n
    assert WindowSketches.decode(SPEC, window.encode()).encode() == window.encode()


def test_sketches_of_another_spec_never_merge_and_are_never_decoded():
    other = msgspec.structs.replace(EMBEDDING, projection="cd" * 32)
    with pytest.raises(SketchError, match="embedding sketch: expected one of the same spec"):
        EmbeddingSketch(EMBEDDING).merge(EmbeddingSketch(other))
    with pytest.raises(SketchError, match="window: expected sketches of the same spec"):
        WindowSketches(SPEC).merge(WindowSketches(SketchSpec(classes=CLASSES)))
    pairs = [
        (EmbeddingSketch(EMBEDDING), EmbeddingSketch, other),
        (ClassSketch(4), ClassSketch, 5),
        (ClassSketch(4), ConfidenceSketch, [0.1, 0.2, 0.3]),
        (ConfidenceSketch([0.1, 0.2]), ConfidenceSketch, [0.1, 0.25]),
        (LabelSketch(4), LabelSketch, 5),
        (FeatureSketch(SPEC.features), FeatureSketch, SPEC.features[:1]),
        (FeatureSketch(SPEC.features[:1]), FeatureSketch, [msgspec.structs.replace(SPEC.features[0], high=4.0)]),
        (CategorySketch(SPEC.categories), CategorySketch, [msgspec.structs.replace(SPEC.categories[0], values=[0.0])]),
    ]
    for sketch, kind, spec in pairs:
        with pytest.raises(SketchError, match="of another spec"):
            kind.decode(sketch.encode(), spec)


@given(st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=80, deadline=None)
def test_damage_is_refused_or_leaves_what_a_window_could_hold(seed, data):
    """No checksum: the broker and the envelope of a message keep bytes whole. But nothing damaged breaks the hub."""
    encoded = stream(seed, 6).sketches(range(6)).encode()
    name = data.draw(st.sampled_from(sorted(encoded)))
    raw = bytearray(encoded[name])
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = WindowSketches.decode(SPEC, {**encoded, name: bytes(raw)})
    except SketchError:
        return
    part = found.parts[name]
    assert part.n <= MAX_COUNT * len(part.values)
    if not part.noise:
        counts = found.embedding.cells if name == "embedding" else part.values
        assert counts.min() >= 0
        assert name != "embedding" or counts.sum() == part.n


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\x02", lambda _: b"", bytes])
def test_cut_off_lengthened_or_empty_bytes_are_refused(name, damage):
    encoded = stream(1, 5).sketches(range(5)).encode()
    with pytest.raises(SketchError):
        WindowSketches.decode(SPEC, {**encoded, name: damage(encoded[name]) if damage is not bytes else b"\xff" * 9000})


def embedding_bytes(n, distances, cells, total):
    blank = EmbeddingSketch(EMBEDDING)
    expected = [n * value for value in EMBEDDING.expected]
    return blank.tag + encode([0, n, 0, *distances, *cells, *np.subtract(total, expected).tolist()])


@pytest.mark.parametrize(
    ("n", "distances", "cells", "sums", "says"),
    [
        (1, [1, 0, 0, 0], [1, 0, 0, 0], 5000, "out of range for n = 1"),
        (-1, [0] * 4, [0] * 4, 0, "out of range"),
        (2, [1, 0, 0, 0], [2, 0, 0, 0], 0, "counts of n = 2 items, got 1"),
        (2, [2, 0, 0, 0], [3, -1, 0, 0], 0, "counts of n = 2"),
    ],
)
def test_numbers_that_no_window_gives_are_refused(n, distances, cells, sums, says):
    with pytest.raises(SketchError, match=says):
        EmbeddingSketch.decode(embedding_bytes(n, distances, cells, [sums] * FEATURES), EMBEDDING)


@pytest.mark.parametrize("counts", [[0, -1, 0, 0], [0, 2**41, 0, 0]])
def test_negative_or_absurd_counts_are_refused(counts):
    blank = ClassSketch(3)
    with pytest.raises(SketchError, match=r"negative|at most"):
        ClassSketch.decode(blank.tag + encode([0, *counts]), 3)
    with pytest.raises(SketchError, match="at most"):
        ClassSketch.decode(blank.tag + encode([-1, 0, 0, 0, 0]), 3)


def test_a_table_counts_each_item_once_for_each_feature():
    blank = FeatureSketch(SPEC.features)
    with pytest.raises(SketchError, match="as many items of each feature"):
        FeatureSketch.decode(blank.tag + encode([0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]), SPEC.features)


def test_names_that_the_spec_has_not_are_refused():
    encoded = stream(1, 3).sketches(range(3)).encode()
    with pytest.raises(SketchError, match=r"got \['more'\] besides"):
        WindowSketches.decode(SPEC, {**encoded, "more": b""})


def test_a_spec_travels_as_json_and_its_edges_ascend():
    assert codec.decode_json(codec.encode_json(SPEC), SketchSpec) == SPEC
    for part in ({"confidence_edges": [0.5, 0.5]}, {"categories": [{"name": "a", "input": "a", "values": [1.0, 0.0]}]}):
        with pytest.raises(codec.WireError, match="expected ascending numbers"):
            codec.decode_json(msgspec.json.encode({"schema": 1, **part}), SketchSpec)
