"""A reference: how long its memory is, and what a file must be to be one."""

from __future__ import annotations

import numpy as np
import pytest

from edgewise.sketch import SketchSpec
from edgewise_hub.monitoring import reference as references
from edgewise_hub.monitoring.drift import strata
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.memory import block_length
from edgewise_hub.monitoring.drift.reference import Reference
from edgewise_hub.monitoring.drift.strata import Stratum
from edgewise_hub.monitoring.drift.summary import Summary


def autoregressive(phi: float, m: int, seed: int) -> np.ndarray:
    """x_i = phi x_(i-1) + noise."""
    noise = np.random.default_rng(seed).normal(size=m + 100)
    for i in range(1, m + 100):
        noise[i] += phi * noise[i - 1]
    return noise[100:]


def test_a_series_without_memory_has_blocks_of_one():
    found = [block_length(np.random.default_rng(seed).normal(size=5000)) for seed in range(20)]
    assert np.median(found) == 1 and np.mean(found) < 3


def test_blocks_grow_with_memory_and_are_bounded():
    by_memory = [np.median([block_length(autoregressive(phi, 5000, seed)) for seed in range(5)]) for phi in (0.3, 0.8)]
    assert 10 < by_memory[0] < by_memory[1]
    assert block_length(autoregressive(0.999, 5000, 1)) == 5000 // 40


@pytest.mark.parametrize("series", [np.zeros(5000), np.arange(10.0)])
def test_a_constant_or_a_short_series_has_blocks_of_one(series):
    assert block_length(series) == 1


def save(path, arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def test_a_reference_is_loaded_as_it_was_written(tmp_path, digits):
    answers = digits.shuffled[:500]
    reference = references.load(save(tmp_path / "reference.npz", answers.arrays()), digits.spec)
    assert reference.m == 500
    assert np.array_equal(reference.features, answers.features)
    assert reference.metric.mean == pytest.approx(answers.features.mean(axis=0) / 256)
    assert reference.class_counts.sum() == reference.bin_counts.sum() == 500
    assert np.array_equal(reference.bin_counts, answers.summary().confidence)
    assert reference.accuracy == pytest.approx((answers.scores.argmax(axis=1) == answers.labels).mean())


def test_a_reference_without_labels_has_no_accuracy(tmp_path, digits):
    arrays = digits.shuffled[:500].arrays()
    del arrays["correct"], arrays["labels"]
    assert references.from_arrays(arrays, digits.spec).accuracy is None


def wrong(arrays, **changes):
    return {name: value for name, value in {**arrays, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("features", None, "expected features"),
        ("features", np.zeros((500, 8), np.int8), r"features: expected kind i of shape \[500, 256\]"),
        ("features", np.zeros((500, 256)), "got float64"),
        ("classes", np.full(500, 10, np.int16), "classes: expected 0 to 9"),
        ("classes", np.full(500, -1, np.int16), "classes: expected 0 to 9"),
        ("confidence", np.full(500, np.nan, np.float32), "expected shares"),
        ("confidence", np.full(500, 1.5, np.float32), "expected shares"),
        ("correct", np.ones(499, bool), "correct: expected kind b"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(digits, name, value, says):
    arrays = wrong(digits.shuffled[:500].arrays(), **{name: value})
    with pytest.raises(references.BadReferenceError, match=says):
        references.from_arrays(arrays, digits.spec)


def test_too_few_items_are_refused(digits):
    with pytest.raises(references.BadReferenceError, match="at least 200 items, got 100"):
        references.from_arrays(digits.shuffled[:100].arrays(), digits.spec)
    with pytest.raises(references.BadReferenceError, match="expected features, classes or confidence"):
        references.from_arrays({}, SketchSpec())


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04" + bytes(100)])
def test_a_damaged_file_is_refused(tmp_path, digits, data):
    path = tmp_path / "reference.npz"
    path.write_bytes(data)
    with pytest.raises(references.BadReferenceError, match="expected an npz"):
        references.load(path, digits.spec)


def test_pickles_are_refused(tmp_path, digits):
    arrays = digits.shuffled[:300].arrays() | {"features": np.array([{}] * 300, dtype=object)}
    with pytest.raises(references.BadReferenceError, match="expected an npz of plain arrays"):
        references.load(save(tmp_path / "reference.npz", arrays), digits.spec)


def test_a_file_that_unpacks_to_more_than_its_bound_is_refused(tmp_path, digits):
    path = tmp_path / "reference.npz"
    with path.open("wb") as file:
        np.savez_compressed(file, features=np.zeros((1_200_000, 256), np.int8))
    assert path.stat().st_size < references.MAX_FILE
    with pytest.raises(references.BadReferenceError, match="bytes unpacked"):
        references.load(path, digits.spec)


def in_runs(rng, runs, length):
    """Items that stay the same but for a little over ``length`` of them: features int8 [runs * length, 16]."""
    held = np.repeat(rng.normal(size=(runs, 16)), length, axis=0) + 0.1 * rng.normal(size=(runs * length, 16))
    return np.clip(np.rint(30 * held), -127, 127).astype(np.int8)


def test_a_run_is_held_against_runs_as_long_as_it_is():
    """Held against runs of 32, as runs of 25 once were, half of them would have a p-value above .65."""
    rng = np.random.default_rng(8)
    held = Baseline(Reference(m=5000, scale=30, features=in_runs(rng, 200, 25)), seed=1)
    stream = in_runs(rng, 4000, 25)
    windows = [stream[at : at + 25] for at in rng.integers(len(stream) - 25, size=400)]
    judged = [Summary(n=25, n_embedding=25, total=window.sum(axis=0, dtype=int)) for window in windows]
    p_values = [strata.embedding(Stratum("b", 1, held, one, 25.0)).p_value for one in judged]
    assert 0.42 < np.median(p_values) < 0.58


def test_items_that_depend_on_each_other_know_less_and_it_is_said_how_well_the_level_is_known():
    rng = np.random.default_rng(9)
    alone = Baseline(Reference(m=4000, scale=30, features=in_runs(rng, 4000, 1)), seed=1)
    runs = Baseline(Reference(m=4000, scale=30, features=in_runs(rng, 160, 25)), seed=1)
    assert alone.independent == 4000 and 100 < runs.independent < 400
    assert alone.level(0.05, 100, 100)[1] < 0.06
    low, high = runs.level(0.05, 100, 100)
    assert low < 0.045 < 0.055 < high
