"""Which TFLite operator is written how: the table, and the operators of arithmetic.

To add an operator: one function ``(graph, operator) -> None`` that reads ``graph.value(...)``, writes
``graph.node(...)`` and gives the result with ``graph.set(...)``, and one line in ``WRITERS``. It raises Cannot for what
has no form in ONNX, with what would help.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from edgewise_compiler.sources import tflite_shapes as shapes
from edgewise_compiler.sources import tflite_windows as windows
from edgewise_compiler.sources.tflite_file import Operator, damaged
from edgewise_compiler.sources.tflite_graph import LAST, Cannot, Graph, Layout
from edgewise_compiler.sources.tflite_windows import CLIPS, activate, activation

Writer = Callable[[Graph, Operator], None]

UNARY = {
    "ABS": "Abs",
    "CEIL": "Ceil",
    "COS": "Cos",
    "ELU": "Elu",
    "EXP": "Exp",
    "FLOOR": "Floor",
    "HARD_SWISH": "HardSwish",
    "LOG": "Log",
    "LOGICAL_NOT": "Not",
    "LOGISTIC": "Sigmoid",
    "NEG": "Neg",
    "ROUND": "Round",
    "SIGN": "Sign",
    "SIN": "Sin",
    "SQRT": "Sqrt",
}
BINARY = {
    "ADD": "Add",
    "DIV": "Div",
    "EQUAL": "Equal",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
    "LOGICAL_AND": "And",
    "LOGICAL_OR": "Or",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "MUL": "Mul",
    "POW": "Pow",
    "PRELU": "PRelu",
    "SUB": "Sub",
}
FUSED = ("ADD", "SUB", "MUL", "DIV")
REDUCE = {
    "MEAN": "ReduceMean",
    "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
    "SUM": "ReduceSum",
}


def unary(graph: Graph, operator: Operator) -> None:
    """One function of one value."""
    _map(graph, operator, lambda value: graph.node(UNARY[operator.name], [value]))


def rectify(graph: Graph, operator: Operator) -> None:
    """RELU and its clipped kin, TANH."""
    _map(graph, operator, lambda value: activation(graph, operator.name, value))


def leaky_relu(graph: Graph, operator: Operator) -> None:
    """LEAKY_RELU."""
    alpha = float(operator.option("alpha"))
    _map(graph, operator, lambda value: graph.node("LeakyRelu", [value], alpha=alpha))


def square(graph: Graph, operator: Operator) -> None:
    """SQUARE."""
    _map(graph, operator, lambda value: graph.node("Mul", [value, value]))


def rsqrt(graph: Graph, operator: Operator) -> None:
    """RSQRT."""
    _map(graph, operator, lambda value: graph.node("Reciprocal", [graph.node("Sqrt", [value])]))


def gelu(graph: Graph, operator: Operator) -> None:
    """GELU, by erf or by its approximation with tanh (Hendrycks & Gimpel 2016)."""

    def write(value: str) -> str:
        if operator.option("approximate"):
            cube = graph.node("Mul", [graph.node("Mul", [value, value]), value])
            inner = graph.node("Add", [value, graph.node("Mul", [cube, graph.number(0.044715)])])
            bent = graph.node("Tanh", [graph.node("Mul", [inner, graph.number((2 / np.pi) ** 0.5)])])
        else:
            bent = graph.node("Erf", [graph.node("Mul", [value, graph.number(0.5**0.5)])])
        gate = graph.node("Mul", [graph.node("Add", [bent, graph.number(1)]), graph.number(0.5)])
        return graph.node("Mul", [value, gate])

    _map(graph, operator, write)


def binary(graph: Graph, operator: Operator) -> None:
    """One function of two values, broadcast; with a fused activation where the operator has one."""
    values, layout = _operands(graph, operator)
    out = graph.node(BINARY[operator.name], values)
    graph.set(operator.outputs[0], activate(graph, operator, out) if operator.name in FUSED else out, layout)


def squared_difference(graph: Graph, operator: Operator) -> None:
    """SQUARED_DIFFERENCE."""
    values, layout = _operands(graph, operator)
    gap = graph.node("Sub", values)
    graph.set(operator.outputs[0], graph.node("Mul", [gap, gap]), layout)


def not_equal(graph: Graph, operator: Operator) -> None:
    """NOT_EQUAL."""
    values, layout = _operands(graph, operator)
    graph.set(operator.outputs[0], graph.node("Not", [graph.node("Equal", values)]), layout)


def floor_div(graph: Graph, operator: Operator) -> None:
    """FLOOR_DIV of real numbers."""
    if not graph.is_real(graph.tensor(operator.inputs[0])):
        raise Cannot("it divides integers", "cast to float32 first")
    values, layout = _operands(graph, operator)
    graph.set(operator.outputs[0], graph.node("Floor", [graph.node("Div", values)]), layout)


def select(graph: Graph, operator: Operator) -> None:
    """SELECT of tensors of one shape, and SELECT_V2, broadcast."""
    ranks = {graph.tensor(index).rank for index in operator.inputs}
    if operator.name == "SELECT" and len(ranks) > 1:
        raise Cannot("its condition has another shape", "use SELECT_V2")
    values, layout = _operands(graph, operator)
    graph.set(operator.outputs[0], graph.node("Where", values), layout)


def reduce(graph: Graph, operator: Operator) -> None:
    """MEAN, SUM and REDUCE_* over constant axes; a mean over height and width becomes a global average pool."""
    source, keep = operator.inputs[0], bool(operator.option("keepDims"))
    tensor, axes = graph.tensor(source), graph.ints(operator.inputs[1])
    if axes is None:
        raise Cannot("its axes are computed", "export with constant axes")
    if any(not -tensor.rank <= axis < tensor.rank for axis in axes):
        raise damaged(f"operator {operator.index} {operator.name}: expected axes of {tensor.rank}, got {axes}")
    axes = sorted({axis % tensor.rank for axis in axes})
    layout = graph.layout(source) if keep else shapes.drop_layout(graph, source, axes)
    value = graph.value(source, layout)
    places = sorted(layout.axis(axis) for axis in axes)
    if operator.name == "MEAN" and tensor.rank == 4 and places == [2, 3]:
        value = graph.node("GlobalAveragePool", [value])
        value = value if keep else graph.node("Flatten", [value])
    else:
        attributes = {"keepdims": int(keep), "noop_with_empty_axes": 1}
        value = graph.node(REDUCE[operator.name], [value, graph.numbers(places)], **attributes)
    graph.set(operator.outputs[0], value, layout if keep else LAST)


def softmax(graph: Graph, operator: Operator) -> None:
    """SOFTMAX and LOG_SOFTMAX over the last axis."""
    source = operator.inputs[0]
    layout = graph.layout(source)
    value = graph.value(source, layout)
    if operator.name == "SOFTMAX" and operator.option("beta") != 1:
        value = graph.node("Mul", [value, graph.number(float(operator.option("beta")))])
    axis = layout.axis(graph.tensor(source).rank - 1)
    kind = "Softmax" if operator.name == "SOFTMAX" else "LogSoftmax"
    graph.set(operator.outputs[0], graph.node(kind, [value], axis=axis), layout)


def l2_normalization(graph: Graph, operator: Operator) -> None:
    """L2_NORMALIZATION over the last axis."""
    source = operator.inputs[0]
    layout = graph.layout(source)
    axis, value = layout.axis(graph.tensor(source).rank - 1), graph.value(source, layout)
    norm = graph.node("ReduceL2", [value, graph.numbers([axis])], keepdims=1)
    floor = graph.node("Max", [norm, graph.number(1e-6)])
    graph.set(operator.outputs[0], activate(graph, operator, graph.node("Div", [value, floor])), layout)


def arg(graph: Graph, operator: Operator) -> None:
    """ARG_MAX and ARG_MIN over one constant axis, as int32 or int64."""
    rank, axes = graph.tensor(operator.inputs[0]).rank, graph.ints(operator.inputs[1])
    if axes is None or len(axes) != 1 or not -rank <= axes[0] < rank:
        raise Cannot("its axis is computed, or none", "export with a constant axis")
    kind = "ArgMax" if operator.name == "ARG_MAX" else "ArgMin"
    value = graph.node(kind, [graph.value(operator.inputs[0])], axis=axes[0] % rank, keepdims=0)
    if graph.tensor(operator.outputs[0]).dtype == "INT32":
        value = graph.node("Cast", [value], to=TensorProto.INT32)
    graph.set(operator.outputs[0], value)


def fully_connected(graph: Graph, operator: Operator) -> None:
    """FULLY_CONNECTED: weights [out, in], over the last axis of the input or over the input in rows of ``in``."""
    source, weights = graph.tensor(operator.inputs[0]), graph.tensor(operator.inputs[1])
    if operator.option("weightsFormat"):
        raise Cannot("its weights are shuffled for one processor", "convert again without that option")
    if weights.rank != 2 or weights.shape[1] < 1:
        raise damaged(f"operator {operator.index}: expected weights [out, in], got {list(weights.shape)}")
    bias = [graph.real(index) for index in operator.inputs[2:3] if index >= 0]
    if operator.option("keepNumDims") and source.rank != 2:
        if weights.data is not None:
            turned = graph.constant_of(operator.inputs[1], perm=(1, 0))
        else:
            turned = graph.node("Transpose", [graph.value(operator.inputs[1])], perm=[1, 0])
        out = graph.node("MatMul", [graph.value(operator.inputs[0]), turned])
        out = graph.node("Add", [out, *bias]) if bias else out
    else:
        rows = graph.flat(operator.inputs[0])
        if source.rank != 2 or source.shape[1] != weights.shape[1]:
            rows = graph.node("Reshape", [rows, graph.numbers([-1, weights.shape[1]])])
        out = graph.node("Gemm", [rows, graph.value(operator.inputs[1]), *bias], transB=1)
    graph.set(operator.outputs[0], activate(graph, operator, out))


def batch_matmul(graph: Graph, operator: Operator) -> None:
    """BATCH_MATMUL, either side transposed."""
    values = []
    for index, turned in zip(operator.inputs[:2], (operator.option("adjX"), operator.option("adjY")), strict=True):
        rank = graph.tensor(index).rank
        if rank < 2:
            raise damaged(f"operator {operator.index} BATCH_MATMUL: expected matrices, got {rank} axes")
        value = graph.value(index)
        if turned:
            perm = [*range(rank - 2), rank - 1, rank - 2]
            value = graph.node("Transpose", [value], perm=perm)
        values.append(value)
    graph.set(operator.outputs[0], graph.node("MatMul", values))


def restore(graph: Graph, operator: Operator) -> None:
    """QUANTIZE, DEQUANTIZE and DENSIFY: the same real values in another storage."""
    source, out = operator.inputs[0], operator.outputs[0]
    tensor = graph.tensor(source)
    if not graph.is_real(tensor) and operator.name != "DENSIFY":
        raise Cannot(f"{tensor.name!r} holds {tensor.dtype} without a scale")
    if tensor.data is not None and operator.name != "QUANTIZE":
        graph.same(out, source)
        return
    layout = graph.layout(source)
    graph.set(out, graph.value(source, layout), layout)


def _map(graph: Graph, operator: Operator, write: Callable[[str], str]) -> None:
    layout = graph.layout(operator.inputs[0])
    graph.set(operator.outputs[0], write(graph.value(operator.inputs[0], layout)), layout)


def _operands(graph: Graph, operator: Operator) -> tuple[list[str], Layout]:
    """All inputs, to be broadcast, in the layout that costs the fewest transposes."""
    tensors = [graph.tensor(index) for index in operator.inputs]
    rank = max(tensor.rank for tensor in tensors)
    computed = [tensor.rank for tensor in tensors if tensor.data is None]
    mixed = any(lower not in (0, rank) for lower in computed)
    layout = LAST if rank != 4 or mixed else graph.layout(*operator.inputs)
    return [graph.operand(index, rank, layout) for index in operator.inputs], layout


WRITERS: dict[str, Writer] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys(REDUCE, reduce),
    **dict.fromkeys([*CLIPS, "RELU", "TANH"], rectify),
    **dict.fromkeys(["QUANTIZE", "DEQUANTIZE", "DENSIFY"], restore),
    "ARG_MAX": arg,
    "ARG_MIN": arg,
    "AVERAGE_POOL_2D": windows.pool,
    "BATCH_MATMUL": batch_matmul,
    "BROADCAST_TO": shapes.spread,
    "CAST": shapes.cast,
    "CONCATENATION": shapes.concatenation,
    "CONV_2D": windows.conv_2d,
    "DEPTHWISE_CONV_2D": windows.depthwise_conv_2d,
    "DEPTH_TO_SPACE": windows.blocks,
    "EXPAND_DIMS": shapes.expand_dims,
    "FILL": shapes.spread,
    "FLOOR_DIV": floor_div,
    "FULLY_CONNECTED": fully_connected,
    "GATHER": shapes.gather,
    "GELU": gelu,
    "L2_NORMALIZATION": l2_normalization,
    "LEAKY_RELU": leaky_relu,
    "LOG_SOFTMAX": softmax,
    "MAX_POOL_2D": windows.pool,
    "MIRROR_PAD": shapes.pad,
    "NOT_EQUAL": not_equal,
    "PACK": shapes.pack,
    "PAD": shapes.pad,
    "PADV2": shapes.pad,
    "RESHAPE": shapes.reshape,
    "RESIZE_BILINEAR": windows.resize,
    "RESIZE_NEAREST_NEIGHBOR": windows.resize,
    "RSQRT": rsqrt,
    "SELECT": select,
    "SELECT_V2": select,
    "SHAPE": shapes.shape,
    "SLICE": shapes.slice_,
    "SOFTMAX": softmax,
    "SPACE_TO_DEPTH": windows.blocks,
    "SPLIT": shapes.split,
    "SPLIT_V": shapes.split,
    "SQUARE": square,
    "SQUARED_DIFFERENCE": squared_difference,
    "SQUEEZE": shapes.squeeze,
    "STRIDED_SLICE": shapes.strided_slice,
    "TILE": shapes.spread,
    "TRANSPOSE": shapes.transpose,
    "TRANSPOSE_CONV": windows.transpose_conv,
    "UNPACK": shapes.unpack,
}

CONTROL = "export it without control flow: unroll the loop, or keep one branch"
STATE = "make the state an input and an output of the model"
REWRITES = {
    "CALL_ONCE": STATE,
    "IF": CONTROL,
    "NON_MAX_SUPPRESSION_V4": "end the model before it, and select boxes in the application",
    "NON_MAX_SUPPRESSION_V5": "end the model before it, and select boxes in the application",
    "READ_VARIABLE": STATE,
    "SPACE_TO_BATCH_ND": "give the convolution its dilation instead",
    "BATCH_TO_SPACE_ND": "give the convolution its dilation instead",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "export the recurrent layer step by step, or give the model as ONNX",
    "VAR_HANDLE": STATE,
    "WHILE": CONTROL,
}
"""What would help, for operators that are often met and have no form here."""
