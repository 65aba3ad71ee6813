"""Plans are checked before anything is computed, and what is the same is computed once."""

from __future__ import annotations

import pytest

from edgewise_compiler.errors import CompileError
from edgewise_compiler.passes import find
from edgewise_compiler.passes.calibrate import Calibrate
from edgewise_compiler.passes.quantize import Quantize
from edgewise_compiler.plan import Node, Origin, Step, check, node, order

SOURCE = Origin("the source", "onnx", frozenset({"float32"}))


def int8(model: Step) -> Node:
    return node("quantize", model=model, ranges=node("calibrate", model=model))


def test_what_two_ask_for_alike_is_one_node() -> None:
    one, other = int8(node("optimize", model=SOURCE)), int8(node("optimize", model=SOURCE))
    other = node("quantize", Quantize.Config(scheme="s8s8"), **dict(other.inputs))
    assert one != other
    assert [step.pass_name for step in order(one, other)] == ["optimize", "calibrate", "quantize", "quantize"]


def test_traits_go_on_from_pass_to_pass() -> None:
    optimized = node("optimize", model=SOURCE)
    assert optimized.traits == {"float32", "folded"}
    assert "quantized" in int8(optimized).traits and "float32" not in int8(optimized).traits


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (lambda: int8(SOURCE), "quantize needs a model that is folded; the source gives float32"),
        (lambda: int8(int8(node("optimize", model=SOURCE))), "needs a model that is float32"),
        (lambda: node("quantize", model=node("optimize", model=SOURCE)), "ranges is missing"),
        (lambda: node("optimize", model=node("calibrate", model=SOURCE)), "expected onnx, got ranges"),
        (lambda: node("optimize", Calibrate.Config(), model=SOURCE), "expected the configuration"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_in_one_line(step: object, problem: str) -> None:
    with pytest.raises(CompileError) as caught:
        check(step())  # type: ignore[operator]
    assert problem in str(caught.value) and caught.value.code == "cannot-plan"


def test_an_unknown_pass_is_refused_with_those_there_are() -> None:
    with pytest.raises(CompileError, match=r"unknown pass 'quantise': expected one of .*quantize"):
        find("quantise")
