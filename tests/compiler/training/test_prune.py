"""Pruning cuts what depends on each other, keeps what it must, and loses little; and the choice of widths."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.passes import Refusal
from edgewise_compiler.training import norms
from edgewise_compiler.training.dependency import Group, count_macs, cut, find_groups
from edgewise_compiler.training.importance import importances, least_important
from edgewise_compiler.training.latency import compare
from edgewise_compiler.training.onnx_torch import to_module
from edgewise_compiler.training.recover import Feeds, teach
from edgewise_compiler.training.widths import Cut, Goal, options, order, toward

BY_MACS = {"macs": 0.5, "speedup": None, "round_to": 4, "batch": 32, "learning_rate": 3e-3}


def feeds(digits: Any, n: int = 256) -> Feeds:
    return Feeds((digits.train.inputs["input"][:n],))


def widths_of(path: Path) -> dict[str, int]:
    graph = onnx.load(path).graph
    return {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.name.endswith(".w")}


def note(work: Any, pattern: str) -> re.Match[str]:
    found = [match for text in work.notes if (match := re.search(pattern, text))]
    assert len(found) == 1, work.notes
    return found[0]


def test_half_the_macs_with_recovery_cost_less_than_two_points_and_without_it_far_more(
    run_pass: Any, digits: Any
) -> None:
    source = digits.accuracy(digits.model)
    recovered = run_pass("prune", **BY_MACS, steps=3, epochs=10)
    bare = run_pass("prune", **BY_MACS, steps=1, step_epochs=0, epochs=0)
    for work in (recovered, bare):
        fewer = note(work, r"multiply-adds (\d+) -> (\d+)")
        assert int(fewer[2]) <= 0.5 * int(fewer[1])
        assert all(width % 4 == 0 for name, width in widths_of(work.out).items() if name != "head.w")
    assert digits.accuracy(recovered.out) > source - 0.02
    assert digits.accuracy(bare.out) < source - 0.10


def test_inputs_and_outputs_stay_what_they_were(run_pass: Any, digits: Any) -> None:
    work = run_pass("prune", **BY_MACS, steps=1, step_epochs=0, epochs=0)
    before, after = (onnxruntime.InferenceSession(str(path)) for path in (digits.model, work.out))
    for ask in ("get_inputs", "get_outputs"):
        one, other = getattr(before, ask)(), getattr(after, ask)()
        assert [(x.name, x.type, x.shape) for x in one] == [(x.name, x.type, x.shape) for x in other]
    assert digits.run(work.out, digits.test.take(slice(0, 1)))["embedding"].shape == (1, 32)


def test_channels_that_meet_in_a_sum_or_a_depthwise_layer_go_together(digits: Any) -> None:
    groups, refused = find_groups(onnx.load(digits.model), feeds(digits).at(np.arange(2)), 4, None)
    together = {frozenset(group.layers) for group in groups}
    assert together == {frozenset({"stem", "block2"}), frozenset({"block1"}), frozenset({"down", "deep"})}
    assert {one.node: "shape of output 'embedding'" in one.why or "no layer" in one.why for one in refused}["point"]


def test_the_embedding_becomes_narrower_only_where_that_is_asked_for(digits: Any) -> None:
    model = onnx.load(digits.model)
    groups, _ = find_groups(model, feeds(digits).at(np.arange(2)), 4, "embedding")
    assert "point" in {group.root for group in groups}
    made = cut(model, feeds(digits).at(np.arange(2)), {"point": list(range(12))}, "embedding")
    session = onnxruntime.InferenceSession(made.SerializeToString())
    scores, embedding = session.run(None, {"input": digits.test.inputs["input"][:3]})
    assert scores.shape == (3, 10) and embedding.shape == (3, 20)
    assert [output.shape for output in session.get_outputs()] == [["batch", 10], ["batch", 20]]


def test_channels_that_do_nothing_are_found_and_cost_nothing(digits: Any) -> None:
    """Eight of sixteen channels of a block are always zero: they matter least, and without them all is the same."""
    model = onnx.load(digits.model)
    dead = [0, 3, 4, 7, 9, 10, 14, 15]
    for tensor in model.graph.initializer:
        if tensor.name in ("block1.s", "block1.b"):
            value = numpy_helper.to_array(tensor).copy()
            value[dead] = 0
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    module, items = to_module(model), feeds(digits)
    teacher = teach(module, items, 0)
    found = importances(
        model, [Group("block1", 16, ("block1",))], items, teacher, 0, "taylor", np.random.default_rng(0)
    )
    assert least_important(found["block1"], 8) == (dead, 0.0)
    narrow = cut(model, items.at(np.arange(2)), {"block1": dead})
    assert count_macs(narrow, items) < count_macs(model, items)
    with torch.no_grad():
        some = items.at(np.arange(32))
        for one, other in zip(module(*some), to_module(narrow)(*some), strict=True):
            assert torch.allclose(one, other, atol=1e-4)


def test_batch_normalization_comes_for_the_training_and_goes_after_it(run_pass: Any, digits: Any) -> None:
    folded = run_pass("optimize").out
    model = onnx.load(folded)
    module, items = to_module(model), feeds(digits)
    inside = norms.insert(model, module, items, teach(module, items, 0))
    assert [node.op_type for node in inside.graph.node].count("BatchNormalization") == 6
    outside = norms.remove(inside)
    assert [node.op_type for node in outside.graph.node].count("BatchNormalization") == 0
    with torch.no_grad():
        some = items.at(np.arange(64))
        for one, two, three in zip(module(*some), to_module(inside)(*some), to_module(outside)(*some), strict=True):
            assert torch.allclose(one, two, atol=1e-3) and torch.allclose(one, three, atol=1e-3)
    work = run_pass("prune", inputs={"model": folded}, **BY_MACS, steps=3, epochs=8)
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(work.out).graph.node}
    assert digits.accuracy(work.out) > digits.accuracy(digits.model) - 0.02


def test_the_same_inputs_give_the_same_bytes_where_nothing_is_measured(run_pass: Any) -> None:
    first, second = (run_pass("prune", **BY_MACS, steps=2, epochs=1) for _ in range(2))
    assert first.out.read_bytes() == second.out.read_bytes()


def test_widths_of_a_measured_run_make_the_same_model_again(run_pass: Any) -> None:
    measured = run_pass(
        "prune", speedup=1.02, round_to=4, steps=1, step_epochs=0, epochs=0, measure_seconds=0.2, batch=32
    )
    widths = json.loads(note(measured, r"widths (\{.*\})")[1])
    first, second = (
        run_pass("prune", widths=widths, speedup=None, round_to=4, steps=2, epochs=1, batch=32) for _ in range(2)
    )
    assert first.out.read_bytes() == second.out.read_bytes()
    assert json.loads(note(first, r"widths (\{.*\})")[1]) == widths


def test_a_net_whose_channels_all_go_out_is_refused_with_its_layers(tmp_path: Path, run_pass: Any, digits: Any) -> None:
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["input"], ["flat"], name="flat"),
            onnx.helper.make_node("Gemm", ["flat", "w"], ["scores"], name="only"),
        ],
        "linear",
        [info("input", onnx.TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [info("scores", onnx.TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(np.ones((64, 10), np.float32), "w")],
    )
    path = tmp_path / "linear.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8), path)
    with pytest.raises(Refusal) as caught:
        run_pass("prune", inputs={"model": path}, **BY_MACS)
    assert [one.node for one in caught.value.unsupported] == ["only"]


def test_a_width_that_cannot_be_is_refused_and_no_goal_is_an_error(run_pass: Any) -> None:
    with pytest.raises(Refusal, match=r"block1 \(at most 16\)"):
        run_pass("prune", widths={"block1": 99}, steps=1)
    with pytest.raises(CompileError, match="expected a goal"):
        run_pass("prune", speedup=None)


def test_a_fixed_batch_of_one_is_kept(tmp_path: Path, run_pass: Any, digits: Any) -> None:
    model = onnx.load(digits.model)
    for info in [*model.graph.input, *model.graph.output]:
        info.type.tensor_type.shape.dim[0].dim_value = 1
    path = tmp_path / "one.onnx"
    onnx.save(model, path)
    small: Data = digits.train.take(slice(0, 200))
    work = run_pass("prune", inputs={"model": path}, data=small, **{**BY_MACS, "macs": 0.8}, steps=1, epochs=1)
    item = digits.test.take(slice(0, 1))
    assert digits.run(work.out, item)["scores"].shape == (1, 10)
    assert onnxruntime.InferenceSession(str(work.out)).get_inputs()[0].shape == [1, 1, 8, 8]


def test_latency_tells_a_large_net_from_a_small_one(digits: Any) -> None:
    model = onnx.load(digits.model)
    narrow = cut(model, feeds(digits).at(np.arange(2)), {"block1": list(range(12))})
    big, small, again = compare([model, narrow, model], {"input": np.zeros((64, 1, 8, 8), np.float32)}, 0.5)
    assert small.ms < big.ms - big.noise_ms - small.noise_ms
    assert abs(again.ms - big.ms) < 0.5 * big.ms


@given(width=st.integers(1, 512), round_to=st.sampled_from([1, 4, 8, 16]))
def test_a_cut_leaves_a_multiple_that_is_narrower(width: int, round_to: int) -> None:
    found = options(width, round_to)
    assert all(0 < keep < width and keep % round_to == 0 for keep in found)
    assert bool(found) == (width > round_to) or width < 2 * round_to


@given(
    st.lists(
        st.builds(
            Cut,
            root=st.sampled_from("abcd"),
            keep=st.integers(1, 8),
            saves=st.floats(0, 1),
            loses=st.floats(0, 10),
        )
    )
)
def test_cuts_are_ordered_by_what_they_save_for_what_they_lose(cuts: list[Cut]) -> None:
    ordered = order(cuts, need=1.1)
    assert len({cut.root for cut in ordered}) == len(ordered) == len({cut.root for cut in cuts if cut.saves > 0})
    worth = [cut.saves / max(cut.loses, 1e-9) for cut in ordered if cut.loses > 1e-4]
    assert worth == sorted(worth, reverse=True)


def test_a_saving_that_costs_nothing_comes_before_one_that_does() -> None:
    free, dear = Cut("free", 4, 0.1, 0.0), Cut("dear", 4, 0.5, 3.0)
    assert order([dear, free], 1.0) == [free, dear]
    assert order([Cut("still", 4, 0.0, 0.0)], 0.1) == []


def test_near_the_goal_no_cut_is_larger_than_it_must_be() -> None:
    large, small, other = Cut("a", 8, 0.4, 4.0), Cut("a", 12, 0.15, 2.0), Cut("b", 8, 0.1, 1.5)
    assert order([large, small, other], need=0.12) == [small, other]
    assert order([large, small, other], need=0.3) == [large, other]
    assert order([large, small, other], need=0.9)[0] == large, "what is worth most, where nothing is enough"
    assert Goal(2.0, None).need(1.5, 1.0) == pytest.approx(0.25) and Goal(None, 0.5).need(None, 0.8) == pytest.approx(
        0.375
    )


def test_a_goal_is_due_in_equal_parts_and_met_when_all_of_it_is() -> None:
    goal = Goal(speedup=4.0, macs=0.25)
    assert goal.at(1, 2) == Goal(2.0, 0.5) and goal.at(2, 2) == goal
    assert goal.met(4.0, 0.25) and not goal.met(3.9, 0.1) and not goal.met(5.0, 0.3) and not goal.met(None, 0.1)
    assert goal.far(2.0, 0.25, 1.5) and goal.far(4.0, 0.5, 1.5) and not goal.far(3.5, 0.3, 1.5)


def test_given_widths_are_reached_evenly_and_exactly() -> None:
    start, end = {"a": 64, "b": 32}, {"a": 20, "b": 32}
    way = [toward(start, end, step, 4, 8) for step in range(1, 5)]
    assert [widths["a"] for widths in way] == sorted((widths["a"] for widths in way), reverse=True)
    assert way[-1] == end
