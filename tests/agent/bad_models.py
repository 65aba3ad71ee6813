"""Models that harm the process they run in: one ends it, one takes memory and keeps it."""

from __future__ import annotations

from typing import Any

import numpy as np
from agent_builders import CLASSES, SIDE, WIDTH
from onnx import NodeProto, TensorProto, helper, numpy_helper

HELD = 2**17
"""Numbers that ``hoards`` makes of an item: 512 KB."""


def crashes(at: int) -> bytes:
    """Ends its process (SIGFPE) where an image has a value in [at, at + 1): the least int64 is divided by -1, which
    x86-64 traps and onnxruntime does not check."""
    return _model(
        [
            helper.make_node("Cast", ["flat"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Sub", ["whole", "next"], ["divisor"]),
            helper.make_node("Div", ["least", "divisor"], ["quotient"]),
            helper.make_node("Cast", ["quotient"], ["noise"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["noise", "zero"], ["nothing"]),
            helper.make_node("Add", ["flat", "nothing"], ["kept"]),
        ],
        next=np.array(at + 1, np.int64),
        least=np.array(np.iinfo(np.int64).min, np.int64),
        zero=np.array(0, np.float32),
    )


def hoards() -> bytes:
    """Takes 512 KB an item, which onnxruntime's arena keeps for the next one."""
    return _model(
        [
            helper.make_node("MatMul", ["flat", "wide"], ["held"]),
            helper.make_node("ReduceMean", ["held"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("Add", ["flat", "mean"], ["kept"]),
        ],
        wide=np.zeros((SIDE * SIDE, HELD), np.float32),
    )


def _model(nodes: list[NodeProto], **constants: np.ndarray[Any, Any]) -> bytes:
    """image -> flat, what ``nodes`` make of it as ``kept`` -> scores, embedding: as the builders' bundles promise."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(SIDE * SIDE, WIDTH)).astype(np.float32),
        "w2": rng.normal(size=(WIDTH, CLASSES)).astype(np.float32),
        **constants,
    }
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            *nodes,
            helper.make_node("MatMul", ["kept", "w1"], ["embedding"]),
            helper.make_node("MatMul", ["embedding", "w2"], ["scores"]),
        ],
        "bad",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", WIDTH]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data
