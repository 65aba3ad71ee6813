"""The small network as files for the runtimes, and what else their tests open.

``network.tflite`` beside this file is litert-torch's own, made by ``make_tflite.py``.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from small_network import CLASSES, SIDE, WIDTH, weights

from edgewise_agent.runtimes.openvino import import_openvino

TFLITE = Path(__file__).parent / "network.tflite"


def onnx_model() -> bytes:
    """The network as ONNX, with a dynamic batch."""
    nodes = [
        helper.make_node("Conv", ["image", "wc", "bc"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "w1", "b1"], ["h"]),
        helper.make_node("Tanh", ["h"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "w2", "b2"], ["scores"]),
    ]
    inputs = [value("image", np.float32, ["n", 1, SIDE, SIDE])]
    outputs = [value("scores", np.float32, ["n", CLASSES]), value("embedding", np.float32, ["n", WIDTH])]
    return onnx_bytes(nodes, inputs, outputs, weights())


def value(name: str, dtype: npt.DTypeLike, shape: list[int | str]) -> onnx.ValueInfoProto:
    """An input or output of an ONNX graph."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def onnx_bytes(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, Any] | None = None,
) -> bytes:
    """An ONNX file."""
    initializers = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "network", inputs, outputs, initializers)
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()
    return data


def string_onnx() -> bytes:
    """A model that gives back the strings it is given."""
    text = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in ("text", "same")]
    return onnx_bytes([helper.make_node("Identity", ["text"], ["same"])], text[:1], text[1:])


def ir_zip(model: bytes, folder: Path) -> bytes:
    """OpenVINO IR of an ONNX file, as the zip that the runtime opens. ``folder``: for files on the way."""
    openvino = import_openvino()
    (folder / "source.onnx").write_bytes(model)
    openvino.save_model(
        openvino.Core().read_model(folder / "source.onnx"), folder / "model.xml", compress_to_fp16=False
    )
    return zipped({name: (folder / name).read_bytes() for name in ("model.xml", "model.bin")})


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()
