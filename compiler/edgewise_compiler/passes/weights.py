"""Smaller weights, computed in float: 16, 8 or 4 bits in the file.

Two forms:
- ``folded``: stored small, brought back to float by Cast and Mul, which onnxruntime works out once, at load: the file
  is smaller and the speed is that of float, for nets too small to gain from integer arithmetic;
- ``nbits``: kernels that read the small weights at each run (``nbits``): less memory too. Weights of other operators
  are folded.

Rules that hold here:
- weights of ``LEAST`` elements or more, of the operators in ``WEIGHT_INPUTS``, in inner graphs too;
- a scale per output channel for 8 bits; per block of ``block`` weights of a channel for 4 bits;
- an embedding table stays small at run time too: rows are gathered as integers, then scaled;
- of an already quantized model the weights of layers that stayed float are compressed, and the rest is left alone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgewise_compiler.passes import Pass, PassConfig, Refusal, Work
from edgewise_compiler.passes.graph import (
    Floats,
    Links,
    anonymize,
    fresh,
    graphs,
    load,
    name_nodes,
    opset,
    save,
    set_array,
    sort,
    sweep,
    tidy,
    whole,
)
from edgewise_compiler.passes.grid import to_grid
from edgewise_compiler.passes.nbits import LEAST, Choice, nbits, tables
from edgewise_compiler.passes.optimize import raise_opset

WEIGHT_INPUTS = {
    "Conv": (1,), "ConvTranspose": (1,), "Gemm": (1,), "MatMul": (0, 1), "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2),
    "Attention": (1,), "Gather": (0,),
}  # fmt: skip
INT4_OPSET = 21

Shape = tuple[int, ...]


class Weights(Pass):
    """Weight-only compression by rounding to the nearest."""

    name = "weights"
    version = 2
    title = "compress the weights"
    paper = "Krishnamoorthi 2018, arXiv:1806.08342; Dettmers et al. 2023, arXiv:2305.14314 (4-bit blocks)"
    forbids = frozenset({"half", "weights"})
    gives = frozenset({"weights"})
    drops = frozenset({"float32"})
    lossy = True
    packages = ("onnx", "numpy")

    class Config(PassConfig, frozen=True, kw_only=True):
        """``block``: weights a scale for 4 bits. For ``nbits``: ``share`` of the weights that get ``bits``, the largest
        matrices first, where the others get 8; ``tables``: bits of embedding tables, 8 where a runtime has no kernel
        for 4; ``accuracy_level`` of MatMulNBits: 4 computes in int8, 1 in float."""

        bits: Literal[16, 8, 4] = 8
        block: int = 32
        form: Literal["folded", "nbits"] = "folded"
        share: float = 1.0
        embeddings: bool = True
        tables: Literal[8, 4] = 8
        accuracy_level: int = 4

    def run(self, work: Work) -> None:
        """Write the model with small weights. Refuses one that has none worth it."""
        config: Weights.Config = work.config
        model = load(work.inputs["model"])
        tidy(model)
        if config.form == "nbits" and config.bits == 16:
            raise Refusal("MatMulNBits holds 8 or 4 bits, not 16: take the folded form")
        if not 0 < config.share <= 1:
            raise Refusal(f"a share of the weights lies in (0, 1], not at {config.share}")
        if config.form == "nbits" and (config.block < 16 or config.block & (config.block - 1)):
            raise Refusal(f"MatMulNBits takes blocks of 16, 32, 64, ... weights, not {config.block}")
        if config.bits == 4 and opset(model) < INT4_OPSET and any(weights_of(graph) for graph in graphs(model.graph)):
            model = raise_opset(model, INT4_OPSET)
            tidy(model)
        changed = 0
        if config.form == "nbits":
            changed = nbits(
                model, Choice(config.bits, config.tables, config.share), config.block, config.accuracy_level
            )
        for graph in graphs(model.graph):
            if config.embeddings and config.bits <= 8:
                changed += embeddings_to_int8(graph)
            changed += fold(graph, config.bits, config.block)
        if not changed and any(node.op_type == "DequantizeLinear" for node in model.graph.node):
            work.notes.append("no float weight left to compress")
        elif not changed:
            raise Refusal(f"no weight of {LEAST} elements or more that could be stored in {config.bits} bits")
        sweep(model)
        anonymize(model)
        name_nodes(model.graph)
        model.ir_version = max(model.ir_version, 10)  # the first with 4-bit integers
        save(model, work.out)


def weights_of(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Float weights that are worth it, by name, each with the first node that reads it as one."""
    found: dict[str, onnx.NodeProto] = {}
    large = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1 and np.prod(tensor.dims) >= LEAST
    }
    outputs = {output.name for output in graph.output}
    for part in graphs(graph):
        for node in part.node:
            for index in WEIGHT_INPUTS.get(node.op_type, ()):
                if len(node.input) > index and node.input[index] in large - outputs:
                    found.setdefault(node.input[index], node)
    return found


def blocks(shape: Shape, node: onnx.NodeProto, index: int, block: int | None) -> tuple[Shape, Shape]:
    """How a weight is seen in blocks that share a scale: (shape of the view, axes within a block).

    ``block`` None: one block an output channel. Blocks run along the input side; none is cut: a side that no length
    near ``block`` divides is one block.
    """
    columns = node.op_type == "MatMul" or (node.op_type == "Gemm" and not whole(node, "transB", 0))
    columns = columns or node.op_type == "Attention"
    if node.op_type == "ConvTranspose":
        return shape, tuple(axis for axis in range(len(shape)) if axis != 1)
    if columns and len(shape) == 2 and index == 1:
        side = _divisor(shape[0], block)
        return (shape[0] // side, side, shape[1]), (1,)
    lead = shape[:2] if node.op_type in ("LSTM", "GRU", "RNN") else shape[:1]
    if node.op_type == "MatMul":
        lead = shape[:-1]
    rest = int(np.prod(shape[len(lead) :]))
    side = _divisor(rest, block)
    return (*lead, rest // side, side), (len(lead) + 1,)


def _divisor(side: int, block: int | None) -> int:
    if block is None:
        return side
    fitting = [size for size in range(max(2, block // 2), block * 3 // 2 + 1) if side % size == 0]
    return min(fitting, key=lambda size: (abs(size - block), size), default=side)


def fold(graph: onnx.GraphProto, bits: int, block: int) -> int:
    """Store the float weights of a graph in ``bits``, with the nodes that bring them back. Returns how many."""
    give, made, changed = fresh(graph), [], 0
    for name, node in weights_of(graph).items():
        links = Links(graph)
        weight = links.array(name).astype(np.float32)
        if not np.isfinite(weight).all():
            continue
        if bits == 16:
            if np.abs(weight).max() > np.finfo(np.float16).max:
                continue
            stored = give(f"{name}.f16")
            set_array(graph, stored, weight.astype(np.float16))
            made.append(helper.make_node("Cast", [stored], [name], name=give(f"{name}.float"), to=TensorProto.FLOAT))
        else:
            index = list(node.input).index(name)
            view, within = blocks(weight.shape, node, index, None if bits == 8 else block)
            codes, scales = to_grid(weight.reshape(view), within, bits)
            made += _back(graph, name, weight.shape, codes, scales, bits, node.name)
        for tensor in graph.initializer:
            if tensor.name == name:
                graph.initializer.remove(tensor)
                break
        changed += 1
    if made:
        rest = list(graph.node)
        del graph.node[:]
        graph.node.extend([*made, *rest])
    return changed


def _back(
    graph: onnx.GraphProto,
    name: str,
    shape: tuple[int, ...],
    codes: npt.NDArray[np.int8],
    scales: Floats,
    bits: int,
    reader: str,
) -> list[onnx.NodeProto]:
    give = fresh(graph)
    stored, scale = give(f"{name}.q"), give(f"{name}.scale")
    if bits == 4:
        graph.initializer.append(helper.make_tensor(stored, TensorProto.INT4, codes.shape, codes.ravel()))
    else:
        # In the weight's own shape no Reshape is needed.
        spread = np.broadcast_to(scales, codes.shape).reshape(shape)
        own = _own_scales(spread)
        if own is not None:
            codes, scales = codes.reshape(shape), own
        set_array(graph, stored, codes)
    set_array(graph, scale, scales)
    cast, product = give(f"{name}.cast"), give(f"{name}.product")
    made = [helper.make_node("Cast", [stored], [cast], name=f"{cast}.node", to=TensorProto.FLOAT)]
    if codes.shape == shape:
        return [*made, helper.make_node("Mul", [cast, scale], [name], name=f"{product}.node")]
    size = give(f"{name}.shape")
    set_array(graph, size, np.array(shape, dtype=np.int64))
    return [
        *made,
        helper.make_node("Mul", [cast, scale], [product], name=f"{product}.node"),
        helper.make_node("Reshape", [product, size], [name], name=f"{name}.reshape"),
    ]


def _own_scales(spread: Floats) -> Floats | None:
    """Scales with one length on every axis along which they are all the same; None where that loses something."""
    small = spread
    for axis in range(spread.ndim):
        first = np.take(small, [0], axis=axis)
        if (small == first).all():
            small = first
    return np.ascontiguousarray(small) if small.size * 4 <= spread.size else None


def embeddings_to_int8(graph: onnx.GraphProto) -> int:
    """Tables that only Gather reads become int8, a scale a row; rows are brought back as gathered. Returns how many."""
    give, changed = fresh(graph), 0
    for name, readers in tables(graph).items():
        links = Links(graph)
        tensor = links.weights[name]
        codes, scales = to_grid(links.array(name).astype(np.float32), (1,), 8)
        stored, scale = give(f"{name}.q"), give(f"{name}.scale")
        set_array(graph, stored, codes)
        set_array(graph, scale, scales)
        for node in readers:
            rows, factor, cast = give(f"{node.name}.rows"), give(f"{node.name}.scales"), give(f"{node.name}.cast")
            more = [
                helper.make_node("Gather", [scale, node.input[1]], [factor], name=give(f"{node.name}.gather"), axis=0),
                helper.make_node("Cast", [rows], [cast], name=give(f"{node.name}.float"), to=TensorProto.FLOAT),
                helper.make_node("Mul", [cast, factor], [node.output[0]], name=give(f"{node.name}.scaled")),
            ]
            node.input[0], node.output[0] = stored, rows
            graph.node.extend(more)
        graph.initializer.remove(tensor)
        changed += 1
    if changed:
        sort(graph)
    return changed
