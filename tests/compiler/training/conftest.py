"""A small residual net on the digits of scikit-learn, as ONNX with BatchNorm, trained in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

from edgewise_compiler.data import Data
from edgewise_compiler.passes import Work, find
from edgewise_compiler.training.onnx_torch import to_module, write_back


class Graph:
    """Writes an ONNX graph node by node, with random weights."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, *shape: int, fill: float | None = None) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        value = self.random.normal(size=shape) * (2 / fan_in) ** 0.5 if fill is None else np.full(shape, fill)
        self.weights.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def node(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, name: str, i: int, o: int, *, group: int = 1, kernel: int = 3, **attributes: Any) -> str:
        """Conv without bias, then BatchNorm."""
        weight = self.weight(f"{name}.w", o, i // group, kernel, kernel)
        y = self.node("Conv", [x, weight], name, group=group, pads=[kernel // 2] * 4, **attributes)
        parts = [self.weight(f"{name}.{part}", o, fill=fill) for part, fill in zip("sbmv", (1, 0, 0, 1), strict=True)]
        return self.node("BatchNormalization", [y, *parts], f"{name}.bn")

    def model(self, shape: list[int | str], outputs: dict[str, int]) -> onnx.ModelProto:
        def info(name: str, dims: list[int | str]) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

        graph = helper.make_graph(
            self.nodes,
            "net",
            [info("input", shape)],
            [info(name, [shape[0], width]) for name, width in outputs.items()],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def residual_net(width: int = 16, seed: int = 0, batch: int | str = "batch") -> onnx.ModelProto:
    """[batch, 1, 8, 8] -> scores [batch, 10], embedding [batch, 2 width]: residual, then depthwise separable."""
    g = Graph(seed)
    stem = g.node("Relu", [g.conv("input", "stem", 1, width)], "stem.relu")
    inner = g.node("Relu", [g.conv(stem, "block1", width, width)], "block1.relu")
    added = g.node("Add", [g.conv(inner, "block2", width, width), stem], "add")
    x = g.node("Relu", [added], "add.relu")
    x = g.node("Relu", [g.conv(x, "down", width, 2 * width, strides=[2, 2])], "down.relu")
    x = g.node("Relu", [g.conv(x, "deep", 2 * width, 2 * width, group=2 * width)], "deep.relu")
    x = g.node("Relu", [g.conv(x, "point", 2 * width, 2 * width, kernel=1)], "point.relu")
    x = g.node("Flatten", [g.node("GlobalAveragePool", [x], "pool")], "embedding")
    g.node("Gemm", [x, g.weight("head.w", 10, 2 * width), g.weight("head.b", 10, fill=0)], "scores", transB=1)
    return g.model([batch, 1, 8, 8], {"scores": 10, "embedding": 2 * width})


def fit(model: onnx.ModelProto, data: Data, epochs: int) -> onnx.ModelProto:
    """Train on labels from scratch."""
    assert data.labels is not None
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = to_module(model).train()
    x, y = torch.from_numpy(np.asarray(data.inputs["input"])), torch.from_numpy(data.labels)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * -(-len(x) // 64))
    at = list(module.output_names).index("scores")
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[rows])[at], y[rows]).backward()
            optimizer.step()
            schedule.step()
    return write_back(module.eval(), model)


@dataclass
class Digits:
    """Training and test items, and a trained net in a file."""

    train: Data
    test: Data
    model: Path

    def accuracy(self, model: Path) -> float:
        scores = self.run(model, self.test)["scores"]
        assert self.test.labels is not None
        return float((scores.argmax(1) == self.test.labels).mean())

    @staticmethod
    def run(model: Path, data: Data, options: onnxruntime.RunOptions | None = None) -> dict[str, npt.NDArray[Any]]:
        quiet = onnxruntime.SessionOptions()
        quiet.intra_op_num_threads, quiet.log_severity_level = 1, 3
        session = onnxruntime.InferenceSession(str(model), quiet, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(data.inputs), options), strict=True))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """1,300 items to train on, 497 to test on."""
    loaded = load_digits()
    x = (loaded.images[:, None] / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    data = Data({"input": x[order]}, loaded.target[order].astype(np.int64))
    train, test = data.take(slice(0, 1300)), data.take(slice(1300, None))
    path = tmp_path_factory.mktemp("digits") / "model.onnx"
    path.write_bytes(fit(residual_net(), train, 12).SerializeToString(deterministic=True))
    return Digits(train, test, path)


Run = Callable[..., Work]


@pytest.fixture
def run_pass(tmp_path: Path, digits: Digits) -> Run:
    """Runs a pass by name on the digits' model: ``run_pass("prune", steps=2)``; gives its work, with file and notes."""
    runs = 0

    def run(name: str, *, inputs: dict[str, Path] | None = None, data: Data | None = None, **config: Any) -> Work:
        nonlocal runs
        runs += 1
        folder = tmp_path / f"{name}-{runs}"
        (folder / "scratch").mkdir(parents=True)
        does = find(name)
        assert does.missing() is None
        work = Work(
            inputs=inputs or {"model": digits.model},
            out=folder / "out",
            folder=folder / "scratch",
            config=does.Config(**config),
            data=data or digits.train,
            seed=7,
            scores="scores",
            embedding="embedding",
            progress=lambda fraction, text: None,
        )
        does.run(work)
        return work

    return run
