"""Layers of a QDQ graph: reading and changing their integer weights and biases.

A quantized layer reads its weight from a DequantizeLinear of a constant, and so its bias: int32, by the product of the
scales of its input and of its weight, as integer kernels want it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgewise_compiler.passes.graph import (
    WEIGHTED,
    Floats,
    Links,
    fresh,
    opset,
    out_axis,
    set_array,
    sort,
    sweep,
    tidy,
)
from edgewise_compiler.passes.grid import to_grid
from edgewise_compiler.passes.optimize import raise_opset

INT4_OPSET = 21
Doubles = npt.NDArray[np.float64]


def parts(links: Links, node: onnx.NodeProto, index: int) -> onnx.NodeProto | None:
    """The DequantizeLinear of a constant behind an input of a layer: its quantized weight (1) or bias (2)."""
    if len(node.input) <= index:
        return None
    made = links.maker.get(node.input[index])
    if made is None or made.op_type != "DequantizeLinear" or made.input[0] not in links.weights:
        return None
    return made


def narrow(quantized: onnx.ModelProto, source: onnx.ModelProto, bits: int) -> onnx.ModelProto:
    """A QDQ model with the weights of its layers on a grid of 4 or 3 bits, from the float model it came from."""
    if opset(quantized) < INT4_OPSET:
        quantized = raise_opset(quantized, INT4_OPSET)
        tidy(quantized)
    originals = {node.name: node for node in source.graph.node}
    floats = Links(source.graph)
    for node in [node for node in quantized.graph.node if node.op_type in WEIGHTED]:
        links = Links(quantized.graph)
        stored = parts(links, node, 1)
        origin = originals.get(node.name)
        if stored is None or origin is None or not floats.is_float(origin.input[1]):
            continue
        weight = floats.array(origin.input[1]).astype(np.float32)
        axis = out_axis(node, weight.ndim)
        codes, scales = to_grid(weight, tuple(i for i in range(weight.ndim) if i != axis), bits)
        bias = parts(links, node, 2)
        value = floats.array(origin.input[2]).astype(np.float64) if bias is not None else None
        set_weight(quantized.graph, node, codes, scales.ravel(), axis, bits)
        if value is not None:
            set_bias(quantized.graph, node, value)
    sort(quantized.graph)
    sweep(quantized)
    quantized.ir_version = max(quantized.ir_version, 10)
    return quantized


def set_weight(
    graph: onnx.GraphProto, node: onnx.NodeProto, codes: npt.NDArray[np.int8], scales: Floats, axis: int, bits: int = 8
) -> None:
    """Give a quantized layer other weights: ``codes`` int8 and ``scales`` per channel of ``axis``.

    With ``bits`` of four or less they are stored as 4-bit integers. The bias must be set again after it.
    """
    links = Links(graph)
    stored = parts(links, node, 1)
    assert stored is not None
    give = fresh(graph)
    name, scale = give(f"{node.name}.w"), give(f"{node.name}.s")
    set_array(graph, scale, scales)
    if bits <= 4:
        packed = give(f"{node.name}.w4")
        graph.initializer.append(helper.make_tensor(packed, TensorProto.INT4, codes.shape, codes.ravel()))
        graph.node.insert(
            0, helper.make_node("Cast", [packed], [name], name=give(f"{node.name}.cast"), to=TensorProto.INT8)
        )
    else:
        set_array(graph, name, codes)
    made = helper.make_node("DequantizeLinear", [name, scale], [stored.output[0]], name=stored.name, axis=axis)
    stored.CopyFrom(made)


def set_bias(graph: onnx.GraphProto, node: onnx.NodeProto, value: Doubles) -> None:
    """Give a quantized layer another bias, float64 [channels]: int32 by the scales of its input and weight."""
    links = Links(graph)
    bias, weight = parts(links, node, 2), weight_scales(links, node)
    data = links.maker.get(node.input[0])
    assert bias is not None and weight is not None
    assert data is not None and data.op_type == "DequantizeLinear"
    scale = links.array(data.input[1]).astype(np.float64) * weight.astype(np.float64)
    scale = np.broadcast_to(scale, value.shape)
    codes = np.asarray(np.clip(np.round(value / scale), -(2**31), 2**31 - 1), dtype=np.int32)
    give = fresh(graph)
    names = [give(f"{node.name}.b"), give(f"{node.name}.bs")]
    set_array(graph, names[0], codes)
    set_array(graph, names[1], scale.astype(np.float32))
    bias.CopyFrom(helper.make_node("DequantizeLinear", names, [bias.output[0]], name=bias.name, axis=0))


def bias_value(links: Links, node: onnx.NodeProto) -> Doubles | None:
    """What a quantized layer's int32 bias stands for, [channels]; None where it has none."""
    bias = parts(links, node, 2)
    if bias is None:
        return None
    codes, scale = links.array(bias.input[0]), links.array(bias.input[1])
    return np.asarray(codes.astype(np.float64) * scale.astype(np.float64), dtype=np.float64)


def add_bias(graph: onnx.GraphProto, node: onnx.NodeProto, value: Doubles) -> None:
    """Give a quantized layer without a bias one, as ``set_bias`` does."""
    give = fresh(graph)
    codes, scale, name = give(f"{node.name}.b0"), give(f"{node.name}.bs0"), give(f"{node.name}.bias")
    set_array(graph, codes, np.zeros(value.shape, dtype=np.int32))
    set_array(graph, scale, np.ones(value.shape, dtype=np.float32))
    position = list(graph.node).index(node)
    graph.node.insert(
        position, helper.make_node("DequantizeLinear", [codes, scale], [name], name=f"{name}.node", axis=0)
    )
    node.input.append(name)
    set_bias(graph, node, value)


def weight_scales(links: Links, node: onnx.NodeProto) -> Floats | None:
    """Scales of a quantized layer's weight, [channels] or a scalar; None where it is float."""
    made = links.maker.get(node.input[1])
    if made is None or made.op_type != "DequantizeLinear" or made.input[1] not in links.weights:
        return None
    return links.array(made.input[1]).astype(np.float32)
