"""The quality check, the collector and the last requests, without a process around them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from agent_builders import HubKey, make_bundle

from edgewise.bundle import Bounds, Tensor
from edgewise.sketch import SketchSpec
from edgewise.wire.quality import Quality
from edgewise_agent.serving.model import FEW, all_finite
from edgewise_agent.serving.oip.tensors import BadTensor, from_json
from edgewise_agent.serving.quality import Checker, InputRefused
from edgewise_agent.windows.collector import Collector


def images(*values: float) -> dict[str, np.ndarray]:
    return {"image": np.stack([np.full((1, 4, 4), value, dtype=np.float32) for value in values])}


def found(checker: Checker, inputs: dict[str, np.ndarray]) -> tuple[int, int]:
    checked = checker.check(inputs)
    return checked.items, checked.out_of_bounds


def test_counts_items_out_of_bounds(key: HubKey) -> None:
    checker = Checker(make_bundle(key, 1).manifest)
    assert found(checker, images(0.0, 0.5, 1.0)) == (3, 0)
    assert found(checker, images(0.5, 1.5, -0.1)) == (3, 2)


@pytest.mark.parametrize(
    ("inputs", "count", "items"),
    [
        ({}, "refused", 1),
        ({"other": np.zeros((1, 1, 4, 4), np.float32)}, "refused", 1),
        ({"image": np.zeros((1, 1, 4, 4), np.float64)}, "refused", 1),
        ({"image": np.zeros((1, 4, 4), np.float32)}, "refused", 1),
        ({"image": np.zeros((0, 1, 4, 4), np.float32)}, "refused", 1),
        ({"image": np.float32(1)}, "refused", 1),
        (images(0.5, np.nan, np.inf), "nonfinite_inputs", 2),
    ],
)
def test_refuses_and_names_the_counter(key: HubKey, inputs: dict[str, np.ndarray], count: str, items: int) -> None:
    with pytest.raises(InputRefused) as refused:
        Checker(make_bundle(key, 1).manifest).check(inputs)
    assert (refused.value.count, refused.value.items) == (count, items)


def test_scalars_and_states_belong_to_the_whole_request(key: HubKey) -> None:
    """As of silero VAD: input [-1, 4], state [2, -1, 3], sr []."""
    tensors = [
        Tensor(name="input", datatype="FP32", shape=[-1, 4]),
        Tensor(name="state", datatype="FP32", shape=[2, -1, 3]),
        Tensor(name="sr", datatype="INT64", shape=[]),
    ]
    bounds = {"input": Bounds(low=0, high=1), "sr": Bounds(low=8000, high=16000)}
    manifest = msgspec.structs.replace(make_bundle(key, 1).manifest, inputs=tensors, bounds=bounds)
    inputs = {
        "input": np.array([[0, 0, 0, 0], [0, 0, 0, 9], [0, 0, 0, 0]], dtype=np.float32),
        "state": np.zeros((2, 3, 3), dtype=np.float32),
        "sr": np.array(16000),
    }
    checker = Checker(manifest)
    assert found(checker, inputs) == (3, 1)
    assert found(checker, {**inputs, "sr": np.array(44100)}) == (3, 3)
    with pytest.raises(InputRefused) as refused:
        checker.check({**inputs, "state": np.full((2, 3, 3), np.nan, dtype=np.float32)})
    assert (refused.value.count, refused.value.items) == ("nonfinite_inputs", 3)


def table(key: HubKey, **policy: str) -> Checker:
    """Rows of three features."""
    tensors = [Tensor(name="x", datatype="FP32", shape=[-1, 3])]
    manifest = msgspec.structs.replace(
        make_bundle(key, 1).manifest, inputs=tensors, bounds={"x": Bounds(low=0, high=1)}
    )
    return Checker(manifest, Quality(**policy))  # type: ignore[arg-type]


def rows(*values: list[float]) -> dict[str, np.ndarray]:
    return {"x": np.array(values, dtype=np.float32)}


def test_missing_features_are_let_through_flagged_or_refused_and_counted_each(key: HubKey) -> None:
    holes = rows([0, np.nan, 1], [1, 1, 1], [np.nan, np.nan, 0])
    for policy, flags in (("count", ()), ("flag", ("missing: x",))):
        checker = table(key, missing=policy)
        checked = checker.check(holes)
        assert (checked.items, checked.nonfinite, checked.out_of_bounds, checked.flags) == (3, 2, 0, flags)
        assert checker.take() == {"missing": {"x[1]": 2, "x[0]": 1}}
    with pytest.raises(InputRefused) as refused:
        table(key).check(holes)
    assert (refused.value.count, refused.value.items) == ("nonfinite_inputs", 2)


def test_infinity_is_not_missing(key: HubKey) -> None:
    checker = table(key, missing="count")
    with pytest.raises(InputRefused):
        checker.check(rows([0, np.inf, np.nan]))
    assert checker.take() == {"not_finite": {"x[1]": 1}, "missing": {"x[2]": 1}}


def test_out_of_bounds_by_policy(key: HubKey) -> None:
    high = rows([0, 2, 3], [0, 0, 2])
    assert table(key).check(high).flags == ()
    checker = table(key, out_of_bounds="flag")
    assert checker.check(high).flags == ("out_of_bounds: x",)
    assert checker.take() == {"out_of_bounds": {"x[2]": 2, "x[1]": 1}}
    with pytest.raises(InputRefused, match="from 0 to 1") as refused:
        table(key, out_of_bounds="refuse").check(high)
    assert (refused.value.count, refused.value.items) == ("refused", 2)


def test_each_feature_has_a_range_of_its_own(key: HubKey) -> None:
    tensors = [Tensor(name="x", datatype="FP32", shape=[-1, 2])]
    bounds = {"x": Bounds(low=0, high=100, features=[(0, 1), (50, 100)])}
    manifest = msgspec.structs.replace(make_bundle(key, 1).manifest, inputs=tensors, bounds=bounds)
    checker = Checker(manifest, Quality(missing="count"))
    assert checker.check(rows([0.5, 60], [1, 100])).out_of_bounds == 0
    swapped = checker.check(rows([60, 0.5], [0.5, 60], [0.5, np.nan]))
    assert (swapped.out_of_bounds, swapped.nonfinite) == (1, 1), "what is missing is not outside"
    assert checker.take() == {"out_of_bounds": {"x[0]": 1, "x[1]": 1}, "missing": {"x[1]": 1}}
    with pytest.raises(InputRefused, match=r"x\[1\]: expected values from 50 to 100"):
        Checker(manifest, Quality(out_of_bounds="refuse")).check(rows([0.5, 20]))


def test_a_changed_schema_is_named(key: HubKey) -> None:
    more = {**rows([0, 0, 0]), "colour": np.zeros((1, 1))}
    checker = table(key, unknown_inputs="flag")
    checked = checker.check(more)
    assert set(checked.inputs) == {"x"} and checked.flags == ("unknown_inputs: colour",)
    for inputs in (more, {}, {"y": np.zeros((1, 3))}):
        checker = table(key)
        with pytest.raises(InputRefused, match="inputs: expected"):
            checker.check(inputs)
        assert checker.take()
    checker = table(key)
    for inputs in ({"x": np.zeros((1, 3))}, {"x": np.zeros((1, 4), np.float32)}, {}):
        with pytest.raises(InputRefused):
            checker.check(inputs)
    assert {problem: features["x"] for problem, features in checker.take().items()} == {
        "wrong_dtype": 1,
        "wrong_shape": 1,
        "dropped_inputs": 1,
    }


def test_names_the_worst_features_alone(key: HubKey) -> None:
    tensors = [Tensor(name="x", datatype="FP32", shape=[-1, 200])]
    checker = Checker(
        msgspec.structs.replace(make_bundle(key, 1).manifest, inputs=tensors, bounds={"x": Bounds(low=0, high=1)})
    )
    for i in range(100):
        checker.check({"x": np.where(np.arange(200) < i, 5, 0).astype(np.float32)[None]})
    worst = checker.take()["out_of_bounds"]
    assert len(worst) == 16 and worst["x[0]"] == 99 and "x[50]" not in worst


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("UINT16", [70000]),
        ("BF16", [1.0]),
        ("INT8", [300]),
        ("UINT8", [-1]),
        ("INT64", [1.5]),
        ("BOOL", [1]),
        ("FP32", [True]),
    ],
)
def test_json_data_must_be_of_its_datatype(datatype: str, data: list[object]) -> None:
    with pytest.raises(BadTensor, match="input x"):
        from_json("input x", datatype, [1], data)


def collector(window_s: float = 10.0) -> Collector:
    return Collector(
        model="m",
        version=1,
        bundle="b" * 64,
        spec=SketchSpec(classes=3),
        spec_digest="5" * 64,
        projection=None,
        window_s=window_s,
        now=100.0,
        clock=5000.0,
    )


def test_window_closes_after_its_length_and_the_next_begins() -> None:
    filling = collector()
    filling.record(2, 1, 0.001, np.eye(3, dtype=np.float32)[:2], None)
    filling.count("refused")
    assert filling.poll(109.9, 5009.9) is None
    window = filling.poll(110.5, 5010.5)
    assert window is not None and (window.start, window.duration) == (5000.0, 10.5)
    assert (window.counters.inferences, window.counters.out_of_bounds, window.counters.refused) == (2, 1, 1)
    filling.label(2, 2)
    late = filling.poll(111.0, 5011.0, last=True)
    assert late is not None and (late.start, late.duration, late.counters.labelled) == (5010.5, 0.5, 1)


def test_empty_window_is_none_and_time_goes_on() -> None:
    filling = collector()
    assert filling.poll(115.0, 5015.0) is None
    filling.count("errors", 3)
    window = filling.poll(130.0, 5030.0)
    assert window is not None and window.start == 5015.0 and window.counters.errors == 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [9, 3 * FEW])
def test_outputs_are_finite_or_not_whatever_their_squares_are(dtype: type[np.floating], size: int) -> None:
    largest = np.full((2, size), np.finfo(dtype).max, dtype)
    assert all_finite({"largest": largest, "none": largest[:0], "one": largest[0, 0, ...], "labels": np.arange(3)})
    for value in (np.nan, np.inf, -np.inf):
        for array in (largest.copy(), np.zeros((2, size), dtype)):
            array[1, size // 2] = value
            assert not all_finite({"fine": largest, "not": array})
            assert not all_finite({"not": array.T})
