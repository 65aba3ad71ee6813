"""An ONNX graph made ready: functions and constant ``If`` inlined, constants folded, shapes inferred, dead nodes gone.

``fold`` is pure and always gives the same graph for the same model, so that weights can be written back into it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
import onnx.reference
import onnx.shape_inference
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]
DOMAINS = ("", "ai.onnx")
SAME = {("com.microsoft", "QuantizeLinear"), ("com.microsoft", "DequantizeLinear")}
"""onnxruntime's own forms of standard operators, for 16 bits before opset 21."""
MIN_OPSET = 11
MAX_ELEMENTS = 2**24
"""Nothing larger is made by folding."""
ROUNDS = 8
"""How often shapes are inferred anew after something went: nested ``If`` need one round each."""

FOLDED = frozenset({
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Concat", "ConstantOfShape", "Cos", "CumSum", "Div",
    "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather", "Greater", "GreaterOrEqual", "HannWindow",
    "HammingWindow", "BlackmanWindow", "Identity", "Less", "LessOrEqual", "Log", "Max", "MelWeightMatrix", "Min",
    "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMin", "ReduceProd",
    "ReduceSum", "Reshape", "Round", "Shape", "Sin", "Size", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile",
    "Transpose", "Trilu", "Unsqueeze", "Where",
})  # fmt: skip
MOVES = frozenset({"Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Cast", "Identity", "Reshape"})
"""What moves the elements of a shape about: done on shapes of which only some dimensions are known."""


@dataclass(frozen=True)
class Unsupported:
    """One node that has no form in torch here: which, why, and what to write instead, where something would help."""

    node: str
    op: str
    why: str
    rewrite: str | None = None

    def __str__(self) -> str:
        return f"{self.op} {self.node!r}: {self.why}" + (f"; {self.rewrite}" if self.rewrite else "")


class UnsupportedGraphError(ValueError):
    """The graph holds nodes that have no form here. ``nodes``: all of them."""

    def __init__(self, nodes: list[Unsupported]) -> None:
        super().__init__(
            f"{len(nodes)} {'node has' if len(nodes) == 1 else 'nodes have'} no form in torch: "
            + ". ".join(map(str, nodes[:5]))
            + (f". And {len(nodes) - 5} more" if len(nodes) > 5 else "")
        )
        self.nodes = nodes


@dataclass(frozen=True)
class Node:
    """A node as plain values. ``attributes``: by name, text as str and tensors as arrays."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(repr=False)
    opset: int

    def input(self, index: int) -> str:
        """Name of an input, empty where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operators."""
    return max((entry.version for entry in model.opset_import if entry.domain in DOMAINS), default=1)


PACKED = ("int4", "uint4")
WIDER = {"int4": np.int8, "uint4": np.uint8, "uint16": np.int32, "uint32": np.int64, "uint64": np.int64}
"""Types that torch has not, or cannot compute with, and the ones that hold their values."""


def constants(graph: onnx.GraphProto) -> dict[str, Array]:
    """The initializers of a folded graph, in types that torch computes with."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return {name: array.astype(WIDER.get(array.dtype.name, array.dtype)) for name, array in arrays.items()}


def nodes(graph: onnx.GraphProto, version: int) -> list[Node]:
    """The nodes of a folded graph, each with a name of its own."""
    found: list[Node] = []
    names: set[str] = set()
    for index, proto in enumerate(graph.node):
        name = proto.name or f"{proto.op_type}_{index}"
        while name in names:
            name = f"{name}_{index}"
        names.add(name)
        found.append(
            Node(
                name,
                proto.op_type,
                "" if proto.domain in DOMAINS or (proto.domain, proto.op_type) in SAME else proto.domain,
                tuple(proto.input),
                tuple(proto.output),
                {attribute.name: _plain(attribute) for attribute in proto.attribute},
                version,
            )
        )
    return found


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Shapes by value name, as far as they can be inferred; None is a dimension that is not known."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # inference refuses some valid graphs with errors of several kinds: then less is known
        graph = model.graph
    found: dict[str, tuple[int | None, ...]] = {}
    for info in [*graph.value_info, *graph.input, *graph.output]:
        if info.type.tensor_type.HasField("shape"):
            found[info.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
                for dim in info.type.tensor_type.shape.dim
            )
    for tensor in graph.initializer:
        found[tensor.name] = tuple(tensor.dims)
    return found


def with_shapes(model: onnx.ModelProto, inputs: Mapping[str, Iterable[int]]) -> onnx.ModelProto:
    """A copy whose inputs have fixed shapes, by name: an ``If`` that asks for sizes can be folded in it.

    Raises ValueError for a name that is no input.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    infos = {info.name: info for info in made.graph.input}
    for name, sizes in inputs.items():
        if name not in infos:
            raise ValueError(f"expected one of the inputs {sorted(infos)}, got {name!r}")
        kind = infos[name].type.tensor_type.elem_type
        infos[name].CopyFrom(helper.make_tensor_value_info(name, kind, list(sizes)))
    for info in made.graph.output:
        for dim in info.type.tensor_type.shape.dim:
            dim.Clear()
    del made.graph.value_info[:]
    return made


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """A new model that answers the same, without what is known beforehand. Weights in ``Constant`` nodes, and weights
    computed from constants, are initializers in it; inferred shapes are left out."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    for _ in range(ROUNDS):
        if not _fold_once(folded):
            break
    _flatten_reshapes(folded)
    _drop_dead(folded.graph)
    del folded.graph.value_info[:]
    return folded


def _fold_once(model: onnx.ModelProto) -> bool:
    """Fold the graph in place. True when something went, so that more may be known now."""
    graph = model.graph
    known = shapes(model)
    given = {info.name for info in graph.input}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    partial: dict[str, Array] = {}
    kept: list[onnx.NodeProto] = []
    before = len(graph.node)
    inlined = False
    waiting: list[onnx.NodeProto] = list(graph.node)[::-1]
    while waiting:
        node = waiting.pop()
        if node.op_type == "If" and node.input[0] in values:
            waiting.extend(reversed(_branch(node, bool(values[node.input[0]].reshape(-1)[0]))))
            inlined = True
            continue
        results = _evaluate(node, model.opset_import, values, partial, known)
        if results is None:
            kept.append(node)
            continue
        for name, result in zip(node.output, results, strict=False):
            if name:
                values[name] = result
                graph.initializer.append(numpy_helper.from_array(np.array(result, order="C"), name))
    for name in given & set(values):  # an initializer that may be fed counts as a constant here
        graph.input.remove(next(info for info in graph.input if info.name == name))
    del graph.node[:]
    graph.node.extend(kept)
    return inlined or len(kept) < before


def _evaluate(
    node: onnx.NodeProto,
    opsets: Iterable[onnx.OperatorSetIdProto],
    values: dict[str, Array],
    partial: dict[str, Array],
    known: dict[str, tuple[int | None, ...]],
) -> list[Array] | None:
    """The outputs of a node whose inputs are known, else None. What is known in part goes into ``partial``."""
    if node.domain not in DOMAINS:
        return None
    if node.op_type == "Constant":
        return [_constant(node)]
    if node.op_type not in FOLDED:
        return None
    if node.op_type == "Shape" and node.input[0] not in values and node.input[0] in known:
        shape = np.array(known[node.input[0]] + (None,), object)[:-1]
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        return _settle(node.output[0], shape[attributes.get("start", 0) : attributes.get("end")], partial)
    inputs = [name for name in node.input if name]
    if node.op_type == "Cast" and inputs[0] in values and values[inputs[0]].dtype.name in PACKED:
        return None  # they are stored so for a reason
    if inputs and all(name in values for name in inputs):
        feeds = {name: values[name] for name in inputs}
        return _run(node, opsets, feeds) if _size(node, feeds) <= MAX_ELEMENTS else None
    if node.op_type in MOVES and inputs and all(name in partial or name in values for name in inputs):
        if node.op_type != "Concat" and any(name in partial for name in inputs[1:]):
            return None
        # Elements are moved as places in a table, so that those which are not known move along.
        table: list[Any] = []
        feeds = {}
        for position, name in enumerate(inputs):
            if position and node.op_type != "Concat":
                feeds[name] = values[name]
                continue
            source = partial[name] if name in partial else values[name]
            feeds[name] = np.arange(len(table), len(table) + source.size, dtype=np.int64).reshape(source.shape)
            table.extend(source.reshape(-1).tolist())
        moved = _run(node, opsets, feeds)
        if moved is None:
            return None
        places = moved[0]
        result = np.empty(places.shape, object)
        result.reshape(-1)[:] = [table[int(place)] for place in places.reshape(-1)]
        return _settle(node.output[0], result, partial)
    return None


def _settle(name: str, value: Array, partial: dict[str, Array]) -> list[Array] | None:
    if any(part is None for part in value.reshape(-1).tolist()):
        partial[name] = value
        return None
    return [value.astype(np.int64)]


def _size(node: onnx.NodeProto, feeds: dict[str, Array]) -> int:
    """Elements that a node would make, where that can be far more than it is given."""
    if node.op_type in ("ConstantOfShape", "Expand", "Tile"):
        last = feeds[node.input[-1]].reshape(-1).tolist()
        base = feeds[node.input[0]].size if node.op_type != "ConstantOfShape" else 1
        size = base
        for part in last:
            size *= max(1, abs(int(part)))
        return size
    if node.op_type == "Range":
        start, limit, delta = (float(feeds[name].reshape(-1)[0]) for name in node.input)
        return int(min(max((limit - start) / delta, 0), 2**40)) if delta else 2**40
    return sum(array.size for array in feeds.values())


def _run(
    node: onnx.NodeProto, opsets: Iterable[onnx.OperatorSetIdProto], feeds: dict[str, Array]
) -> list[Array] | None:
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    names = [name for name in node.output if name]
    graph = helper.make_graph([node], "fold", infos, [onnx.ValueInfoProto(name=name) for name in names])
    try:
        evaluator = onnx.reference.ReferenceEvaluator(helper.make_model(graph, opset_imports=list(opsets)))
        results = evaluator.run(None, feeds)
    except Exception:  # what the reference cannot compute is left to the graph
        return None
    given = dict(zip(names, results, strict=True))
    return [np.asarray(given[name]) if name else np.zeros(0) for name in node.output]


def _branch(node: onnx.NodeProto, condition: bool) -> list[onnx.NodeProto]:
    """The nodes of the branch taken, with names of their own, and the outputs of the ``If`` at their end."""
    wanted = "then_branch" if condition else "else_branch"
    body = onnx.GraphProto()
    body.CopyFrom(next(attribute.g for attribute in node.attribute if attribute.name == wanted))
    prefix = node.name or node.output[0]
    inside = [tensor.name for tensor in body.initializer] + [name for part in body.node for name in part.output if name]
    rename = {name: f"{prefix}/{name}" for name in inside}
    _rename(body, rename)
    made = [
        helper.make_node("Constant", [], [tensor.name], value=tensor, name=f"{prefix}/{tensor.name}")
        for tensor in body.initializer
    ]
    for part in body.node:
        part.name = f"{prefix}/{part.name or part.op_type + '_' + part.output[0]}"
    ends = [
        helper.make_node("Identity", [rename.get(source.name, source.name)], [target], name=f"{prefix}/{target}")
        for source, target in zip(body.output, node.output, strict=True)
    ]
    return [*made, *body.node, *ends]


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename(attribute.g, names)
    for info in graph.output:
        info.name = names.get(info.name, info.name)


def _flatten_reshapes(model: onnx.ModelProto) -> None:
    """A Reshape that keeps the first axis and joins the others says so, [0, -1]: it holds for any width then."""
    known = shapes(model)
    values = constants(model.graph)
    for node in model.graph.node:
        if node.op_type != "Reshape" or len(node.input) < 2 or node.input[1] not in values:
            continue
        target = values[node.input[1]].reshape(-1).tolist()
        before = known.get(node.input[0])
        if before is None or len(before) < 2 or len(target) != 2 or any(part is None for part in before[1:]):
            continue
        width = math.prod(part or 0 for part in before[1:])
        first_kept = target[0] in (0, before[0]) or (target[0] == -1 and target[1] == width)
        if first_kept and target[1] in (-1, width) and not any(a.name == "allowzero" and a.i for a in node.attribute):
            name = f"{node.output[0]}/flat"
            model.graph.initializer.append(numpy_helper.from_array(np.array([0, -1], np.int64), name))
            node.input[1] = name


def _drop_dead(graph: onnx.GraphProto) -> None:
    wanted = {info.name for info in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(_reads(node))
    del graph.node[:]
    graph.node.extend(kept[::-1])
    initializers = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(initializers)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, its branches included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield from (info.name for info in attribute.g.output)
            for inner in attribute.g.node:
                yield from _reads(inner)


def _constant(node: onnx.NodeProto) -> Array:
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return np.asarray(numpy_helper.to_array(value))
    return np.asarray(value, np.float32 if "float" in attribute.name else np.int64)


def _plain(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if attribute.type == onnx.AttributeProto.STRINGS:
        return [part.decode("utf-8", "replace") for part in value]
    return list(value) if isinstance(value, Iterable) and not isinstance(value, (str, onnx.GraphProto)) else value
