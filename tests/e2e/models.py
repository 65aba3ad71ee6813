"""Small ONNX models for the end-to-end tests, each with data that it was made for. No torch: they compile in seconds.

Four clusters in 16 dimensions; the scores are negative distances to their centres (up to a constant), the embedding is
what lies before them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

DIMENSION, CLASSES, NOISE = 16, 4, 1.2
CENTRES = np.random.default_rng(1).normal(size=(CLASSES, DIMENSION)).astype(np.float32)

Inputs = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def draw(n: int, seed: int, shift: float = 0.0) -> tuple[Inputs, Labels]:
    """Inputs [n, 16] and labels [n]; ``shift`` moves every input: a drifted world."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    inputs = CENTRES[labels] + NOISE * rng.normal(size=(n, DIMENSION)) + shift
    return inputs.astype(np.float32), labels


def write(
    folder: Path,
    name: str,
    *,
    nan_when_negative: bool = False,
    crash_on_minus_one: bool = False,
    padding_mb: int = 0,
    seed: int = 0,
    blur: float = 0.01,
) -> tuple[Path, Path]:
    """A model file and its npz of data.

    ``blur``: noise in its weights; 0.3 costs about a third of the accuracy.
    ``nan_when_negative``: a first feature below -100 gives 0/0 in the scores, which no reference item shows.
    ``crash_on_minus_one``: a first feature of exactly -1 divides INT_MIN by -1 in the runtime: the process dies.
    ``padding_mb``: weights that only make the file large.
    """
    rng = np.random.default_rng(seed)
    constants = {
        "w1": np.eye(DIMENSION, dtype=np.float32) + blur * rng.normal(size=(DIMENSION, DIMENSION)).astype(np.float32),
        "w2": (2 * CENTRES.T / NOISE**2).astype(np.float32),
        "b2": (-(CENTRES**2).sum(axis=1) / NOISE**2).astype(np.float32),
        "start": np.array([0]),
        "stop": np.array([1]),
        "axis": np.array([1]),
        "zero": np.array(0.0, np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["input", "w1"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "w2"], ["product"]),
        helper.make_node("Add", ["product", "b2"], ["plain"]),
        helper.make_node("Slice", ["input", "start", "stop", "axis"], ["feature"]),
    ]
    scores = "plain"
    if nan_when_negative:
        constants["limit"] = np.array(-100.0, np.float32)
        nodes += [
            helper.make_node("Greater", ["feature", "limit"], ["fine"]),
            helper.make_node("Cast", ["fine"], ["one"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["one", "one"], ["unit"]),
            helper.make_node("Mul", [scores, "unit"], ["checked"]),
        ]
        scores = "checked"
    if crash_on_minus_one:
        constants["lowest"] = np.array([-(2**31)], np.int32)
        constants["shift"] = np.array([0], np.int32)
        nodes += [
            helper.make_node("Round", ["feature"], ["rounded"]),
            helper.make_node("Equal", ["feature", "rounded"], ["whole"]),
            helper.make_node("Cast", ["whole"], ["whole_f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["rounded", "whole_f"], ["exact"]),
            helper.make_node("Cast", ["exact"], ["exact_i"], to=TensorProto.INT32),
            helper.make_node("Equal", ["exact_i", "shift"], ["none"]),
            helper.make_node("Cast", ["none"], ["none_i"], to=TensorProto.INT32),
            helper.make_node("Add", ["exact_i", "none_i"], ["divisor"]),
            helper.make_node("Div", ["lowest", "divisor"], ["quotient"]),
            helper.make_node("Cast", ["quotient"], ["quotient_f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["quotient_f", "zero"], ["nothing"]),
            helper.make_node("Add", [scores, "nothing"], ["survived"]),
        ]
        scores = "survived"
    if padding_mb:
        constants["padding"] = rng.normal(size=(padding_mb * 1024 * 1024 // (4 * CLASSES), CLASSES)).astype(np.float32)
        # Which row depends on the input: the compiler would fold a constant one, and with it the padding.
        nodes += [
            helper.make_node("ArgMax", [scores], ["row"], axis=1, keepdims=0),
            helper.make_node("Gather", ["padding", "row"], ["picked"]),
            helper.make_node("Mul", ["picked", "zero"], ["weightless"]),
            helper.make_node("Add", [scores, "weightless"], ["padded"]),
        ]
        scores = "padded"
    nodes.append(helper.make_node("Identity", [scores], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "clusters",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", DIMENSION])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", DIMENSION]),
        ],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    inputs, labels = draw(6000, seed=100)
    data = folder / f"{name}.npz"
    np.savez(data, inputs=inputs, labels=labels)
    return path, data
