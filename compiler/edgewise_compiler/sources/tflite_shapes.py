"""TFLite operators that move, cut and join elements -> ONNX. Values are never changed here.

Axes, shapes and bounds must be constants, or be computed by the graph where ONNX takes them as they come
(RESHAPE, TILE, BROADCAST_TO, FILL). An operator stays channels first where its axes allow that.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from edgewise_compiler.sources.tflite_file import Operator, damaged
from edgewise_compiler.sources.tflite_graph import FIRST, LAST, ONNX_TYPES, Cannot, Graph, Layout
from edgewise_compiler.sources.tflite_windows import activate

FAR = 2**31 - 1
FIXED = "export with constants there"


def reshape(graph: Graph, operator: Operator) -> None:
    """RESHAPE: the new shape as a constant, an attribute, or computed."""
    shape: list[int] | None = None
    if len(operator.inputs) > 1 and operator.inputs[1] >= 0:
        shape = graph.ints(operator.inputs[1])
        if shape is None:
            wanted = graph.node("Cast", [graph.value(operator.inputs[1])], to=TensorProto.INT64)
            graph.set(operator.outputs[0], graph.node("Reshape", [graph.flat(operator.inputs[0]), wanted]))
            return
    else:
        shape = [int(size) for size in operator.option("newShape")]
    if any(size < -1 or size == 0 for size in shape) or shape.count(-1) > 1:
        raise Cannot(f"its new shape is {shape}")
    graph.set(operator.outputs[0], graph.node("Reshape", [graph.flat(operator.inputs[0]), graph.numbers(shape)]))


def squeeze(graph: Graph, operator: Operator) -> None:
    """SQUEEZE: axes of size 1, or all of them where none is named."""
    tensor = graph.tensor(operator.inputs[0])
    named = operator.option("squeezeDims")
    axes = [_axis(int(axis), tensor.rank) for axis in (named if named is not None else [])]
    if not axes:
        axes = [axis for axis, size in enumerate(tensor.shape) if size == 1]
    layout = drop_layout(graph, operator.inputs[0], axes)
    places = graph.numbers(sorted(layout.axis(axis) for axis in axes))
    graph.set(operator.outputs[0], graph.node("Squeeze", [graph.value(operator.inputs[0], layout), places]))


def expand_dims(graph: Graph, operator: Operator) -> None:
    """EXPAND_DIMS by one axis."""
    axis = _axis(_one(graph, operator.inputs[1]), graph.tensor(operator.inputs[0]).rank + 1)
    value = graph.node("Unsqueeze", [graph.value(operator.inputs[0]), graph.numbers([axis])])
    graph.set(operator.outputs[0], value)


def transpose(graph: Graph, operator: Operator) -> None:
    """TRANSPOSE; between channels last and first it is a change of name alone."""
    source, out = operator.inputs[0], operator.outputs[0]
    perm = graph.ints(operator.inputs[1])
    if perm is None or sorted(perm) != list(range(graph.tensor(source).rank)):
        raise Cannot("its order of axes is computed, or no order", FIXED)
    if tuple(perm) == FIRST.value:
        graph.set(out, graph.value(source, FIRST))
    elif perm == [0, 2, 3, 1] and graph.tensor(out).rank == 4:
        graph.set(out, graph.value(source), FIRST)
    else:
        graph.set(out, graph.node("Transpose", [graph.value(source)], perm=perm))


def concatenation(graph: Graph, operator: Operator) -> None:
    """CONCATENATION of tensors along one axis."""
    rank = graph.tensor(operator.inputs[0]).rank
    layout = graph.layout(*operator.inputs)
    axis = layout.axis(_axis(operator.option("axis"), rank))
    values = [graph.value(index, layout) for index in operator.inputs]
    out = graph.node("Concat", values, axis=axis)
    graph.set(operator.outputs[0], activate(graph, operator, out), layout)


def split(graph: Graph, operator: Operator) -> None:
    """SPLIT in equal parts and SPLIT_V in parts of given sizes."""
    by_size = operator.name == "SPLIT_V"
    source, axis_from = (operator.inputs[0], operator.inputs[2]) if by_size else operator.inputs[1::-1]
    tensor, parts = graph.tensor(source), len(operator.outputs)
    axis = _axis(_one(graph, axis_from), tensor.rank)
    size = tensor.shape[axis]
    if by_size:
        sizes = graph.ints(operator.inputs[1])
        if sizes is not None and sizes.count(-1) == 1:
            sizes[sizes.index(-1)] = size - sum(sizes) - 1
    else:
        sizes = [size // parts] * parts if parts and size % parts == 0 else None
    if sizes is None or len(sizes) != parts or size < 0 or min(sizes) < 0 or sum(sizes) != size:
        raise Cannot(f"it splits {size} in parts that are not fixed, or do not fit", FIXED)
    layout = graph.layout(source)
    inputs = [graph.value(source, layout), graph.numbers(sizes)]
    found = graph.nodes_of("Split", inputs, parts, axis=layout.axis(axis))
    for index, name in zip(operator.outputs, found, strict=True):
        graph.set(index, name, layout)


def pack(graph: Graph, operator: Operator) -> None:
    """PACK: stack tensors along a new axis."""
    axis = _axis(operator.option("axis"), graph.tensor(operator.inputs[0]).rank + 1)
    places = graph.numbers([axis])
    values = [graph.node("Unsqueeze", [graph.value(index), places]) for index in operator.inputs]
    graph.set(operator.outputs[0], graph.node("Concat", values, axis=axis))


def unpack(graph: Graph, operator: Operator) -> None:
    """UNPACK: cut along an axis, which goes."""
    parts = len(operator.outputs)
    tensor = graph.tensor(operator.inputs[0])
    axis = _axis(operator.option("axis"), tensor.rank)
    if tensor.shape[axis] != parts:
        raise damaged(f"operator {operator.index} UNPACK: {tensor.shape[axis]} slices to {parts} outputs")
    inputs = [graph.value(operator.inputs[0]), graph.numbers([1] * parts)]
    places = graph.numbers([axis])
    for index, name in zip(operator.outputs, graph.nodes_of("Split", inputs, parts, axis=axis), strict=True):
        graph.set(index, graph.node("Squeeze", [name, places]))


def gather(graph: Graph, operator: Operator) -> None:
    """GATHER along one axis."""
    if operator.option("batchDims"):
        raise Cannot("it gathers by batch (batch_dims)", "express it with one_hot and a product")
    axis = _axis(operator.option("axis"), graph.tensor(operator.inputs[0]).rank)
    values = [graph.value(operator.inputs[0]), graph.value(operator.inputs[1])]
    graph.set(operator.outputs[0], graph.node("Gather", values, axis=axis))


def slice_(graph: Graph, operator: Operator) -> None:
    """SLICE: begin and size of each axis; size -1 is the rest."""
    tensor = graph.tensor(operator.inputs[0])
    begins, sizes = graph.ints(operator.inputs[1]), graph.ints(operator.inputs[2])
    if begins is None or sizes is None:
        raise Cannot("its bounds are computed", FIXED)
    if len(begins) != tensor.rank or len(sizes) != tensor.rank or min(begins, default=0) < 0:
        raise damaged(f"operator {operator.index} SLICE: {begins} and {sizes} over shape {list(tensor.shape)}")
    ends = [FAR if size == -1 else begin + size for begin, size in zip(begins, sizes, strict=True)]
    layout = graph.layout(operator.inputs[0])
    value = _cut(graph, operator.inputs[0], layout, {a: (begins[a], ends[a], 1) for a in range(tensor.rank)})
    graph.set(operator.outputs[0], value, layout)


def strided_slice(graph: Graph, operator: Operator) -> None:
    """STRIDED_SLICE with TensorFlow's masks: a bit an entry of begin, end and strides."""
    begins, ends, strides = (graph.ints(index) for index in operator.inputs[1:4])
    if begins is None or ends is None or strides is None:
        raise Cannot("its bounds are computed", FIXED)
    if not len(begins) == len(ends) == len(strides) <= 32 or 0 in strides:
        raise damaged(f"operator {operator.index} STRIDED_SLICE: {begins}, {ends} and {strides}")
    rank = graph.tensor(operator.inputs[0]).rank
    new = [bool(operator.option("newAxisMask") >> i & 1) for i in range(len(begins))]
    rest = [bool(operator.option("ellipsisMask") >> i & 1) for i in range(len(begins))]
    shrink = [bool(operator.option("shrinkAxisMask") >> i & 1) for i in range(len(begins))]
    cuts: dict[int, tuple[int, int, int]] = {}
    dropped, added, axis, place = [], [], 0, 0  # ``place``: axis of the result
    for i, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        if rest[i]:
            skipped = rank - axis - sum(not (new[j] or rest[j]) for j in range(i + 1, len(begins)))
            axis, place = axis + skipped, place + skipped
        elif new[i]:
            added.append(place)
            place += 1
        elif shrink[i]:
            cuts[axis] = (begin, FAR if begin == -1 else begin + 1, 1)
            dropped.append(axis)
            axis += 1
        else:
            from_end = stride < 0
            if operator.option("offset"):
                end += begin
            first = (FAR if from_end else 0) if operator.option("beginMask") >> i & 1 else begin
            last = (-FAR if from_end else FAR) if operator.option("endMask") >> i & 1 else end
            cuts[axis] = (first, last, stride)
            axis, place = axis + 1, place + 1
    if any(axis >= rank for axis in cuts):
        raise damaged(f"operator {operator.index} STRIDED_SLICE: {len(begins)} bounds over {rank} axes")
    layout = graph.layout(operator.inputs[0]) if not dropped and not added else LAST
    value = _cut(graph, operator.inputs[0], layout, cuts)
    if dropped:
        value = graph.node("Squeeze", [value, graph.numbers(dropped)])
    if added:
        value = graph.node("Unsqueeze", [value, graph.numbers(added)])
    graph.set(operator.outputs[0], value, layout)


def _cut(graph: Graph, index: int, layout: Layout, cuts: dict[int, tuple[int, int, int]]) -> str:
    """A slice of the axes that are really cut."""
    tensor, value = graph.tensor(index), graph.value(index, layout)
    real = {
        axis: cut
        for axis, cut in cuts.items()
        if not (cut[0] == 0 and cut[2] == 1 and (cut[1] == FAR or cut[1] == tensor.shape[axis]))
    }
    if not real:
        return value
    axes = sorted(real, key=layout.axis)
    lists = [[real[axis][part] for axis in axes] for part in range(3)]
    starts, ends, steps = (graph.numbers(values) for values in lists)
    return graph.node("Slice", [value, starts, ends, graph.numbers([layout.axis(axis) for axis in axes]), steps])


def pad(graph: Graph, operator: Operator) -> None:
    """PAD and PADV2 with a constant, MIRROR_PAD by reflection."""
    source = graph.tensor(operator.inputs[0])
    pads = graph.ints(operator.inputs[1])
    if pads is None or len(pads) != 2 * source.rank:
        raise Cannot("its paddings are computed", FIXED)
    if min(pads, default=0) < 0:
        raise damaged(f"operator {operator.index} {operator.name}: expected paddings >= 0, got {pads}")
    layout = graph.layout(operator.inputs[0])
    inputs = [graph.value(operator.inputs[0], layout)]
    inputs.append(graph.numbers(layout.order(pads[0::2]) + layout.order(pads[1::2])))
    mode = "constant"
    if operator.name == "MIRROR_PAD":
        if operator.option("mode") != 0:
            raise Cannot("it mirrors with the border (SYMMETRIC)", "pad by reflection")
        mode = "reflect"
    elif operator.name == "PADV2":
        value = graph.value(operator.inputs[2])
        if graph.tensor(operator.inputs[2]).rank:
            value = graph.node("Squeeze", [value])
        inputs.append(value)
    graph.set(operator.outputs[0], graph.node("Pad", inputs, mode=mode), layout)


def shape(graph: Graph, operator: Operator) -> None:
    """SHAPE, as int32 or int64."""
    value = graph.node("Shape", [graph.value(operator.inputs[0])])
    if graph.tensor(operator.outputs[0]).dtype == "INT32":
        value = graph.node("Cast", [value], to=TensorProto.INT32)
    graph.set(operator.outputs[0], value)


def spread(graph: Graph, operator: Operator) -> None:
    """TILE, BROADCAST_TO and FILL: a value repeated to a shape."""
    name, (first, second) = operator.name, operator.inputs[:2]
    value_from, shape_from = (second, first) if name == "FILL" else (first, second)
    sizes = graph.ints(shape_from)
    if sizes is not None:
        wanted = graph.numbers(sizes)
    else:
        wanted = graph.node("Cast", [graph.value(shape_from)], to=TensorProto.INT64)
    kind = "Tile" if name == "TILE" else "Expand"
    graph.set(operator.outputs[0], graph.node(kind, [graph.value(value_from), wanted]))


def cast(graph: Graph, operator: Operator) -> None:
    """CAST between types; quantized tensors go through DEQUANTIZE instead."""
    source, out = graph.tensor(operator.inputs[0]), graph.tensor(operator.outputs[0])
    for tensor in (source, out):
        if graph.is_real(tensor) and tensor.dtype not in ("FLOAT32", "FLOAT16"):
            raise Cannot(f"it casts {tensor.name!r}, which is quantized, as raw {tensor.dtype}", "use DEQUANTIZE")
    kind = TensorProto.FLOAT if graph.is_real(out) else ONNX_TYPES[out.dtype]
    layout = graph.layout(operator.inputs[0])
    graph.set(operator.outputs[0], graph.node("Cast", [graph.value(operator.inputs[0], layout)], to=kind), layout)


def drop_layout(graph: Graph, index: int, axes: list[int]) -> Layout:
    """The layout in which ``axes`` can go and leave the others in TFLite's order."""
    layout = graph.layout(index)
    if layout is LAST:
        return LAST
    left = [axis for axis in layout.value if axis not in axes]
    return layout if left == sorted(left) else LAST


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise damaged(f"expected an axis of {rank}, got {axis}")
    return int(axis) % rank


def _one(graph: Graph, index: int) -> int:
    values = graph.ints(index)
    if values is None or len(values) != 1:
        raise Cannot(f"{graph.tensor(index).name!r} must be one constant number", FIXED)
    return int(np.int64(values[0]))
