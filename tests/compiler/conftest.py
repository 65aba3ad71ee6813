"""A tiny CNN as an ONNX file with data, a tiny recipe, and profiles: real ones, small enough for seconds."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewise.profile import Limits, Profile, Quantization
from edgewise_compiler.compile import compile
from edgewise_compiler.data import Data
from edgewise_compiler.model import Model
from edgewise_compiler.sources import OnnxSource, Source

CLASSES = 4
SIDE = 8


def cnn(*, log: bool = False, embedding: bool = True, batch: int | str = "batch") -> onnx.ModelProto:
    """float [batch, 1, 8, 8] -> scores [batch, 4], embedding [batch, 6]. ``log``: adds log(mean), NaN below 0."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(6, 1, 3, 3)),
        "b1": random.normal(size=6) * 0.1,
        "w2": random.normal(size=(6, 6, 3, 3)) * 0.4,
        "w3": random.normal(size=(CLASSES, 6)),
        "b3": np.zeros(CLASSES),
    }
    last = "embedding" if embedding else "inner"
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c2"], ["g"], name="average"),
        helper.make_node("Flatten", ["g"], [last], name="flatten"),
        helper.make_node("Gemm", [last, "w3", "b3"], ["gemm"], name="gemm", transB=1),
    ]
    if log:
        axes = numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes")
        nodes += [
            helper.make_node("ReduceMean", ["input", "axes"], ["mean"], name="mean", keepdims=0),
            helper.make_node("Log", ["mean"], ["l"], name="log"),
            helper.make_node("Unsqueeze", ["l", "one"], ["l1"], name="unsqueeze"),
            helper.make_node("Add", ["gemm", "l1"], ["scores"], name="add"),
        ]
    else:
        axes = None
        nodes.append(helper.make_node("Identity", ["gemm"], ["scores"], name="identity"))
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, CLASSES])]
    if embedding:
        outputs.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, 6]))
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    if axes is not None:
        initializers += [axes, numpy_helper.from_array(np.array([1], np.int64), "one")]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 1, SIDE, SIDE])],
        outputs,
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def pictures(n: int, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 [n, 1, 8, 8] in 0..1."""
    return np.random.default_rng(seed).random((n, 1, SIDE, SIDE)).astype(np.float32)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., OnnxSource]:
    """Write a tiny model and its data: ``tiny(inputs=..., labels=True, **cnn's arguments)``."""

    def make(inputs: Any = None, labels: bool = True, **options: Any) -> OnnxSource:
        model, data = tmp_path / "tiny.onnx", tmp_path / "tiny.npz"
        onnx.save_model(cnn(**options), str(model))
        items = pictures(300) if inputs is None else inputs
        arrays: dict[str, Any] = {"inputs": items, "class_names": np.array(["a", "b", "c", "d"])}
        if labels:
            arrays["labels"] = Model(model).answer(Data({"input": items})).scores.argmax(axis=1)
        np.savez(data, **arrays)
        return OnnxSource(model, data)

    return make


def profile(name: str = "elsewhere", architecture: str = "riscv64", **fields: Any) -> Profile:
    """A profile that nothing is measured for, unless ``architecture`` is this machine's."""
    return Profile(
        schema=1,
        name=name,
        title=name,
        architecture=architecture,
        runtimes=fields.pop("runtimes", ["onnxruntime"]),
        quantization=fields.pop("quantization", Quantization(schemes=["u8s8", "s8s8"])),
        limits=fields.pop("limits", Limits(threads=1)),
    )


@pytest.fixture
def elsewhere() -> Profile:
    """A kind of device with another architecture."""
    return profile()


@pytest.fixture
def here() -> Profile:
    """A kind of device with this machine's architecture."""
    return profile("here", platform.machine(), quantization=Quantization(schemes=["s8s8", "u8s8"]))


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Any]:
    """``compiled(source, profiles)``: compile into a fresh folder, with fixed names and time."""

    def run(source: Source, profiles: list[Profile], folder: str = "out", **options: Any) -> Any:
        options.setdefault("progress", lambda fraction, text: None)
        options.setdefault("cache", tmp_path / "cache")
        return compile(
            source,
            profiles,
            tmp_path / folder,
            tenant="acme",
            model="tiny",
            version=3,
            release=7,
            created_at=1_700_000_000.0,
            **options,
        )

    return run


RECIPE = """
import numpy as np, torch
from torch import nn

CLASSES = ["dark", "bright"]

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.inner = nn.Linear(4, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, input):
        x = torch.relu(self.conv(input.float() / 255)).mean((2, 3))
        embedding = torch.relu(self.inner(x))
        return self.head(embedding), embedding

def build(config):
    torch.manual_seed(0)
    return Net()

def load(split, config):
    n = {"train": 400, "calibrate": 64, "reference": 200}[split]
    random = np.random.default_rng(len(split))
    labels = random.integers(0, 2, n)
    inputs = random.integers(0, 120, (n, 1, 8, 8)) + labels[:, None, None, None] * 120
    return inputs.astype(np.uint8), labels

def train(model, inputs, labels, config, *, seed, weights=None, progress):
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)
    for step in range(config["steps"]):
        loss = nn.functional.cross_entropy(model(x)[0], y)
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        progress((step + 1) / config["steps"], "train")
    return model

def evaluate(predict, inputs, labels):
    return {"accuracy": float((predict(inputs).argmax(1) == labels).mean())}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the tiny recipe, with replacements ``old=new`` pairs applied."""

    def make(*replacements: tuple[str, str], name: str = "recipe.py") -> Path:
        text = RECIPE
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / name
        path.write_text(text)
        return path

    return make
