"""The quality check, the collector and the last requests, without a process around them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from agent_builders import HubKey, make_bundle

from edgewise.bundle import Bounds, Tensor
from edgewise.sketch import SketchSpec
from edgewise_agent.serving import quality
from edgewise_agent.serving.feedback import Answered, Requests
from edgewise_agent.serving.http import TensorIn, array_of
from edgewise_agent.windows.collector import Collector


def images(*values: float) -> dict[str, np.ndarray]:
    return {"image": np.stack([np.full((1, 4, 4), value, dtype=np.float32) for value in values])}


def test_counts_items_out_of_bounds(key: HubKey) -> None:
    manifest = make_bundle(key, 1).manifest
    assert quality.check(manifest, images(0.0, 0.5, 1.0)) == (3, 0)
    assert quality.check(manifest, images(0.5, 1.5, -0.1)) == (3, 2)


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
    with pytest.raises(quality.InputRefused) as refused:
        quality.check(make_bundle(key, 1).manifest, inputs)
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
    assert quality.check(manifest, inputs) == (3, 1)
    assert quality.check(manifest, {**inputs, "sr": np.array(44100)}) == (3, 3)
    with pytest.raises(quality.InputRefused) as refused:
        quality.check(manifest, {**inputs, "state": np.full((2, 3, 3), np.nan, dtype=np.float32)})
    assert (refused.value.count, refused.value.items) == ("nonfinite_inputs", 3)


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
    with pytest.raises(ValueError, match="input x"):
        array_of(TensorIn(name="x", datatype=datatype, shape=[1], data=data))  # type: ignore[arg-type]


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
    filling.label(correct=True)
    late = filling.poll(111.0, 5011.0, last=True)
    assert late is not None and (late.start, late.duration, late.counters.labelled) == (5010.5, 0.5, 1)


def test_empty_window_is_none_and_time_goes_on() -> None:
    filling = collector()
    assert filling.poll(115.0, 5015.0) is None
    filling.count("errors", 3)
    window = filling.poll(130.0, 5030.0)
    assert window is not None and window.start == 5015.0 and window.counters.errors == 3


def test_requests_are_bounded_by_number_and_by_bytes() -> None:
    requests = Requests(max_requests=3, max_input_bytes=10)
    for i in range(5):
        requests.add(f"r{i}", Answered(prediction=i, at=0.0, input=bytes(4)))
    assert len(requests) == 3 and requests.label("r1") is None
    found = requests.label("r2")
    assert found is not None and found[0].prediction == 2 and found[1] is None, "its input gave way"
    found = requests.label("r4")
    assert found is not None and found[1] == bytes(4)
    again = requests.label("r4")
    assert again is not None and again[0].labelled and again[1] is None
    requests.forget_inputs()
    found = requests.label("r3")
    assert found is not None and found[1] is None
