"""The last step of an ONNX file: without what a runtime does not read.

In a net of a few thousand weights names, shapes and repeated constants take more room than the weights: inner tensors
get short names, nodes lose theirs, inferred shapes go, equal constants become one, and the zero points that are zero by
default are left out.
"""

from __future__ import annotations

import string
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgewise_compiler.export import anonymous
from edgewise_compiler.passes import Pass, Work

DIGITS = string.ascii_letters + string.digits


class Strip(Pass):
    """Same operators, same weights, a smaller file."""

    name = "strip"
    title = "strip names and repeated constants"
    tolerance = 1e-6

    def run(self, work: Work) -> None:
        """Graphs with inner graphs keep their names: those are seen from inside."""
        model = onnx.load_model(str(work.inputs["model"]))
        anonymous(model)
        del model.graph.value_info[:]
        if not any(attribute.HasField("g") or attribute.graphs for n in model.graph.node for attribute in n.attribute):
            _default_zero_points(model.graph)
            _merge_constants(model.graph)
            _shorten(model.graph)
        model.graph.name = "g"
        model.producer_name = model.producer_version = ""
        onnx.save_model(model, str(work.out))


def _default_zero_points(graph: onnx.GraphProto) -> None:
    """DequantizeLinear without a zero point takes zero, of its input's type; so does a uint8 QuantizeLinear."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in ("DequantizeLinear", "QuantizeLinear") or len(node.input) < 3:
            continue
        zero = constants.get(node.input[2])
        if zero is None or zero.data_type in (TensorProto.INT4, TensorProto.UINT4):
            continue
        unsigned = zero.data_type == TensorProto.UINT8
        if (node.op_type == "DequantizeLinear" or unsigned) and not numpy_helper.to_array(zero).any():
            del node.input[2:]


def _merge_constants(graph: onnx.GraphProto) -> None:
    """One initializer for all that hold the same; those that nothing reads go."""
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    same: dict[str, str] = {}
    outputs = {value.name for value in [*graph.output, *graph.input]}
    for tensor in graph.initializer:
        if tensor.name in outputs or tensor.data_type == TensorProto.STRING:
            continue
        array = numpy_helper.to_array(tensor)
        key = (tensor.data_type, tuple(tensor.dims), np.ascontiguousarray(array).tobytes())
        same[tensor.name] = first.setdefault(key, tensor.name)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    read = {name for node in graph.node for name in node.input} | outputs
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _shorten(graph: onnx.GraphProto) -> None:
    kept = {value.name for value in [*graph.input, *graph.output]}
    names = (name for name in _names() if name not in kept)
    short: dict[str, str] = {"": ""} | {name: name for name in kept}

    def renamed(name: str) -> str:
        if name not in short:
            short[name] = next(names)
        return short[name]

    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    for node in graph.node:
        node.name = ""
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]


def _names() -> Iterator[str]:
    """a, b, ... 9, aa, ab, ..."""
    for letter in DIGITS:
        yield letter
    for first in _names():
        for letter in DIGITS:
            yield first + letter
