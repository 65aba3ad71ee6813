"""A folded ONNX graph as a torch module: one step a node, layers of torch for what has weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from . import dense, elementwise, quantization, recurrent, reductions, resize, shaping, signal, windows
from .graph import (
    DOMAINS,
    MIN_OPSET,
    Array,
    Node,
    Unsupported,
    UnsupportedGraphError,
    constants,
    fold,
    nodes,
    opset,
    shapes,
)
from .registry import HOST_OPS, LAYER_CALLS, LAYERS, OPS, Binding, Facts, Layer, tensor
from .write import Bound, encode, exact

FAMILIES = (dense, elementwise, quantization, recurrent, reductions, resize, shaping, signal, windows)
"""Importing them fills the tables."""

SHAPE_READERS = ("Shape", "Size")
HOST_SIZE = 64
"""Constants up to this many elements may be part of a shape."""

TRAINED: dict[str, tuple[int, ...]] = {
    "MatMul": (0, 1), "Gemm": (0, 1, 2), "Conv": (1, 2), "ConvTranspose": (1, 2), "PRelu": (1,),
    "LayerNormalization": (1, 2), "InstanceNormalization": (1, 2), "GroupNormalization": (1, 2),
    "RMSNormalization": (1,), "Gather": (0,), "BatchNormalization": (1, 2),
}  # fmt: skip
"""Inputs that are weights, where the node is no layer."""
SCALES_AND_BIASES = ("Add", "Sub", "Mul", "Div")

REWRITES = {
    "If": "fix the shapes of the inputs, or export the branch that is taken alone",
    "Loop": "export the loop unrolled, or its body as the model",
    "Scan": "export the loop unrolled, or its body as the model",
    "NonMaxSuppression": "end the model before it, and select boxes in the application",
    "NonZero": "use Where with a mask of fixed shape",
    "DynamicQuantizeLinear": "start from the float model",
    "ConvInteger": "start from the float model",
    "MatMulInteger": "start from the float model",
    "QLinearConv": "start from the float model, or from one in QDQ format",
    "QLinearMatMul": "start from the float model, or from one in QDQ format",
}

Source = tuple[str, Any] | None
"""Where a step takes an input from: ("value", name), ("state", attribute), ("host", array); None when left out."""


@dataclass(frozen=True)
class Step:
    """One node as it is run. ``layer``: the submodule that stands for it. ``gone``: values that nobody reads later."""

    node: Node
    sources: tuple[Source, ...]
    outputs: tuple[str, ...]
    layer: str | None = None
    gone: tuple[str, ...] = ()


class OnnxModule(nn.Module):
    """The graph's inputs as positional tensors in, the tuple of its outputs out, both in the graph's order.

    Nodes with constant weights are submodules named after them: ``nn.Conv*``, ``nn.Linear``, ``nn.BatchNorm2d``, ...;
    other weights are parameters of the module itself. ``bindings`` says which initializer each comes from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.input_names: tuple[str, ...] = ()
        self.output_names: tuple[str, ...] = ()
        self.steps: tuple[Step, ...] = ()
        self.results: tuple[Source, ...] = ()
        self.bindings: tuple[Bound, ...] = ()

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Raises ValueError for another number of inputs."""
        if len(inputs) != len(self.input_names):
            raise ValueError(f"expected {len(self.input_names)} inputs {self.input_names}, got {len(inputs)}")
        values: dict[str, Any] = dict(zip(self.input_names, inputs, strict=True))
        device = inputs[0].device if inputs else torch.device("cpu")
        for step in self.steps:
            results = self._run(step, [self._resolve(source, values) for source in step.sources], device)
            values.update(zip(step.outputs, results if isinstance(results, tuple) else (results,), strict=False))
            for name in step.gone:
                values.pop(name, None)
        return tuple(tensor(self._resolve(source, values), device) for source in self.results)

    def _resolve(self, source: Source, values: dict[str, Any]) -> Any:
        if source is None:
            return None
        kind, what = source
        return values[what] if kind == "value" else getattr(self, what) if kind == "state" else what

    def _run(self, step: Step, inputs: list[Any], device: torch.device) -> Any:
        node = step.node
        if step.layer is not None:
            lifted = [None if value is None else tensor(value, device) for value in inputs]
            module = self.get_submodule(step.layer)
            call = LAYER_CALLS.get(node.op)
            return module(*lifted) if call is None else call(node, module, *lifted)
        known = all(value is None or isinstance(value, np.ndarray) for value in inputs)
        if node.op in HOST_OPS and (known or node.op in SHAPE_READERS):
            return HOST_OPS[node.op](node, *inputs)
        name = "GatherHost" if node.op == "Gather" and isinstance(inputs[1], np.ndarray) else node.op
        form = OPS.get(name)
        if form is None:
            raise ValueError(f"{node.op} {node.name!r}: expected a shape that does not depend on data")
        rank = max((value.ndim for value in inputs if isinstance(value, torch.Tensor)), default=-1)
        given = []
        for index, value in enumerate(inputs):
            if value is None or index in form.host:
                if isinstance(value, torch.Tensor):
                    raise ValueError(f"{node.op} {node.name!r}: expected input {index} to be known from shapes")
                given.append(value)
            elif form.scalars and isinstance(value, np.ndarray) and value.size == 1 and value.ndim <= rank:
                given.append(value.reshape(-1).tolist()[0])
            else:
                given.append(tensor(value, device))
        return form.run(node, *given)


def unsupported(model: onnx.ModelProto) -> list[Unsupported]:
    """All nodes that have no form here; empty when ``to_module`` takes the model. Builds nothing."""
    return _unsupported(fold(model))


def to_module(model: onnx.ModelProto) -> OnnxModule:
    """The module of a graph, in evaluation mode. Raises UnsupportedGraphError with all nodes that have no form here."""
    folded = fold(model)
    found = _unsupported(folded)
    if found:
        raise UnsupportedGraphError(found)
    return _Builder(folded).build().eval()


def facts_of(model: onnx.ModelProto) -> tuple[list[Node], Facts]:
    """The nodes of a folded model, and what is known of it."""
    graph = model.graph
    arrays = constants(graph)
    found = nodes(graph, opset(model))
    hosted = {name for name, array in arrays.items() if array.size <= HOST_SIZE}
    for node in found:
        if node.op in SHAPE_READERS:
            hosted.update(node.outputs)
        elif node.op == "ConstantOfShape" and not np.issubdtype(node.get("value", np.float32(0)).dtype, np.integer):
            continue
        elif node.op in HOST_OPS and all(name in hosted for name in node.inputs if name):
            hosted.update(node.outputs)
    used = {name for node in found for name in node.inputs} | {info.name for info in graph.output}
    types = {initializer.name: initializer.data_type for initializer in graph.initializer}
    return found, Facts(arrays, shapes(model), types, frozenset(used), frozenset(hosted))


def _unsupported(model: onnx.ModelProto) -> list[Unsupported]:
    if opset(model) < MIN_OPSET:
        why = f"opset {opset(model)}, expected {MIN_OPSET} or newer"
        return [Unsupported("", "opset", why, "convert it with onnx.version_converter")]
    found: list[Unsupported] = []
    for info in model.graph.input:
        kind = info.type.tensor_type.elem_type
        if kind not in elementwise.DTYPES:
            found.append(Unsupported(info.name, "input", "is no tensor of numbers that torch has"))
    graph_nodes, facts = facts_of(model)
    for node in graph_nodes:
        reason = _reason(node, facts)
        if reason is not None:
            found.append(Unsupported(node.name, f"{node.domain}.{node.op}".lstrip("."), reason, REWRITES.get(node.op)))
    return found


def _reason(node: Node, facts: Facts) -> str | None:
    if node.domain not in DOMAINS:
        return "is no standard operator"
    if node.op == "If":
        of = "the sizes of the inputs" if node.inputs[0] in facts.hosted else "the inputs"
        return f"its condition depends on {of}"
    form = OPS.get(node.op)
    if form is None and node.op not in HOST_OPS:
        return "has no form here"
    strange = [
        name for name in node.inputs if name in facts.constants and facts.constants[name].dtype.kind not in "fiub"
    ]
    if strange:
        return f"its constant {strange[0]!r} has type {facts.constants[strange[0]].dtype}"
    if form is None:
        given = [name for name in node.inputs if name and name not in facts.hosted]
        return f"its size, {given[0]!r}, depends on data" if given and node.op not in SHAPE_READERS else None
    for index in form.host:
        name = node.input(index)
        if name and name not in facts.hosted and name not in facts.constants:
            return f"its input {index}, {name!r}, depends on data"
    return form.check(node, facts) if form.check else None


class _Builder:
    """Makes the module of a folded model that has a form for every node."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.nodes, self.facts = facts_of(model)
        self.module = OnnxModule()
        self.taken: set[str] = set(dir(self.module))
        self.states: dict[str, str] = {}
        self.shared: dict[tuple[str, str], nn.Parameter] = {}
        self.bindings: list[Bound] = []
        self.readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)

    def build(self) -> OnnxModule:
        steps: list[Step] = []
        outputs = {info.name for info in self.graph.output}
        trained = {
            node.inputs[index]
            for node in self.nodes
            for index in range(len(node.inputs))
            if node.input(index) in self.facts.constants and self._weight(node, index)
        }
        self.trained = trained
        skipped: set[str] = set()
        for node in self.nodes:
            if node.name in skipped:
                continue
            made = self._layer(node)
            if made is None:
                steps.append(Step(node, tuple(self._source(node, i) for i in range(len(node.inputs))), node.outputs))
                continue
            add = self._bias_behind(node, made) if node.op == "MatMul" and node.outputs[0] not in outputs else None
            result = node.outputs
            bindings = [(node, binding) for binding in made.bindings]
            if add is not None:
                linear = made.module
                assert isinstance(linear, nn.Linear)
                made = Layer(nn.Linear(linear.in_features, linear.out_features), made.bindings, made.inputs)
                index = 0 if add.inputs[1] == node.outputs[0] else 1
                bindings.append((add, Binding("bias", index)))
                skipped.add(add.name)
                result = add.outputs
            path = attribute_name(node.name, self.taken)
            self.module.add_module(path, made.module)
            for owner, binding in bindings:
                self._bind(path, made.module, owner, binding)
            steps.append(Step(node, tuple(self._source(node, i, True) for i in made.inputs), result, path))
            if node.op == "QuantizeLinear":  # the pair is one: what reads it reads the value
                skipped |= {reader.name for reader in self.readers[node.outputs[0]]}
                steps[-1] = Step(node, steps[-1].sources, node.outputs, path)
                steps.extend(self._same(reader, node) for reader in self.readers[node.outputs[0]])
        self.module.steps = _forget(steps, outputs)
        self.module.input_names = tuple(info.name for info in self.graph.input)
        self.module.output_names = tuple(info.name for info in self.graph.output)
        self.module.results = tuple(
            ("host", self.facts.constants[name]) if name in self.facts.constants else ("value", name)
            for name in self.module.output_names
        )
        self.module.bindings = tuple(self.bindings)
        return self.module

    def _same(self, reader: Node, source: Node) -> Step:
        node = Node(reader.name, "Identity", "", source.outputs[:1], reader.outputs, {}, reader.opset)
        return Step(node, (("value", source.outputs[0]),), reader.outputs)

    def _layer(self, node: Node) -> Layer | None:
        build = LAYERS.get(node.op)
        if build is None:
            return None
        if node.op == "QuantizeLinear" and not self._paired(node):
            return None
        return build(node, self.facts)

    def _paired(self, node: Node) -> bool:
        readers = self.readers.get(node.outputs[0], [])
        if not readers or node.outputs[0] in {info.name for info in self.graph.output}:
            return False
        return all(
            reader.op == "DequantizeLinear"
            and reader.inputs[0] == node.outputs[0]
            and reader.get("axis", 1) == node.get("axis", 1)
            and all(self._equal(node.input(index), reader.input(index)) for index in (1, 2))
            for reader in readers
        )

    def _equal(self, a: str, b: str) -> bool:
        values = self.facts.constants
        return a == b or (a in values and b in values and np.array_equal(values[a], values[b]))

    def _bias_behind(self, node: Node, made: Layer) -> Node | None:
        """The Add of one constant row behind a product, when nothing else reads the product."""
        readers = self.readers.get(node.outputs[0], [])
        if len(readers) != 1 or readers[0].op != "Add" or not isinstance(made.module, nn.Linear):
            return None
        other = [name for name in readers[0].inputs if name != node.outputs[0]]
        if len(other) != 1 or other[0] not in self.facts.constants:
            return None
        rank = self.facts.rank(node.outputs[0])
        row = self.facts.constants[other[0]]
        return readers[0] if row.shape == (made.module.out_features,) and rank != 1 else None

    def _bind(self, path: str, module: nn.Module, node: Node, binding: Binding) -> None:
        name = node.inputs[binding.index]
        owner, _, attribute = f"{path}.{binding.attribute}".rpartition(".")
        holder = self.module.get_submodule(owner)
        value = torch.from_numpy(exact(encode(self.facts.constants[name], binding.transform)))
        current = getattr(holder, attribute)
        if isinstance(current, nn.Parameter):
            parameter = self.shared.setdefault((name, binding.transform), nn.Parameter(value))
            setattr(holder, attribute, parameter)
        else:
            setattr(holder, attribute, value)
        self.bindings.append(Bound(f"{owner}.{attribute}", name, node.name, binding.index, binding.transform))

    def _weight(self, node: Node, index: int) -> bool:
        array = self.facts.constants[node.inputs[index]]
        if not np.issubdtype(array.dtype, np.floating) or array.size <= 1:
            return False
        if node.op in SCALES_AND_BIASES:
            return sum(dim > 1 for dim in array.shape) == 1 and bool(np.isfinite(array).all())
        return index in TRAINED.get(node.op, ())

    def _source(self, node: Node, index: int, as_tensor: bool = False) -> Source:
        name = node.input(index)
        if not name:
            return None
        if name not in self.facts.constants:
            return ("value", name)
        array = self.facts.constants[name]
        form = OPS.get(node.op)
        on_host = node.op in HOST_OPS and all(other in self.facts.hosted for other in node.inputs if other)
        if not as_tensor and (on_host or form is None or index in form.host):
            return ("host", array)
        if form is not None and form.scalars and array.size == 1:
            return ("host", array)
        if node.op == "Gather" and index == 1 and array.size <= HOST_SIZE:
            return ("host", array)
        return ("state", self._state(node, index, array))

    def _state(self, node: Node, index: int, array: Array) -> str:
        name = node.inputs[index]
        if name not in self.states:
            attribute = attribute_name(name, self.taken)
            self.states[name] = attribute
            value = torch.from_numpy(exact(array))
            if name in self.trained:
                self.module.register_parameter(attribute, nn.Parameter(value))
            else:
                self.module.register_buffer(attribute, value)
        if name in self.trained:
            self.bindings.append(Bound(self.states[name], name, node.name, index, "same"))
        return self.states[name]


def _forget(steps: list[Step], outputs: set[str]) -> tuple[Step, ...]:
    """Each step with the values that nobody reads after it."""
    seen = set(outputs)
    made: list[Step] = []
    for step in reversed(steps):
        reads = {source[1] for source in step.sources if source is not None and source[0] == "value"}
        gone = (reads | set(step.outputs)) - seen
        seen |= reads
        made.append(Step(step.node, step.sources, step.outputs, step.layer, tuple(sorted(gone))))
    return tuple(made[::-1])


def attribute_name(name: str, taken: set[str]) -> str:
    """A name of a node or constant as a free Python attribute name; it is then taken."""
    base = re.sub(r"\W+", "_", name).strip("_") or "value"
    base = f"n_{base}" if base[0].isdigit() else base
    made, number = base, 2
    while made in taken:
        made, number = f"{base}_{number}", number + 1
    taken.add(made)
    return made
