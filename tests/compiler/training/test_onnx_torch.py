"""ONNX graphs as torch modules: the same answers, what cannot be taken is listed, exports work, weights go back."""

from __future__ import annotations

import copy
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from torch import nn

from edgewise_compiler.training.onnx_torch import (
    OnnxModule,
    UnsupportedGraphError,
    fold,
    to_module,
    unsupported,
    with_shapes,
    write_back,
)
from edgewise_compiler.training.onnx_torch.graph import MIN_OPSET

Array = npt.NDArray[Any]

STANDARD = [
    "Abs", "Acos", "Add", "And", "ArgMax", "ArgMin", "Asin", "Atan", "AveragePool", "BatchNormalization", "Ceil",
    "Celu", "Clip", "Concat", "Conv", "ConvTranspose", "Cos", "CumSum", "DFT", "DepthToSpace", "DequantizeLinear",
    "Div", "Dropout", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "GRU", "Gather",
    "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual",
    "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "IsInf", "IsNaN", "LRN",
    "LSTM", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "LpPool", "MatMul", "Max", "MaxPool", "Mean",
    "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow",
    "QuantizeLinear", "RNN", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "Round",
    "STFT", "ScatterElements", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax",
    "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh",
    "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
]  # fmt: skip

EMPTY = {"test_reduce_max_empty_set", "test_reduce_min_empty_set", "test_reduce_max_empty_set_bool"}
"""torch has no largest element of nothing; no real net asks for it."""


@cache
def standard_cases() -> dict[str, list[Any]]:
    """The standard's own tests of single operators, by operator."""
    found: dict[str, list[Any]] = {}
    for case in collect_testcases(None):
        if case.model is not None and "_expanded" not in case.name and "training" not in case.name:
            found.setdefault(case.model.graph.node[0].op_type, []).append(case)
    return found


def with_constants(model: onnx.ModelProto, inputs: list[Any]) -> onnx.ModelProto:
    """All inputs but the first as initializers: what weights and shapes are in real graphs."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    for info, value in list(zip(model.graph.input, inputs, strict=False))[1:]:
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(value), info.name))
    return made


def numbers(values: list[Any]) -> bool:
    """Whether torch has their types."""
    return all(isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiub" for value in values)


def close(got: torch.Tensor, wanted: Array) -> None:
    """Same shape and type, values within 1e-4."""
    array = got.detach().numpy()
    assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(array, wanted, rtol=1e-3, atol=1e-4 * max(1.0, _largest(wanted)))


def _largest(array: Array) -> float:
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return float(np.abs(finite.astype(np.float64)).max()) if finite.size else 0.0


@pytest.mark.parametrize("operator", STANDARD)
def test_operators_as_the_standard_tests_them(operator: str) -> None:
    """With inputs fed, and with all but the first constant. What is not taken is refused beforehand."""
    checked = 0
    for case in standard_cases()[operator]:
        inputs, outputs = case.data_sets[0]
        if case.name in EMPTY or not numbers([*inputs, *outputs]):
            continue
        for entry in case.model.opset_import:  # And, Or, Not and Xor are as they were in opset 7
            entry.version = max(entry.version, MIN_OPSET)
        for model in (case.model, with_constants(case.model, inputs)):
            if unsupported(model):
                continue
            module = to_module(model)
            feed = dict(zip((info.name for info in case.model.graph.input), inputs, strict=False))
            answers = module(*(torch.from_numpy(np.array(feed[name])) for name in module.input_names))
            for got, wanted in zip(answers, outputs, strict=True):
                close(got, wanted)
            checked += 1
    assert checked


def graph(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: list[str],
    weights: dict[str, Array] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model of float inputs."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [onnx.ValueInfoProto(name=name, type=helper.make_tensor_type_proto(1, None)) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )


def run(model: onnx.ModelProto, feed: dict[str, Array]) -> list[Array]:
    """By onnxruntime."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feed)]


def agree(model: onnx.ModelProto, feed: dict[str, Array]) -> OnnxModule:
    """onnxruntime and the module answer the same."""
    module = to_module(model)
    for got, wanted in zip(module(*map(torch.from_numpy, feed.values())), run(model, feed), strict=True):
        close(got, wanted)
    return module


def noise(*shape: int, seed: int = 0) -> Array:
    """Normal float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


WINDOWS = [
    {"strides": [2, 2], "pads": [0, 1, 1, 0]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "VALID", "strides": [2, 1]},
    {"pads": [1, 1, 1, 1]},
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "MaxPool", "AveragePool"])
def test_windows_pad_as_onnxruntime_does(operator: str, window: dict[str, Any]) -> None:
    weighted = operator.startswith("Conv")
    weights = {"w": noise(4, 4, 3, 2), "b": noise(4)} if weighted else {}
    extra = {} if weighted else {"kernel_shape": [3, 2]}
    node = helper.make_node(operator, ["x", *weights], ["y"], name="n", **window, **extra)
    agree(graph([node], {"x": ["b", 4, 9, 8]}, ["y"], weights), {"x": noise(2, 4, 9, 8)})


@pytest.mark.parametrize(("ceil", "counted"), itertools.product([0, 1], [0, 1]))
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]])
def test_average_pools_count_as_onnxruntime_does(ceil: int, counted: int, pads: list[int]) -> None:
    node = helper.make_node(
        "AveragePool",
        ["x"],
        ["y"],
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=pads,
        ceil_mode=ceil,
        count_include_pad=counted,
    )
    agree(graph([node], {"x": [1, 2, 8, 9]}, ["y"], opset=19), {"x": noise(1, 2, 8, 9)})


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization_is_a_layer(axis: int) -> None:
    shape = (5,) if axis == -1 else (3, 5)
    node = helper.make_node("LayerNormalization", ["x", "s", "b"], ["y"], name="norm", axis=axis)
    model = graph([node], {"x": ["b", 3, 5]}, ["y"], {"s": noise(*shape), "b": noise(*shape, seed=1)})
    assert isinstance(agree(model, {"x": noise(2, 3, 5)}).norm, nn.LayerNorm)


def test_casts_cut_towards_zero() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT32),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    agree(graph(nodes, {"x": [9]}, ["y"]), {"x": noise(9) * 5})


def resizes() -> Iterator[tuple[str, str, str, list[float]]]:
    """Modes that real nets use."""
    for place in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        for scales in ([1, 1, 2, 2], [1, 1, 1.5, 0.6], [1, 1, 0.5, 3]):
            yield "linear", place, "floor", scales
            for rounding in ("floor", "round_prefer_floor", "ceil"):
                yield "nearest", place, rounding, scales


@pytest.mark.parametrize(("mode", "place", "rounding", "scales"), resizes())
def test_resizes_as_onnxruntime_does(mode: str, place: str, rounding: str, scales: list[float]) -> None:
    node = helper.make_node(
        "Resize", ["x", "", "s"], ["y"], mode=mode, coordinate_transformation_mode=place, nearest_mode=rounding
    )
    model = graph([node], {"x": [1, 2, 6, 10]}, ["y"], {"s": np.array(scales, np.float32)})
    agree(model, {"x": noise(1, 2, 6, 10)})


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("reset", [0, 1])
def test_recurrent_layers_and_their_weights_back(operator: str, direction: str, reset: int) -> None:
    gates, directions = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator], 2 if direction == "bidirectional" else 1
    weights = {
        "w": noise(directions, gates * 5, 3), "r": noise(directions, gates * 5, 5, seed=1),
        "b": noise(directions, gates * 10, seed=2), "h": noise(directions, 2, 5, seed=3),
    }  # fmt: skip
    extra = {"linear_before_reset": reset} if operator == "GRU" else {}
    node = helper.make_node(
        operator, ["x", "w", "r", "b", "", "h"], ["y", "last"], name="rnn", hidden_size=5, direction=direction, **extra
    )
    model = graph([node], {"x": [7, 2, 3]}, ["y", "last"], weights)
    module = agree(model, {"x": noise(7, 2, 3)})
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.5)
    written = write_back(module, model)
    for got, wanted in zip(module(torch.from_numpy(noise(7, 2, 3))), run(written, {"x": noise(7, 2, 3)}), strict=True):
        close(got, wanted)


def net() -> onnx.ModelProto:
    """A CNN whose last reshape is computed from its shape, with weights in a Constant and a scale and bias apart."""
    weights = {
        "w1": noise(4, 2, 3, 3) * 0.3, "b1": noise(4), "gamma": noise(4), "beta": noise(4), "mean": noise(4),
        "variance": np.abs(noise(4)) + 0.5, "scale": noise(4, 1, 1), "w2": noise(16, 6), "b2": noise(6),
        "w3": noise(6, 3), "b3": noise(3), "zero": np.array([0], np.int64), "minus": np.array([-1], np.int64),
        "wd": noise(4, 1, 3, 3),
    }  # fmt: skip
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["c"], name="stem/conv", pads=[1, 1, 1, 1]),
        make("BatchNormalization", ["c", "gamma", "beta", "mean", "variance"], ["n"], name="stem/norm"),
        make("Relu", ["n"], ["a"], name="stem/relu"),
        make("Conv", ["a", "wd"], ["d"], name="depthwise", group=4, strides=[2, 2], pads=[1, 1, 1, 1]),
        make("Mul", ["d", "scale"], ["m"], name="scaled"),
        make("Shape", ["m"], ["shape"]),
        make("Gather", ["shape", "zero"], ["batch"]),
        make("Concat", ["batch", "minus"], ["to"], axis=0),
        make("Reshape", ["m", "to"], ["f"], name="flat"),
        make("Gemm", ["f", "w2", "b2"], ["g"], name="hidden"),
        make("MatMul", ["g", "w3"], ["p"], name="out"),
        make("Add", ["p", "b3"], ["y"], name="out_bias"),
    ]
    return graph(nodes, {"x": ["batch", 2, 4, 4]}, ["y", "g"], weights)


def test_nodes_become_layers_with_their_names() -> None:
    module = agree(net(), {"x": noise(3, 2, 4, 4)})
    kinds = {name: type(part) for name, part in module.named_children()}
    assert kinds["stem_conv"] is nn.Conv2d
    assert isinstance(module.stem_norm, nn.BatchNorm2d)
    assert kinds["hidden"] is kinds["out"] is nn.Linear
    assert isinstance(module.out, nn.Linear) and module.out.bias is not None
    assert "scale" in dict(module.named_parameters())
    assert not module.training


def test_trained_weights_go_back_into_the_graph() -> None:
    model = net()
    module = to_module(model)
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), 0.01)
    loss = module(torch.from_numpy(noise(8, 2, 4, 4)))[0].square().mean()
    loss.backward()
    optimizer.step()
    module.eval()
    assert all(parameter.grad is not None for parameter in module.parameters())
    written = write_back(module, model)
    x = noise(3, 2, 4, 4, seed=5)
    for got, wanted, before in zip(
        module(torch.from_numpy(x)), run(written, {"x": x}), run(model, {"x": x}), strict=True
    ):
        close(got, wanted)
        assert np.abs(wanted - before).max() > 1e-3
    assert {node.name for node in written.graph.node if node.name} == {
        node.name for node in fold(model).graph.node if node.name
    }


def test_narrower_layers_go_back_too() -> None:
    model = net()
    module = to_module(model)
    assert isinstance(module.hidden, nn.Linear) and isinstance(module.out, nn.Linear)
    keep = torch.tensor([0, 2, 3])
    module.hidden.weight = nn.Parameter(module.hidden.weight[keep])
    assert module.hidden.bias is not None
    module.hidden.bias = nn.Parameter(module.hidden.bias[keep])
    module.out.weight = nn.Parameter(module.out.weight[:, keep])
    x = noise(3, 2, 4, 4)
    for got, wanted in zip(module(torch.from_numpy(x)), run(write_back(module, model), {"x": x}), strict=True):
        close(got, wanted)


def test_a_shared_weight_stays_shared_and_parts_when_it_must() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="second"),
        helper.make_node("Gemm", ["b", "w"], ["y"], name="third", transB=1),
    ]
    model = graph(nodes, {"x": ["b", 4]}, ["y"], {"w": noise(4, 4)})
    module = agree(model, {"x": noise(2, 4)})
    assert isinstance(module.first, nn.Linear) and isinstance(module.second, nn.Linear)
    assert module.first.weight is module.second.weight
    assert len(write_back(module, model).graph.initializer) == 1
    with torch.no_grad():
        module.first.weight.mul_(0.5)
    written = write_back(module, model)
    assert len(written.graph.initializer) == 2
    close(module(torch.from_numpy(noise(2, 4)))[0], run(written, {"x": noise(2, 4)})[0])


def test_exports_with_a_dynamic_batch() -> None:
    module = to_module(net())
    x = torch.from_numpy(noise(3, 2, 4, 4))
    program = torch.export.export(module, (x,), dynamic_shapes=(({0: torch.export.Dim("batch")},),))
    more = torch.from_numpy(noise(7, 2, 4, 4))
    torch.testing.assert_close(program.module()(more), module(more))


def test_exports_to_onnx_again() -> None:
    module = to_module(net())
    x = noise(3, 2, 4, 4)
    program = torch.onnx.export(module, (torch.from_numpy(x),), dynamo=True, input_names=["x"], verbose=False)
    assert program is not None
    for got, wanted in zip(run(program.model_proto, {"x": x}), module(torch.from_numpy(x)), strict=True):
        close(wanted, got)


def test_a_copy_is_a_module_of_its_own() -> None:
    module = to_module(net())
    other = copy.deepcopy(module)
    x = torch.from_numpy(noise(3, 2, 4, 4))
    before = module(x)[0].clone()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(module(x)[0], before)
    assert not torch.equal(other(x)[0], before)


def squeezing(condition: list[onnx.NodeProto]) -> onnx.ModelProto:
    """Squeezes an axis if it has length one, as torch's older exporter writes it."""
    then = helper.make_graph(
        [helper.make_node("Squeeze", ["x", "one"], ["t"])], "then", [], [onnx.ValueInfoProto(name="t")]
    )
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["t"])], "else", [], [onnx.ValueInfoProto(name="t")])
    nodes = [*condition, helper.make_node("If", ["yes"], ["s"], name="if", then_branch=then, else_branch=other)]
    nodes.append(helper.make_node("Relu", ["s"], ["y"], name="relu"))
    return graph(nodes, {"x": ["b", 1, 4]}, ["y"], {"one": np.array([1], np.int64)})


BY_SIZE = [
    helper.make_node("Shape", ["x"], ["shape"]),
    helper.make_node("Gather", ["shape", "one"], ["size"]),
    helper.make_node("Equal", ["size", "one"], ["yes"]),
]


def test_a_branch_that_known_sizes_decide_is_taken() -> None:
    model = squeezing(BY_SIZE)
    assert [node.op_type for node in fold(model).graph.node] == ["Squeeze", "Identity", "Relu"]
    agree(model, {"x": noise(2, 1, 4)})


def test_a_branch_that_sizes_not_yet_known_decide_can_be_fixed() -> None:
    model = squeezing(BY_SIZE)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "length"
    assert [str(node) for node in unsupported(model)] == [
        "If 'if': its condition depends on the sizes of the inputs; "
        "fix the shapes of the inputs, or export the branch that is taken alone"
    ]
    assert unsupported(with_shapes(model, {"x": (2, 1, 4)})) == []


def test_all_that_cannot_be_taken_is_listed() -> None:
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["yes"], to=TensorProto.BOOL),
    ]
    model = squeezing(nodes)
    model.graph.node.append(helper.make_node("NonZero", ["x"], ["places"], name="places"))
    model.graph.node.append(helper.make_node("Mystery", ["x"], ["m"], name="strange", domain="com.example"))
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("places", "m"))
    with pytest.raises(UnsupportedGraphError) as raised:
        to_module(model)
    assert [(node.node, node.op) for node in raised.value.nodes] == [
        ("if", "If"), ("places", "NonZero"), ("strange", "com.example.Mystery"),
    ]  # fmt: skip
    assert "3 nodes have no form" in str(raised.value)


def test_a_shape_that_depends_on_data_is_refused() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["to"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["x", "to"], ["y"], name="reshape"),
    ]
    assert [node.why for node in unsupported(graph(nodes, {"x": [2]}, ["y"]))] == ["its input 1, 'to', depends on data"]


def test_a_large_constant_is_not_made_by_folding() -> None:
    node = helper.make_node("ConstantOfShape", ["shape"], ["y"], name="huge")
    model = graph([node], {"x": [1]}, ["y"], {"shape": np.array([2**20, 2**20], np.int64)})
    assert [node.op_type for node in fold(model).graph.node] == ["ConstantOfShape"]


def test_the_module_of_another_model_is_not_written() -> None:
    other = graph([helper.make_node("Relu", ["x"], ["y"])], {"x": [1]}, ["y"])
    with pytest.raises(ValueError, match="expected the model that the module was made of"):
        write_back(to_module(net()), other)
