"""Small networks as ONNX files, with data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewise_agent.runtimes import open_runtime
from edgewise_compiler.toolchains.litert import TensorSpec

Floats = npt.NDArray[np.float32]
OUTPUTS = ["file", "embedding/0"]
"""Names that are no names in Python, and one that ``np.savez`` does not take."""


@dataclass(frozen=True)
class Net:
    """One network. ``items``: float32 [n, ...]; ``answers``: onnxruntime's, by output name."""

    path: Path
    calibration: Path
    items: Floats
    answers: dict[str, Floats]

    @property
    def inputs(self) -> list[TensorSpec]:
        """Of batch 1."""
        return [TensorSpec("input.1", "float32", (1, *self.items.shape[1:]))]


def snr(expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    """Signal to noise, dB."""
    noise = float(((expected - got) ** 2).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(float((expected**2).sum()) / noise))


def _body(kind: str) -> tuple[list[onnx.NodeProto], dict[str, tuple[int, ...]], tuple[int, ...]]:
    """Nodes up to ``features`` [n, 32], shapes of the weights, shape of an item."""
    node = helper.make_node
    if kind == "mlp":
        return [node("Gemm", ["input.1", "w1", "b1"], ["h"]), node("Relu", ["h"], ["features"])], {
            "w1": (16, 32), "b1": (32,),
        }, (16,)  # fmt: skip
    if kind == "ratio":  # of what is often zero: int8 has nothing between 0 and a sixteenth there
        return (
            [
                node("Gemm", ["input.1", "w1", "b1"], ["h"]),
                node("Relu", ["h"], ["r"]),
                node("Gemm", ["input.1", "w2", "b2"], ["d"]),
                node("Relu", ["d"], ["e"]),
                node("Add", ["e", "little"], ["f"]),
                node("Div", ["r", "f"], ["features"]),
            ],
            {"w1": (16, 32), "b1": (32,), "w2": (16, 32), "b2": (32,), "little": (1,)},
            (16,),
        )
    shape, kernel = ((1, 12, 12), (3, 3)) if kind == "cnn" else ((6, 32), (5,))
    pads = [size // 2 for size in kernel] * 2
    nodes = [
        node("Conv", ["input.1", "w1", "b1"], ["c1"], name="conv1", pads=pads),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], name="depthwise", pads=pads, group=16),
        node("Relu", ["c2"], ["r2"]),
        node("Conv", ["r2", "w3", "b3"], ["c3"], name="conv3", pads=pads),
        node("Relu", ["c3"], ["r3"]),
        node("GlobalAveragePool", ["r3"], ["pooled"]),
        node("Flatten", ["pooled"], ["features"]),
    ]
    weights = {
        "w1": (16, shape[0], *kernel), "b1": (16,),
        "w2": (16, 1, *kernel), "b2": (16,),
        "w3": (32, 16, *kernel), "b3": (32,),
    }  # fmt: skip
    return nodes, weights, shape


def _model(kind: str) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    nodes, weights, shape = _body(kind)
    scores, embedding = OUTPUTS
    # The last layer reads the embedding, which is an output as well.
    nodes += [
        helper.make_node("Gemm", ["features", "w8", "b8"], ["h8"], name="inner"),
        helper.make_node("Relu", ["h8"], [embedding]),
        helper.make_node("Gemm", [embedding, "w9", "b9"], [scores], name="last"),
    ]
    weights |= {"w8": (32, 64), "b8": (64,), "w9": (64, 10), "b9": (10,)}
    random = np.random.default_rng(0)
    initializers = []
    for name, sizes in weights.items():
        fan = int(np.prod(sizes[1:])) if len(sizes) > 2 else sizes[0]
        scale = np.sqrt(2 / fan) if len(sizes) > 1 else 0.1
        values = np.full(sizes, 0.02) if name == "little" else random.normal(size=sizes) * scale
        initializers.append(numpy_helper.from_array(values.astype(np.float32), name))
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["n", *shape])],
        [
            helper.make_tensor_value_info(scores, TensorProto.FLOAT, ["n", 10]),
            helper.make_tensor_value_info(embedding, TensorProto.FLOAT, ["n", 64]),
        ],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), shape


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Net]:
    """``net(kind)``: cnn, conv1d, mlp or ratio."""

    def make(kind: str) -> Net:
        folder = tmp_path_factory.mktemp(kind)
        model, shape = _model(kind)
        onnx.save_model(model, str(folder / "model.onnx"))
        # Now and then an item is far larger: what a moving average of ranges forgets.
        items = np.random.default_rng(1).normal(size=(100, *shape)).astype(np.float32)
        items[::10] *= 4
        np.savez(folder / "calibration.npz", **{"input.1": items})
        answers = open_runtime("onnxruntime", folder / "model.onnx").infer({"input.1": items})
        return Net(folder / "model.onnx", folder / "calibration.npz", items, answers)  # type: ignore[arg-type]

    return make
