"""Transposes that a TFLite file does without, in place. Convolutions there are channels last, as the runtime's are.

The converter keeps channels first around paddings and means, and pays for it with a transpose before and after each. A
transpose moves past a padding, vanishes into a mean, and cancels out with its inverse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_quantizer import qtyping

from . import tflite

BUILTIN = qtyping.BuiltinOperator
REDUCTIONS = (BUILTIN.MEAN, BUILTIN.SUM, BUILTIN.REDUCE_MAX, BUILTIN.REDUCE_MIN)
MAX_ROUNDS = 1000
"""No file needs as many: each round takes one step."""


def simplify(model: Any) -> None:
    """Until nothing is left to do. Answers stay the same."""
    graph = model.subgraphs[0]
    for _ in range(MAX_ROUNDS):
        if not any(_step(model, graph, op) for op in graph.operators if _code(model, op) == BUILTIN.TRANSPOSE):
            break
    _drop_dead(model, graph)


def _step(model: Any, graph: Any, transpose: Any) -> bool:
    """One step with this transpose, if there is one."""
    order = _constant(model, graph, transpose.inputs[1])
    if order is None:
        return False
    for op in _readers(graph, transpose.outputs[0]):
        code = _code(model, op)
        if op.inputs[0] != transpose.outputs[0] or list(op.inputs).count(op.inputs[0]) != 1:
            continue
        if code == BUILTIN.TRANSPOSE and _cancel(model, graph, transpose, op, order):
            return True
        if code in REDUCTIONS and _into_reduction(model, graph, transpose, op, order):
            return True
        if code == BUILTIN.PAD and _past_padding(model, graph, transpose, op, order):
            return True
    return False


def _cancel(model: Any, graph: Any, first: Any, second: Any, order: npt.NDArray[np.int32]) -> bool:
    back = _constant(model, graph, second.inputs[1])
    readers = _readers(graph, second.outputs[0])
    if (
        back is None
        or second.outputs[0] in graph.outputs
        or list(order[back]) != list(range(len(order)))
        or not readers
    ):
        return False
    for op in readers:
        op.inputs = [first.inputs[0] if i == second.outputs[0] else i for i in op.inputs]
    return True


def _into_reduction(model: Any, graph: Any, transpose: Any, op: Any, order: npt.NDArray[np.int32]) -> bool:
    axes = _constant(model, graph, op.inputs[1])
    if axes is None or op.builtinOptions.keepDims:
        return False
    gone = {int(axis) % len(order) for axis in axes.reshape(-1)}
    kept = [int(order[axis]) for axis in range(len(order)) if axis not in gone]
    if kept != sorted(kept):
        return False
    moved = np.array(sorted(int(order[axis]) for axis in gone), np.int32)
    op.inputs = [transpose.inputs[0], _add_constant(model, graph, op.inputs[1], moved)]
    return True


def _past_padding(model: Any, graph: Any, transpose: Any, pad: Any, order: npt.NDArray[np.int32]) -> bool:
    """transpose, pad -> pad, transpose; the transpose keeps its other readers."""
    sizes = _constant(model, graph, pad.inputs[1])
    if sizes is None or sizes.dtype != np.int32:
        return False
    source, padded = graph.tensors[transpose.inputs[0]], graph.tensors[pad.outputs[0]]
    moved = np.zeros_like(sizes)
    moved[order] = sizes
    inner = qtyping.TensorT()
    inner.name, inner.type, inner.buffer = padded.name + b"_last", padded.type, 0
    inner.shape = [int(size) + int(row.sum()) for size, row in zip(source.shape, moved, strict=True)]
    graph.tensors.append(inner)
    between = len(graph.tensors) - 1
    after = qtyping.OperatorT()
    after.opcodeIndex, after.builtinOptionsType, after.builtinOptions = (
        transpose.opcodeIndex,
        transpose.builtinOptionsType,
        transpose.builtinOptions,
    )
    after.inputs, after.outputs = [between, transpose.inputs[1]], [pad.outputs[0]]
    pad.inputs = [transpose.inputs[0], _add_constant(model, graph, pad.inputs[1], moved)]
    pad.outputs = [between]
    graph.operators.insert(graph.operators.index(pad) + 1, after)
    return True


def _drop_dead(model: Any, graph: Any) -> None:
    """Operators that nobody reads any more, and tensors that nobody names."""
    read = {int(i) for i in graph.outputs}
    alive = []
    for op in reversed(graph.operators):
        if any(int(o) in read for o in op.outputs):
            alive.append(op)
            read |= {int(i) for i in op.inputs}
    graph.operators = alive[::-1]
    made = {int(o) for op in alive for o in op.outputs}
    kept = sorted(({int(i) for i in graph.inputs} | read | made) - {-1})
    place = {-1: -1, **{old: new for new, old in enumerate(kept)}}
    graph.tensors = [graph.tensors[index] for index in kept]
    for holder in (graph, *graph.operators):
        holder.inputs = [place[int(i)] for i in holder.inputs]
        holder.outputs = [place[int(i)] for i in holder.outputs]
    for entry in tflite.signature_tensors(model):
        entry.tensorIndex = place[int(entry.tensorIndex)]


def _readers(graph: Any, tensor: int) -> list[Any]:
    return [op for op in graph.operators if tensor in list(op.inputs)]


def _code(model: Any, op: Any) -> int:
    return int(model.operatorCodes[op.opcodeIndex].builtinCode)


def _constant(model: Any, graph: Any, index: int) -> npt.NDArray[np.int32] | None:
    """The value of a constant int32 tensor."""
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None or not len(data) or tensor.type != qtyping.TensorType.INT32:
        return None
    return np.frombuffer(bytes(data), np.int32).reshape([int(size) for size in tensor.shape])


def _add_constant(model: Any, graph: Any, like: int, value: npt.NDArray[np.int32]) -> int:
    buffer = tflite.schema.BufferT()
    buffer.data = np.frombuffer(value.astype(np.int32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor = qtyping.TensorT()
    tensor.name = graph.tensors[like].name + f"_last{len(graph.tensors)}".encode()
    tensor.type, tensor.shape, tensor.buffer = qtyping.TensorType.INT32, list(value.shape), len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1
