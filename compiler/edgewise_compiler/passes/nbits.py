"""Weights of few bits that kernels read as they are: MatMulNBits for matrices, GatherBlockQuantized for tables.

Both are contrib operators of onnxruntime. Codes are unsigned; a block of weights of one output channel (or of one row
of a table) has a scale and an offset of its own. Blocks are longer where a scale for each would weigh more than it
gives: twice as long in tables, four times with 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgewise_compiler.passes.graph import Floats, Links, fresh, graphs, set_array, whole
from edgewise_compiler.passes.grid import to_offset_grid

LEAST = 128
"""Elements, half a KB of float32: below it the nodes that bring a weight back cost as much as they save."""
LARGE = 0.1
"""The part of all weights from which on a table is worth 4 bits: a small one, as of positions, is in every answer."""
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Choice:
    """Bits of the matrices and of the tables; ``share`` of all those weights, the largest first, that get so few."""

    bits: int
    tables: int
    share: float = 1.0


def nbits(model: onnx.ModelProto, choice: Choice, block: int, accuracy_level: int) -> int:
    """In place; how many matrices and tables were changed. Tables of 8 bits are left to the caller."""
    graph = model.graph
    links = Links(graph)
    matrices = {
        name: links.weights[name]
        for node in graph.node
        if node.op_type == "MatMul" and links.is_float(name := node.input[1]) and _worth(links.weights[name])
    }
    sizes = {name: int(np.prod(links.weights[name].dims)) for name in matrices}
    rows = tables(graph) if choice.tables < 8 else {}
    sizes |= {name: int(np.prod(links.weights[name].dims)) for name in rows}
    sizes = {name: size for name, size in sizes.items() if name in matrices or size >= LARGE * sum(sizes.values())}
    few = _largest(sizes, choice.share)
    changed = 0
    for node in list(graph.node):
        if node.op_type == "MatMul" and node.input[1] in matrices:
            bits = choice.bits if node.input[1] in few else 8
            changed += _matmul(graph, node, bits, block if bits < 8 else 4 * block, accuracy_level)
    for name, readers in rows.items():
        if name in few:
            changed += _gather(graph, name, readers, choice.tables, 2 * block)
    if changed and all(entry.domain != MICROSOFT for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return changed


def tables(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Float tables [rows, width] that only Gather reads, along rows: by name, with their readers."""
    links = Links(graph)
    inner = {name for part in list(graphs(graph))[1:] for node in part.node for name in node.input}
    found = {}
    for name, tensor in links.weights.items():
        readers = links.readers.get(name, [])
        if (
            readers
            and _worth(tensor)
            and tensor.dims[1] >= 8
            and name not in links.outputs
            and name not in inner
            and all(node.op_type == "Gather" and not whole(node, "axis", 0) for node in readers)
            and all(node.input[0] == name for node in readers)
        ):
            found[name] = readers
    return found


def _worth(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2 and np.prod(tensor.dims) >= LEAST


def _largest(sizes: dict[str, int], share: float) -> set[str]:
    """The largest of them that together are no more than ``share`` of all."""
    taken, room = set(), share * sum(sizes.values())
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        room -= sizes[name]
        if room < 0:
            break
        taken.add(name)
    return taken


def _matmul(graph: onnx.GraphProto, node: onnx.NodeProto, bits: int, block: int, accuracy_level: int) -> int:
    """A matrix [k, n] on the right of a MatMul. The operator reads codes uint8 [n, blocks, bytes], low half of a byte
    first, scales [n, blocks] and offsets packed along a row; the last block of a row is filled up with zeros."""
    weight = Links(graph).array(node.input[1]).astype(np.float32)
    if not np.isfinite(weight).all():
        return 0
    k, n = weight.shape
    codes, scales, offsets = to_offset_grid(_in_blocks(weight.T, block), (2,), bits)
    give = fresh(graph)
    names = [give(f"{node.name}.{part}") for part in ("codes", "scales", "offsets")]
    set_array(graph, names[0], _packed(codes, bits))
    set_array(graph, names[1], scales[..., 0])
    set_array(graph, names[2], _packed(offsets[..., 0], bits))
    made = helper.make_node(
        "MatMulNBits",
        [node.input[0], *names],
        list(node.output),
        name=node.name,
        domain=MICROSOFT,
        K=k,
        N=n,
        bits=bits,
        block_size=block,
        accuracy_level=accuracy_level,
    )
    node.CopyFrom(made)
    return 1


def _gather(graph: onnx.GraphProto, name: str, readers: list[onnx.NodeProto], bits: int, block: int) -> int:
    """A table [rows, width]: codes as the operator's own 4-bit type, scales and offsets [rows, blocks]."""
    weight = Links(graph).array(name).astype(np.float32)
    if not np.isfinite(weight).all() or weight.shape[1] % block:
        return 0
    codes, scales, offsets = to_offset_grid(_in_blocks(weight, block), (2,), bits)
    give = fresh(graph)
    names = [give(f"{name}.{part}") for part in ("codes", "scales", "offsets")]
    set_array(graph, names[1], scales[..., 0])
    for stored, values in ((names[0], codes.reshape(weight.shape)), (names[2], offsets[..., 0])):
        packed = _packed(values.reshape(1, -1), bits)
        graph.initializer.append(
            helper.make_tensor(stored, TensorProto.UINT4, values.shape, packed.tobytes(), raw=True)
        )
    for node in readers:
        made = helper.make_node(
            "GatherBlockQuantized",
            [names[0], node.input[1], names[1], names[2]],
            list(node.output),
            name=node.name,
            domain=MICROSOFT,
            gather_axis=0,
            quantize_axis=1,
            block_size=block,
        )
        node.CopyFrom(made)
    return 1


def _in_blocks(rows: Floats, block: int) -> Floats:
    """Rows [n, k] as [n, blocks, block], filled up with zeros."""
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % block))).reshape(len(rows), -1, block)


def _packed(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Two codes of 4 bits in a byte along the last axis, the first one low; an odd one is alone in its byte."""
    if bits == 8:
        return codes
    even = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, codes.shape[-1] % 2)])
    return np.ascontiguousarray(even[..., 0::2] | (even[..., 1::2] << 4))
