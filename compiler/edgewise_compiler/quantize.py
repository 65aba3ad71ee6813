"""fp32 -> int8: onnxruntime's static quantization, QDQ format, weights per channel, activations by MinMax.

Rules that hold here:
- calibration runs once; its ranges, kept in a file, serve every scheme;
- only ``OPERATORS`` are quantized: divisions, exponentials and scalings stay float, and a NaN stays a NaN;
- the last weighted layer before the scores stays float, and no weighted layer's output is rounded before the model's
  outputs: both outputs are float32 in value, not only in type.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgewise.profile import Scheme
from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.recipe import Array

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
OPERATORS = [
    *WEIGHTED, "Relu", "Clip", "LeakyRelu", "Add", "MaxPool", "AveragePool", "GlobalAveragePool",
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Pad",
]  # fmt: skip
ACTIVATIONS: dict[Scheme, Any] = {"u8s8": QuantType.QUInt8, "s8s8": QuantType.QInt8}
BATCH = 64


def prepare(model: Path, out: Path) -> None:
    """Infer shapes and fold what can be folded. Raises CompileError (code ``cannot-quantize``)."""
    try:
        quant_pre_process(str(model), str(out))
    except Exception:  # symbolic shape inference gives up on some graphs with errors of all kinds: do without it
        try:
            quant_pre_process(str(model), str(out), skip_symbolic_shape=True)
        except Exception as error:  # as above
            raise CompileError(f"cannot prepare for quantization: {one_line(error)}", code="cannot-quantize") from error


def calibrate(model: Path, input_name: str, items: Array, out: Path) -> None:
    """Write the range of every tensor over ``items`` [n, ...]. Raises CompileError (code ``cannot-quantize``)."""
    augmented = out.with_suffix(".augmented.onnx")
    try:
        calibrator = create_calibrator(
            model, OPERATORS, augmented_model_path=str(augmented), calibrate_method=CalibrationMethod.MinMax
        )
        calibrator.collect_data(_Reader(input_name, items))
        save_tensors_data(calibrator.compute_data(), out)
    except Exception as error:  # the quantizer raises built-in classes of all kinds
        raise CompileError(f"cannot calibrate: {one_line(error)}", code="cannot-quantize") from error
    finally:
        augmented.unlink(missing_ok=True)
    _check_ranges(out)


def quantize(model: Path, scores: str, ranges: Path, scheme: Scheme, out: Path) -> None:
    """Write the int8 model of one scheme, from a prepared model and its ranges. ``scores``: name of that output.

    Raises CompileError (code ``cannot-quantize``).
    """
    root = logging.getLogger()
    level = root.level
    try:
        root.setLevel(logging.ERROR)
        quantize_static(
            str(model),
            str(out),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            activation_type=ACTIVATIONS[scheme],
            weight_type=QuantType.QInt8,
            nodes_to_exclude=last_weighted(onnx.load_model(str(model)).graph, scores),
            calibrate_method=CalibrationMethod.MinMax,
            calibration_cache_path=str(ranges),
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
        )
    except Exception as error:  # the quantizer raises built-in classes of all kinds
        raise CompileError(f"cannot quantize ({scheme}): {one_line(error)}", code="cannot-quantize") from error
    finally:
        root.setLevel(level)


def last_weighted(graph: onnx.GraphProto, output: str) -> list[str]:
    """Names of the weighted nodes nearest to ``output``, walking back; none when there are no others to quantize."""
    producers = {name: node for node in graph.node for name in node.output}
    found: list[str] = []
    seen: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in WEIGHTED:
            found.append(node.name)
        else:
            waiting.extend(node.input)
    others = [node.name for node in graph.node if node.op_type in WEIGHTED and node.name not in found]
    return sorted(found) if others else []


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, name: str, items: Array) -> None:
        self._parts: Iterator[dict[str, Array]] = (
            {name: items[start : start + BATCH]} for start in range(0, len(items), BATCH)
        )

    def get_next(self) -> dict[str, Array] | None:
        return next(self._parts, None)


def _check_ranges(path: Path) -> None:
    """A range that is not finite would make a scale that is not: JSON writes such a number as NaN or Infinity."""

    def refuse(text: str) -> float:
        raise CompileError(
            f"calibration: an inner value is {text} on calibration data; clean the data, or guard the model",
            code="not-finite",
        )

    json.loads(path.read_text(), parse_constant=refuse)
