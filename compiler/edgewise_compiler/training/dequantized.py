"""The constants of a QDQ graph: taken out to be trained, and put back as they are stored.

A weight of four bits or fewer is stored as INT4 (opset 21) behind a Cast to INT8: onnxruntime folds the Cast when it
loads the file, and computes in int8 as it would have. INT4 right before DequantizeLinear would compute in float.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper

from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.training.lsq import MIN_BITS, Floats, first_step, narrow_range
from edgewise_compiler.training.onnx_torch.quantization import RANGES

Array = npt.NDArray[np.generic]
PACKED_BITS = 4
PACKED_OPSET = 21


@dataclass
class Dequantized:
    """A DequantizeLinear on a constant, taken out of the graph.

    ``bits``: the width asked for, or that of a weight stored in fewer than eight.
    """

    node: onnx.NodeProto
    value: Array
    scale: Floats
    zero_point: Array
    axis: int
    kind: int
    bits: int | None = None

    @property
    def name(self) -> str:
        """Of the float value that it gives."""
        return str(self.node.output[0])

    @property
    def is_bias(self) -> bool:
        """Its scale follows from two others."""
        return bool(self.kind == TensorProto.INT32)

    @property
    def limits(self) -> tuple[int, int]:
        """The integers it may hold; symmetric ones leave out the lowest, as onnxruntime does."""
        if self.bits is not None:
            return narrow_range(self.bits)
        low, high = RANGES[self.kind]
        return (low + 1, high) if low == -high - 1 and not self.zero_point.any() else (low, high)

    def floats(self) -> Floats:
        """What it gives."""
        shape = [-1 if axis == self.axis else 1 for axis in range(self.value.ndim)]
        scale = self.scale.reshape(shape) if self.scale.size > 1 else self.scale
        zero_point = self.zero_point.astype(np.float32)
        zero_point = zero_point.reshape(shape) if zero_point.size > 1 else zero_point
        return np.asarray((self.value.astype(np.float32) - zero_point) * scale, np.float32)

    def narrow(self, floats: Floats, bits: int, axis: int) -> None:
        """To ``bits``, symmetric, with a first step for each channel along ``axis``."""
        self.bits, self.axis, self.kind = bits, axis, TensorProto.INT8
        self.scale = first_step(floats, axis, self.limits[1])
        self.zero_point = np.zeros(len(self.scale), np.int8)


def with_packed_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in the first opset that stores INT4."""
    if any(entry.domain in ("", "ai.onnx") and entry.version >= PACKED_OPSET for entry in model.opset_import):
        return model
    try:
        return onnx.version_converter.convert_version(model, PACKED_OPSET)
    except Exception as error:  # the converter raises built-in classes of all kinds
        raise CompileError(
            f"cannot store weights of {PACKED_BITS} bits: opset {PACKED_OPSET} is needed: {one_line(error)}",
            code="cannot-quantize",
        ) from error


def one_grid_a_pair(graph: onnx.GraphProto) -> None:
    """A DequantizeLinear behind a QuantizeLinear names the same scale: one step is learned for both."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        source = pairs.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if source is None:
            continue
        ours, theirs = (list(part.input[1:]) for part in (node, source))
        if len(ours) == len(theirs) and all(
            a in values and b in values and np.array_equal(values[a], values[b])
            for a, b in zip(ours, theirs, strict=True)
        ):
            node.input[1:] = theirs


def take_constants(graph: onnx.GraphProto) -> list[Dequantized]:
    """The DequantizeLinear nodes on constants, each by value, channel or tensor, out of the graph."""
    values = {tensor.name: tensor for tensor in graph.initializer}
    packed = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "Cast" and node.input[0] in values and values[node.input[0]].data_type == TensorProto.INT4
    }
    taken: list[Dequantized] = []
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        source = packed[node.input[0]].input[0] if node.input and node.input[0] in packed else "".join(node.input[:1])
        if (
            node.op_type != "DequantizeLinear"
            or any(name not in values for name in [source, *node.input[1:]])
            or attributes.get("block_size", 0)
            or values[source].data_type not in RANGES
        ):
            kept.append(node)
            continue
        value = numpy_helper.to_array(values[source])
        scale = numpy_helper.to_array(values[node.input[1]]).astype(np.float32)
        zero_point = numpy_helper.to_array(values[node.input[2]]) if len(node.input) > 2 else np.zeros_like(scale)
        axis = attributes.get("axis", 1) % max(value.ndim, 1)
        kind, bits = values[source].data_type, None
        if node.input[0] != source:
            value, kind = value.astype(np.int8), TensorProto.INT8
            node.input[0] = source
            bits = max(MIN_BITS, int(np.abs(value.astype(np.int16)).max(initial=1)).bit_length() + 1)
        taken.append(Dequantized(node, value, scale, zero_point, axis, kind, bits and min(bits, PACKED_BITS)))
    del graph.node[:]
    graph.node.extend(kept)
    return taken


def restore(graph: onnx.GraphProto, constant: Dequantized, integers: Array, scale: Floats) -> None:
    """The DequantizeLinear as the first of the graph's nodes, with these constants."""
    node = onnx.NodeProto()
    node.CopyFrom(constant.node)
    del node.attribute[:]
    if scale.size > 1:
        node.attribute.append(helper.make_attribute("axis", constant.axis))
    stored = helper.tensor_dtype_to_np_dtype(constant.kind)
    names = list(node.input)
    if constant.bits is not None and constant.bits <= PACKED_BITS:
        packed = helper.tensor_dtype_to_np_dtype(TensorProto.INT4)
        wide = f"{constant.name}/int8"
        source = _put(graph, names[0], integers.astype(np.int8).astype(packed))
        graph.node.insert(0, helper.make_node("Cast", [source], [wide], name=wide, to=TensorProto.INT8))
        names[0], position = wide, 1
    else:
        names[0], position = _put(graph, names[0], integers.astype(stored)), 0
    names[1] = _put(graph, names[1], scale.astype(np.float32))
    zero_point = constant.zero_point.astype(stored)
    names[2:] = [_put(graph, names[2], zero_point)] if zero_point.any() else []  # zero goes without saying
    node.input[:] = names
    graph.node.insert(position, node)


def _put(graph: onnx.GraphProto, name: str, array: Array) -> str:
    """Add an initializer, under another name where something else still has this one."""
    while any(tensor.name == name for tensor in graph.initializer):
        name = f"{name}/learned"
    graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return name
