"""A model that gives no embedding gets one: what its last layer with weights takes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewise_compiler.errors import CompileError
from edgewise_compiler.model import Model
from edgewise_compiler.sources.embedding import MAX_WIDTH, expose, with_embedding


def graph(nodes: list[onnx.NodeProto], shape: list[Any], scores: list[Any], opset: int = 18, **weights: Any) -> Any:
    """A model from ``x`` to ``scores``."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, scores)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def of_rows(layers: int = 2, **options: Any) -> Any:
    """[n, 5] -> (7 wide ->) 3 scores, rescaled and normalized."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Gemm", ["x", "w1"], ["a"], name="first"), helper.make_node("Relu", ["a"], ["hidden"])]
    last = "hidden" if layers == 2 else "x"
    head = [
        helper.make_node("MatMul", [last, "w2"], ["m"], name="last"),
        helper.make_node("Add", ["m", "b"], ["p"]),
        helper.make_node("Softmax", ["p"], ["scores"], axis=1),
    ]
    nodes = [*nodes, *head] if layers == 2 else head
    width = 7 if layers == 2 else 5
    weights = {"w1": rng.normal(size=(5, 7)), "w2": rng.normal(size=(width, 3)), "b": np.zeros(3)}
    return graph(nodes, ["n", 5], ["n", 3], **weights, **options)


def of_pictures(channels: int = 4, side: int = 6, opset: int = 18) -> Any:
    """[n, 1, side, side] -> a feature map, flattened -> 3 scores."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["map"]),
        helper.make_node("Flatten", ["map"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2"], ["scores"]),
    ]
    weights = {"w1": rng.normal(size=(channels, 1, 3, 3)), "w2": rng.normal(size=(channels * side**2, 3))}
    return graph(nodes, ["n", 1, side, side], ["n", 3], opset, **weights)


def of_steps() -> Any:
    """[n, 9, 4] -> 6 wide a step -> 2 scores a step."""
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Tanh", ["a"], ["states"]),
        helper.make_node("MatMul", ["states", "w2"], ["scores"]),
    ]
    return graph(nodes, ["n", 9, 4], ["n", 9, 2], w1=rng.normal(size=(4, 6)), w2=rng.normal(size=(6, 2)))


@pytest.mark.parametrize(
    ("model", "value", "width"),
    [
        (of_rows(), "hidden", 7),
        (of_pictures(), "flat", 4 * 36),
        (of_pictures(32, 8), "map", 32),
        (of_pictures(32, 8, opset=13), "map", 32),
        (of_steps(), "states", 6),
    ],
)
def test_it_is_what_the_last_layer_takes_in(model: Any, value: str, width: int, tmp_path: Path) -> None:
    path, notes = tmp_path / "m.onnx", list[str]()
    onnx.save_model(model, str(path))
    before = Model(path)
    shape = [3, *before.inputs[0].shape[1:]]
    x = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    [scores] = before._runtime.infer({"x": x}).values()
    assert with_embedding(path, before, before.scores, None, notes) == "embedding"
    onnx.checker.check_model(onnx.load_model(str(path)), full_check=True)
    after = Model(path)
    assert after.embedding == "embedding" and f"{value!r}, {width} wide" in notes[0]
    answers = after._runtime.infer({"x": x})
    assert answers["embedding"].shape == (3, width) and answers["embedding"].std() > 0
    assert np.array_equal(answers["scores"], scores)


def test_a_feature_map_is_averaged_over_its_places(tmp_path: Path) -> None:
    model = of_pictures(32, 8)
    model.graph.output.append(helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", 32, 8, 8]))
    assert expose(model, "scores", None)[0] == "embedding" and MAX_WIDTH < 32 * 64
    onnx.save_model(model, str(tmp_path / "m.onnx"))
    x = np.random.default_rng(3).normal(size=(2, 1, 8, 8)).astype(np.float32)
    answers = Model(tmp_path / "m.onnx")._runtime.infer({"x": x})
    assert answers["embedding"] == pytest.approx(answers["map"].mean(axis=(2, 3)), abs=1e-5)


def test_a_linear_model_has_none_and_says_so() -> None:
    model = of_rows(layers=1)
    before = model.SerializeToString()
    name, note = expose(model, "scores", None)
    assert name is None and "no embedding was found" in note and model.SerializeToString() == before


@pytest.mark.parametrize(("wanted", "value"), [("hidden", "hidden"), ("first", "a")])
def test_the_user_may_name_a_value_or_a_node(wanted: str, value: str) -> None:
    name, note = expose(of_rows(), "scores", wanted)
    assert name == "embedding" and repr(value) in note


@pytest.mark.parametrize("wanted", ["x", "w1", "nothing"])
def test_what_the_user_names_must_be_an_inner_value_of_floats(wanted: str) -> None:
    with pytest.raises(CompileError, match=f"embedding {wanted!r}: expected an output"):
        expose(of_rows(), "scores", wanted)


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    model = of_rows()
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "embedding"
    assert expose(model, "scores", None)[0] == "embedding_"
