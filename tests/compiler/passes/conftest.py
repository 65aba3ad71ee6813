"""Small ONNX nets with data, made by hand, and one way to run a pass on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewise_compiler.data import Data
from edgewise_compiler.passes import Work, find
from edgewise_compiler.passes.graph import feeds, load, run, session

Arrays = list[npt.NDArray[np.generic]]
CHANNELS, CLASSES, SIDE, ITEMS = 16, 5, 12, 48


class Bench:
    """Runs passes on files in a folder, and says what models answer."""

    def __init__(self, folder: Path, data: Data) -> None:
        self.folder, self.data = folder, data
        self.notes: list[str] = []

    def save(self, model: onnx.ModelProto, name: str = "model.onnx") -> Path:
        """A model as a file."""
        onnx.checker.check_model(model)
        path = self.folder / name
        path.write_bytes(model.SerializeToString())
        return path

    def apply(self, name: str, *, scores: str | None = "scores", out: str | None = None, **given: object) -> Path:
        """Run a pass: paths are its inputs, the rest is its configuration."""
        does = find(name)
        inputs = {role: path for role, path in given.items() if isinstance(path, Path)}
        config = {key: value for key, value in given.items() if key not in inputs}
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        made = self.folder / (out or f"{name}-{len(list(self.folder.iterdir()))}")
        work = Work(
            inputs=inputs,
            out=made,
            folder=scratch,
            config=msgspec.convert(config, does.Config),
            data=None if does.data == "none" else self.data,
            seed=0,
            scores=scores,
            embedding=None,
            progress=lambda part, text: None,
        )
        does.run(work)
        self.notes = work.notes
        return made

    def answers(self, path: Path, data: Data | None = None) -> Arrays:
        """Every output over all items."""
        opened = session(path)
        parts = [run(opened, None, feed) for feed in feeds(opened, data or self.data)]
        return [np.concatenate([np.atleast_1d(part[i]) for part in parts]) for i in range(len(parts[0]))]

    def snr(self, want: Path, got: Path, output: int = 0, data: Data | None = None) -> float:
        """Signal-to-noise ratio of an output, in decibels."""
        one, other = self.answers(want, data)[output], self.answers(got, data)[output]
        noise = float(np.square(one.astype(np.float64) - other).sum())
        return 10 * np.log10(float(np.square(one.astype(np.float64)).sum()) / max(noise, 1e-30))

    def difference(self, want: Path, got: Path, data: Data | None = None) -> float:
        """The largest difference in any output, relative to the largest answer."""
        pairs = zip(self.answers(want, data), self.answers(got, data), strict=True)
        return max(float(np.abs(one - other).max() / max(1.0, np.abs(one).max())) for one, other in pairs)


def ops(path: Path) -> list[str]:
    """Operators of the main graph, in order."""
    return [node.op_type for node in load(path).graph.node]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
    weights: dict[str, npt.NDArray[np.generic]],
    *,
    opset: int = 17,
    types: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """A model; float unless ``types`` says otherwise."""
    types = types or {}

    def info(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shape)

    graph = helper.make_graph(
        list(nodes),
        "net",
        [info(*item) for item in inputs.items()],
        [info(*item) for item in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def separable(uneven: float = 1.0, seed: int = 0, blocks: int = 2, channels: int = CHANNELS) -> onnx.ModelProto:
    """float [batch, 3, 12, 12] -> scores [batch, 5], embedding [batch, 16]: Conv, then depthwise and pointwise blocks.

    BatchNorm behind each. ``uneven``: how many times wider the widest channel in front of a depthwise Conv is than the
    narrowest; what reads it is scaled back, so the answers are those of the even net.
    """
    random = np.random.default_rng(seed)
    weights: dict[str, npt.NDArray[np.generic]] = {}
    nodes: list[onnx.NodeProto] = []

    def conv(
        name: str,
        given: str,
        into: int,
        groups: int,
        size: int,
        *,
        spread: npt.NDArray[np.float64],
        back: npt.NDArray[np.float64],
    ) -> str:
        shape = (channels, into // groups, size, size)
        weight = random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        weight = weight * (back.reshape(-1, 1, 1, 1) if groups > 1 else back.reshape(1, -1, 1, 1))
        weights[f"{name}.w"] = weight.astype(np.float32)
        mean, variance = random.normal(size=channels) * 0.1, random.uniform(0.5, 1.5, channels)
        gamma, beta = random.uniform(0.8, 1.2, channels) * spread, random.normal(size=channels) * 0.1 * spread
        for part, value in {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}.items():
            weights[f"{name}.{part}"] = value.astype(np.float32)
        norm = [f"{name}.c", *(f"{name}.{part}" for part in ("gamma", "beta", "mean", "variance"))]
        nodes.extend(
            [
                helper.make_node(
                    "Conv", [given, f"{name}.w"], [f"{name}.c"], name=name, group=groups, pads=[size // 2] * 4
                ),
                helper.make_node("BatchNormalization", norm, [f"{name}.n"], name=f"{name}.norm"),
                helper.make_node("Relu", [f"{name}.n"], [f"{name}.r"], name=f"{name}.relu"),
            ]
        )
        return f"{name}.r"

    one = np.ones(channels)
    widths = [np.exp(random.uniform(0, np.log(uneven), channels)) if uneven > 1 else one for _ in range(blocks)]
    name = conv("stem", "input", 3, 1, 3, spread=widths[0], back=np.ones(3))
    for block in range(blocks):
        name = conv(f"depthwise{block}", name, channels, channels, 3, spread=one, back=1 / widths[block])
        after = widths[block + 1] if block + 1 < blocks else one
        name = conv(f"pointwise{block}", name, channels, 1, 1, spread=after, back=one)
    weights["head.w"] = (random.normal(size=(CLASSES, channels)) * 0.5).astype(np.float32)
    weights["head.b"] = (random.normal(size=CLASSES) * 0.1).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [name], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["embedding"], name="flatten"),
        helper.make_node("Gemm", ["embedding", "head.w", "head.b"], ["scores"], name="head", transB=1),
    ]
    outputs: dict[str, list[int | str]] = {"scores": ["batch", CLASSES], "embedding": ["batch", channels]}
    return model_of(nodes, {"input": ["batch", 3, SIDE, SIDE]}, outputs, weights)


@pytest.fixture
def images() -> Data:
    """Smooth random images."""
    random = np.random.default_rng(1)
    coarse = random.normal(size=(ITEMS, 3, SIDE // 2, SIDE // 2))
    fine = coarse.repeat(2, axis=2).repeat(2, axis=3) + 0.3 * random.normal(size=(ITEMS, 3, SIDE, SIDE))
    return Data({"input": fine.astype(np.float32)})


@pytest.fixture
def bench(tmp_path: Path, images: Data) -> Bench:
    """With images."""
    return Bench(tmp_path, images)


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[[Data], Bench]:
    """With other data."""
    return lambda data: Bench(tmp_path, data)


@pytest.fixture
def nets() -> Callable[..., onnx.ModelProto]:
    """``separable``."""
    return separable


@pytest.fixture
def build() -> Callable[..., onnx.ModelProto]:
    """``model_of``."""
    return model_of


@pytest.fixture
def operators() -> Callable[[Path], list[str]]:
    """``ops``."""
    return ops
