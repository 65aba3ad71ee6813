"""TFLite in: a flatbuffer -> an ONNX model that gives the same answers.

Rules that hold here:
- inputs and outputs keep the file's names, shapes (channels last) and types; inside, convolutions run channels first;
- a quantized graph comes out as QuantizeLinear and DequantizeLinear pairs around operators on real values, fp16 weights
  as fp32;
- a fixed batch of 1 becomes dynamic where every operator treats the items of a batch alike (``batch.py``);
- what has no form here is refused, all of it at once; a damaged file is one line.

``tflite_file`` reads and checks the file, ``tflite_graph`` keeps track of values and layouts over ``tflite_nodes``,
``tflite_ops`` has the table of operators.
"""

from __future__ import annotations

import onnx
from onnx import helper, shape_inference

from edgewise_compiler.errors import CompileError, Unsupported, one_line
from edgewise_compiler.passes import Refusal
from edgewise_compiler.sources.batch import free_batch
from edgewise_compiler.sources.tflite_file import DAMAGE, Operator, TfliteFile, damaged, read_tflite
from edgewise_compiler.sources.tflite_graph import Cannot, Graph
from edgewise_compiler.sources.tflite_ops import REWRITES, WRITERS

OPSET = 18
IR_VERSION = 9
SHOWN = 20
"""Refused operators that the message lists; ``Refusal.unsupported`` has them all."""


def tflite_to_onnx(data: bytes, *, float_io: bool = False, dynamic_batch: bool = True) -> onnx.ModelProto:
    """An ONNX model (opset 18) that answers as the TFLite file does.

    ``float_io``: quantized inputs and outputs become float32, in real units. ``dynamic_batch``: free a fixed batch of 1
    where that is provably right.

    Raises CompileError (code ``bad-source``: no TFLite file, damaged, or over a bound; ``missing-extra``) and Refusal
    (code ``unsupported``, with every operator that has no form here).
    """
    file = read_tflite(data)
    graph = Graph(file, float_io=float_io)
    refused = _write(graph, file)
    try:
        finished = None if refused else graph.finish("tflite")
    except Cannot as error:
        refused.append(Unsupported(node="output", op="output", why=error.why, rewrite=error.rewrite))
        finished = None
    if finished is None:
        raise _refusal(refused)
    model = helper.make_model(finished, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "edgewise"
    _check(model)
    return free_batch(model)[0] if dynamic_batch else model


def _write(graph: Graph, file: TfliteFile) -> list[Unsupported]:
    """Write every operator; those that have no form here are given back."""
    refused: list[Unsupported] = []
    for operator in file.operators:
        graph.at(operator)
        try:
            _write_one(graph, operator)
        except Cannot as error:
            name = (
                f"{operator.index}: {file.tensors[operator.outputs[0]].name}"
                if operator.outputs
                else f"{operator.index}"
            )
            refused.append(Unsupported(node=name, op=operator.name, why=error.why, rewrite=error.rewrite))
            for index in operator.outputs:
                graph.forget(index)
    return refused


def _write_one(graph: Graph, operator: Operator) -> None:
    writer = WRITERS.get(operator.name)
    if writer is None:
        rewrite = REWRITES.get(operator.name, "express it with other operators, or give the model as ONNX or PyTorch")
        raise Cannot("has no form in ONNX here", rewrite)
    try:
        writer(graph, operator)
    except DAMAGE as error:  # inputs, shapes or options that no converter writes
        why = f"{type(error).__name__}: {one_line(error)}"
        raise damaged(f"operator {operator.index} {operator.name}: not as the schema has it: {why}") from error


def _refusal(refused: list[Unsupported]) -> Refusal:
    listed = "; ".join(str(each) for each in refused[:SHOWN])
    more = f"; and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
    count = "1 operator has" if len(refused) == 1 else f"{len(refused)} operators have"
    return Refusal(f"TFLite file: {count} no form here: {listed}{more}", refused, code="unsupported")


def _check(model: onnx.ModelProto) -> None:
    """Do types and shapes fit, and come out as the file says? Raises CompileError (code ``bad-source``)."""
    try:
        onnx.checker.check_model(model)
        shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError, ValueError) as error:
        raise CompileError(
            f"TFLite file: its operators do not fit together: {one_line(error)}", code="bad-source"
        ) from error
