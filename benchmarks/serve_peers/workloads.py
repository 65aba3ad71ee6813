"""The models that are served, and one request of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from compile_tasks import minilm
from onnx import TensorProto, helper, numpy_helper

CLASSES, WIDTH, TOKENS, SENTENCE = 10, 64, 64, 384


@dataclass(frozen=True)
class Workload:
    """``write`` makes the ONNX file; ``inputs``: of one request; ``output``: the one that is asked for, [1, width]."""

    name: str
    title: str
    write: Callable[[Path], None]
    inputs: dict[str, np.ndarray]
    output: str
    width: int
    classes: int = 0

    def environment(self, model: Path) -> dict[str, str]:
        """What the peers read."""
        inputs = [[name, array.dtype.name, list(array.shape)] for name, array in self.inputs.items()]
        return {
            "BENCH_MODEL": str(model),
            "BENCH_NAME": self.name,
            "BENCH_INPUTS": json.dumps(inputs),
            "BENCH_OUTPUT": self.output,
        }


def network(path: Path) -> None:
    """Three convolutions, 96x96 -> 64-d embedding -> 10 scores."""
    rng = np.random.default_rng(0)
    shapes = {
        "c1": (16, 3, 3, 3),
        "c2": (32, 16, 3, 3),
        "c3": (32, 32, 3, 3),
        "w1": (32, WIDTH),
        "w2": (WIDTH, CLASSES),
    }
    weights = {name: rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()}
    nodes = []
    given = "image"
    for name in ("c1", "c2", "c3"):
        nodes.append(helper.make_node("Conv", [given, name], [f"{name}o"], pads=[1, 1, 1, 1], strides=[2, 2]))
        nodes.append(helper.make_node("Relu", [f"{name}o"], [f"{name}r"]))
        given = f"{name}r"
    nodes += [
        helper.make_node("GlobalAveragePool", [given], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "w2"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 96, 96])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", WIDTH]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def sentences(path: Path) -> None:
    """MiniLM-L3 with its pooled sentence embedding alone."""
    model = onnx.load(minilm())
    kept = [output for output in model.graph.output if output.name == "461"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, path)


def workloads() -> list[Workload]:
    """In the order in which they are measured."""
    rng = np.random.default_rng(1)
    image = rng.normal(size=(1, 3, 96, 96)).astype(np.float32)
    tokens = {
        "input_ids": rng.integers(1000, 30000, (1, TOKENS), dtype=np.int64),
        "attention_mask": np.ones((1, TOKENS), np.int64),
    }
    return [
        Workload("cnn", "CNN", network, {"image": image}, "scores", CLASSES, CLASSES),
        Workload("minilm", "MiniLM-L3", sentences, tokens, "461", SENTENCE),
    ]
