"""Run by ``peers`` in a process of its own: onnxruntime's and NNCF's quantization of an ONNX file. A job on stdin."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

Array = npt.NDArray[Any]
Feed = dict[str, Array]


def read(path: str) -> tuple[list[Feed], Array | None]:
    """Feeds of one item each, by input name, and the labels."""
    with np.load(path, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    labels = arrays.pop("labels", None)
    n = len(next(iter(arrays.values())))
    items = [{name.removeprefix("inputs/"): array[row : row + 1] for name, array in arrays.items()} for row in range(n)]
    return items, labels


def ort_static(job: dict[str, Any]) -> None:
    """``quantize_static`` with its defaults, after the preparation that its documentation asks for."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self, items: list[Feed]) -> None:
            self.items = iter(items)

        def get_next(self) -> Feed | None:
            return next(self.items, None)

    prepared = Path(job["out"]).with_suffix(".prepared.onnx")
    try:
        quant_pre_process(job["model"], str(prepared))
    except Exception:  # what it raises itself, with the advice to leave symbolic shapes out
        quant_pre_process(job["model"], str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), job["out"], Reader(read(job["calibrate"])[0]))
    prepared.unlink()


def nncf_ptq(job: dict[str, Any]) -> None:
    """``nncf.quantize``, or ``quantize_with_accuracy_control`` where the job has data to validate on."""
    import nncf
    import openvino

    on_openvino = "openvino" in job["peer"]
    model: Any = openvino.Core().read_model(job["model"]) if on_openvino else onnx.load(job["model"])
    options: dict[str, Any] = {"model_type": nncf.ModelType.TRANSFORMER} if job["transformer"] else {}
    calibration = nncf.Dataset(read(job["calibrate"])[0])
    if "validate" not in job:
        model = nncf.quantize(model, calibration, **options)
    else:
        items, labels = read(job["validate"])
        # What an item is judged by: its label, or what the float model gives for it.
        wanted = _infer(onnx.load(job["model"]), items, job["output"]) if labels is None else list(labels)
        validation = nncf.Dataset(list(zip(items, wanted, strict=True)), lambda item: item[0])

        def validate(candidate: Any, chosen: Iterable[tuple[Feed, Any]]) -> tuple[float, list[float]]:
            pairs = list(chosen)
            answers = _infer(candidate, [feed for feed, _ in pairs], job["output"])
            values = [_value(got, want) for got, (_, want) in zip(answers, pairs, strict=True)]
            return float(np.mean(values)), values

        model = nncf.quantize_with_accuracy_control(
            model, calibration, validation, validate, max_drop=job["max_drop"], **options
        )
    if on_openvino:
        openvino.save_model(model, job["out"], compress_to_fp16=False)
    else:
        onnx.save_model(model, job["out"])


def _value(got: Array, want: Any) -> float:
    if np.ndim(want) == 0:
        return float(got.argmax() == want)
    return float((got * want).sum() / (np.linalg.norm(got) * np.linalg.norm(want)))


def _infer(model: Any, items: list[Feed], output: str) -> list[Array]:
    """One output, item by item, of an ONNX model or a compiled OpenVINO model."""
    if not isinstance(model, onnx.ModelProto):
        return [model(item)[output][0] for item in items]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run([output], item)[0][0] for item in items]


if __name__ == "__main__":
    given = json.load(sys.stdin)
    (ort_static if given["peer"] == "ort_static" else nncf_ptq)(given)
