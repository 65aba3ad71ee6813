"""What is wrong with what was given is one clear error, and the next run is unaffected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgewise_compiler.errors import CompileError
from edgewise_compiler.metric import user_metric
from edgewise_compiler.sources import OnnxSource

from .conftest import pictures

Spoil = Callable[[OnnxSource], OnnxSource]


def bytes_of(change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(source: OnnxSource) -> OnnxSource:
        source.model.write_bytes(change(source.model.read_bytes()))
        return source

    return spoil


def model_of(change: Callable[[onnx.ModelProto], None]) -> Spoil:
    def spoil(source: OnnxSource) -> OnnxSource:
        model = onnx.load_model(str(source.model))
        change(model)
        onnx.save_model(model, str(source.model))
        return source

    return spoil


def data_of(**arrays: Any) -> Spoil:
    def spoil(source: OnnxSource) -> OnnxSource:
        np.savez(source.data, **{"reference/inputs": pictures(50), **arrays})
        return source

    return spoil


def judged_by(function: Callable[..., float]) -> Spoil:
    return lambda source: replace(source, metric=user_metric("mine", function, "mine-1"))


def set_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 6


def spoil_weight(model: onnx.ModelProto) -> None:
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w2")
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, "w2"))


def raises(outputs: Any, labels: Any) -> float:
    raise KeyError("logits")


BAD: dict[str, tuple[Spoil, str, str]] = {
    "not a model": (bytes_of(lambda _: b"GIF89a, no model"), "bad-source", "tiny.onnx: "),
    "nothing": (bytes_of(lambda _: b""), "bad-source", "tiny.onnx: "),
    "truncated": (bytes_of(lambda data: data[: len(data) // 2]), "bad-source", "tiny.onnx: "),
    "opset too old": (model_of(set_opset), "bad-source", "opset 7 or newer, got 6; export it anew"),
    "NaN weights": (model_of(spoil_weight), "not-finite", "'w2'"),
    "empty calibration": (
        data_of(**{"calibrate/inputs": np.zeros((0, 1, 8, 8), np.float32)}),
        "bad-data",
        "calibrate: expected at least one item",
    ),
    "calibration of another shape": (
        data_of(**{"calibrate/inputs": np.zeros((9, 1, 8, 9), np.float32)}),
        "bad-data",
        "got float32 [9, 1, 8, 9]",
    ),
    "data that is no npz": (
        lambda source: replace(source, data=source.model),
        "bad-data",
        "expected an npz",
    ),
    "a metric that raises": (judged_by(raises), "bad-metric", "metric 'mine': KeyError"),
    "a metric of NaN": (judged_by(lambda outputs, labels: float("nan")), "bad-metric", "expected finite figures"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_one_error_that_says_so(what: str, tiny: Any, compiled: Any, elsewhere: Any) -> None:
    spoil, code, message = BAD[what]
    with pytest.raises(CompileError) as refused:
        compiled(spoil(tiny()), [elsewhere])
    assert refused.value.code == code and message in str(refused.value), str(refused.value)
    assert "\n" not in str(refused.value)


def test_after_all_of_them_the_cache_gives_what_a_fresh_one_gives(
    tiny: Any, compiled: Any, elsewhere: Any, tmp_path: Path
) -> None:
    for spoil, _, _ in BAD.values():
        with pytest.raises(CompileError):
            compiled(spoil(tiny()), [elsewhere])
    [after] = compiled(tiny(), [elsewhere], "after")
    [fresh] = compiled(tiny(), [elsewhere], "fresh", cache=tmp_path / "fresh-cache")
    assert after.manifest.blobs == fresh.manifest.blobs
