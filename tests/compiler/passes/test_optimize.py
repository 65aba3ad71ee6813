"""The pass every other starts from: what it folds, and what it must leave whole."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewise_compiler.data import Data
from edgewise_compiler.passes import Refusal
from edgewise_compiler.passes.graph import graphs, load, opset, signature
from edgewise_compiler.passes.optimize import fold_batch_norm


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_batch_norm_and_constants_are_gone_and_answers_stay(bench, nets, operators):
    model = nets()
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in reversed(tensors):
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    source = bench.save(model)
    made = bench.apply("optimize", model=source)
    assert set(operators(made)) == {"Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"}
    assert bench.difference(source, made) < 1e-4
    assert signature(load(made)) == signature(load(source))
    assert made.read_bytes() == bench.apply("optimize", model=source).read_bytes()


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
@pytest.mark.parametrize("group", [1, 2])
def test_batch_norm_is_folded_into(make_bench, build, op, group):
    if op == "Gemm":
        weight, size = normal(6, 4), []
        layer = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="layer", transB=1)
    else:
        size = [5, 5]
        weight = normal(6, 4 // group, 3, 3) if op == "Conv" else normal(4, 6 // group, 3, 3)
        layer = helper.make_node(op, ["x", "w", "b"], ["y"], name="layer", group=group, pads=[1, 1, 1, 1])
    norm = helper.make_node("BatchNormalization", ["y", "gamma", "beta", "mean", "variance"], ["z"], name="norm")
    weights = {
        "w": weight,
        "b": normal(6),
        "gamma": normal(6, seed=1),
        "beta": normal(6, seed=2),
        "mean": normal(6, seed=3),
    }
    weights["variance"] = np.abs(normal(6, seed=4)) + 0.5
    model = build([layer, norm], {"x": ["n", 4, *size]}, {"z": ["n", 6, *size]}, weights)
    bench = make_bench(Data({"x": normal(5, 4, *size, seed=5)}))
    before = bench.save(model)
    assert fold_batch_norm(model) == 1
    after = bench.save(model, "folded.onnx")
    assert [node.op_type for node in load(after).graph.node] == [op]
    assert bench.difference(before, after) < 1e-5


def test_batch_norm_whose_input_another_node_reads_stays(build):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        helper.make_node("BatchNormalization", ["y", "g", "g", "g", "g"], ["z"], name="norm"),
        helper.make_node("Add", ["y", "z"], ["s"], name="add"),
    ]
    weights = {"w": normal(4, 4, 1, 1), "g": np.ones(4, np.float32)}
    model = build(nodes, {"x": ["n", 4, 3, 3]}, {"s": ["n", 4, 3, 3]}, weights)
    assert fold_batch_norm(model) == 0


def test_matmul_stays_matmul(make_bench, build, operators):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
        helper.make_node("Add", ["y", "b"], ["z"], name="bias"),
    ]
    model = build(nodes, {"x": ["n", "t", 8]}, {"z": ["n", "t", 8]}, {"w": normal(8, 8), "b": normal(8)})
    bench = make_bench(Data({"x": normal(3, 4, 8)}))
    assert operators(bench.apply("optimize", model=bench.save(model))) == ["MatMul", "Add"]


def branches(build):
    """x [n, 8], many (int64 scalar), high (bool scalar) -> scores: an If whose branches share a weight, and a Loop."""
    weight = numpy_helper.from_array(normal(8, 64), "shared")

    def branch(name, op):
        nodes = [
            helper.make_node("MatMul", ["x", "shared"], [f"{name}.m"], name=f"{name}.product"),
            helper.make_node(op, [f"{name}.m"], [f"{name}.out"], name=f"{name}.act"),
        ]
        return helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info(f"{name}.out", TensorProto.FLOAT, None)]
        )

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go.out"], name="go_on"),
            helper.make_node("Mul", ["carried", "half"], ["carried.out"], name="halve"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go.out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried.out", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node(
            "If", ["high"], ["picked"], name="pick", then_branch=branch("a", "Relu"), else_branch=branch("b", "Tanh")
        ),
        helper.make_node("Loop", ["many", "", "picked"], ["scores"], name="repeat", body=body),
    ]
    model = build(
        nodes,
        {"x": ["n", 8], "many": [], "high": []},
        {"scores": ["n", 64]},
        {"half": np.float32(0.5)},
        types={"many": TensorProto.INT64, "high": TensorProto.BOOL},
    )
    model.graph.initializer.append(weight)
    return model


def branch_data():
    return Data(
        {
            "x": normal(6, 1, 8),
            "many": np.arange(6, dtype=np.int64),
            "high": np.array([True, False] * 3),
        }
    )


@pytest.mark.parametrize(
    ("name", "config", "limit"),
    [
        ("optimize", {}, 1e-6),
        ("weights", {}, 0.02),
        ("weights", {"bits": 4}, 0.2),
        ("weights", {"bits": 16}, 1e-3),
        ("dynamic", {}, 0.05),
    ],
)
def test_control_flow_several_inputs_scalars_and_ints(make_bench, build, name, config, limit):
    bench = make_bench(branch_data())
    source = bench.save(branches(build))
    made = bench.apply("optimize", model=source)
    if name != "optimize":
        made = bench.apply(name, model=made, **config)
    assert signature(load(made)) == signature(load(source))
    assert bench.difference(source, made) < limit


def test_a_weight_shared_by_branches_is_there_once(make_bench, build):
    bench = make_bench(branch_data())
    made = load(bench.apply("optimize", model=bench.save(branches(build))))
    assert sum(tensor.dims == [8, 64] for graph in graphs(made.graph) for tensor in graph.initializer) == 1


def test_dynamic_height_and_width(make_bench, build):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["c"], ["scores"], name="mean", axes=[2, 3], keepdims=1),
    ]
    model = build(nodes, {"x": ["n", 3, "h", "w"]}, {"scores": ["n", 4, 1, 1]}, {"w": normal(4, 3, 3, 3)})
    bench = make_bench(Data({"x": normal(4, 3, 7, 9)}))
    source = bench.save(model)
    made = bench.apply("optimize", model=source)
    assert [node.op_type for node in load(made).graph.node] == ["Conv", "GlobalAveragePool"]
    for shape in ((4, 3, 7, 9), (2, 3, 16, 5)):
        assert bench.difference(source, made, Data({"x": normal(*shape)})) < 1e-5


def test_an_old_opset_is_raised_and_too_old_a_one_refused(make_bench, build):
    node = helper.make_node("Squeeze", ["x"], ["scores"], name="squeeze", axes=[1])
    model = build([node], {"x": ["n", 1, 4]}, {"scores": ["n", 4]}, {}, opset=9)
    bench = make_bench(Data({"x": normal(3, 1, 4)}))
    source = bench.save(model)
    made = bench.apply("optimize", model=source)
    assert opset(load(made)) == 13
    assert bench.difference(source, made) == 0
    model.opset_import[0].version = 6
    with pytest.raises(Refusal, match="opset 6: expected 7 or newer"):
        bench.apply("optimize", model=bench.save(model, "old.onnx"))


def test_a_quantized_graph_keeps_its_scales(bench, nets, operators):
    base = bench.apply("optimize", model=bench.save(nets()))
    ranges = bench.apply("calibrate", model=base)
    quantized = bench.apply("quantize", model=base, ranges=ranges)
    again = bench.apply("optimize", model=quantized)
    assert sorted(operators(again)) == sorted(operators(quantized))
    assert bench.difference(quantized, again) == 0


def test_nothing_of_the_machine_is_left(bench, nets):
    model = nets()
    model.doc_string = "made at /home/somebody"
    model.graph.node[0].doc_string = "File /home/somebody/net.py"
    assert b"somebody" not in bench.apply("optimize", model=bench.save(model)).read_bytes()
