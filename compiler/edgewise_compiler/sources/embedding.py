"""The embedding of a model that gives none: which inner value it is, and how it becomes an output.

The rule, unless the user names one (``--embedding NAME``, an output, a value or a node of the graph):
- from the class scores, or the first output of floats, go back over what only rescales or reshapes (``SHAPING``) to the
  last layer with weights (``LAYERS``): the embedding is what that layer takes in;
- a feature map [n, channels, places...] is averaged over its places, a sequence [n, steps, d] over its steps;
- it is from 2 to ``MAX_WIDTH`` wide; one that is wider was a feature map before it was flattened, or there is none;
- the model's own input is no embedding.

So a linear model and a tree have none: their inputs are columns, which have sketches of their own.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper, shape_inference

from edgewise_compiler.errors import CompileError
from edgewise_compiler.export import opset_of
from edgewise_compiler.model import EMBEDDING, Model

MAX_WIDTH = 1024
LAYERS = {"Gemm", "MatMul", "Conv"}
SHAPING = {
    "Softmax", "LogSoftmax", "Sigmoid", "Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose",
    "Dropout", "Add", "Sub", "Mul", "Div", "Clip", "Concat", "Slice", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
FLATTENING = {"Reshape", "Flatten", "Squeeze", "Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear"}
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}
MAX_STEPS = 64


def with_embedding(path: Path, model: Model, scores: str | None, wanted: str | None, notes: list[str]) -> str | None:
    """The embedding output of the model file at ``path``, which gets one, and a note, where it has none; None where
    there is no embedding. Raises CompileError as ``expose`` does."""
    outputs = {tensor.name for tensor in model.outputs}
    if wanted in outputs or (wanted is None and model.embedding is not None):
        return wanted or model.embedding
    proto = onnx.load_model(str(path))
    name, note = expose(proto, scores, wanted)
    notes.append(note)
    if name is not None:
        onnx.save_model(proto, str(path))
    return name


def expose(model: onnx.ModelProto, scores: str | None, wanted: str | None) -> tuple[str | None, str]:
    """Give the model an output that is its embedding, in place: (the output's name or None, what was done, in words).

    ``wanted``: the user's value or node. Raises CompileError (code ``bad-source``) where that cannot be one.
    """
    graph = _Graph(model)
    if wanted is not None:
        value = graph.value(wanted)
        if value is None or graph.width(value) is None:
            raise CompileError(
                f"embedding {wanted!r}: expected an output, or an inner value or node that gives floats [n, d], "
                f"[n, d, places...] or [n, steps, d] with d known",
                code="bad-source",
            )
    else:
        value = graph.before_the_last_layer(scores)
        if value is None:
            return None, "no embedding was found before the last layer: name one (--embedding) for an embedding sketch"
    name = _add_output(model, graph, value)
    return name, f"embedding: {value!r}, {graph.width(value)} wide" + (
        "" if wanted else ", what the last layer takes in"
    )


class _Graph:
    """Who makes which value, and of what shape."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.makers: dict[str, NodeProto] = {name: node for node in self.graph.node for name in node.output}
        self.constants = {tensor.name for tensor in self.graph.initializer}
        self.constants |= {node.output[0] for node in self.graph.node if node.op_type == "Constant"}
        self.inputs = {value.name for value in self.graph.input}
        inferred = shape_inference.infer_shapes(model).graph
        self.types = {value.name: value.type.tensor_type for value in [*inferred.value_info, *inferred.output]}

    def value(self, name: str) -> str | None:
        """The value called so, or the first one of the node called so."""
        if name in self.makers:
            return name
        return next((node.output[0] for node in self.graph.node if node.name == name and node.output), None)

    def rank(self, name: str) -> int:
        """Axes; 0 where that is not known."""
        kind = self.types.get(name)
        return len(kind.shape.dim) if kind is not None and kind.HasField("shape") else 0

    def width(self, name: str) -> int | None:
        """d of an embedding made of this value; None where it cannot be made."""
        kind, rank = self.types.get(name), self.rank(name)
        if kind is None or kind.elem_type not in FLOATS or rank < 2:
            return None
        width = kind.shape.dim[2 if rank == 3 else 1].dim_value
        return width if width > 1 else None

    def before_the_last_layer(self, scores: str | None) -> str | None:
        """By the rule of this module."""
        starts = [value.name for value in self.graph.output if value.type.tensor_type.elem_type in FLOATS]
        for start in [scores] if scores is not None else starts:
            layer = self._back(start, SHAPING, LAYERS)
            value = None if layer is None else self._fitting(self.makers[layer].input[0])
            if value is not None:
                return value
        return None

    def _back(self, name: str, over: set[str], to: set[str]) -> str | None:
        """The nearest value before ``name`` that a node of ``to`` makes, over nodes of ``over``."""
        for _ in range(MAX_STEPS):
            node = self.makers.get(name)
            if node is not None and node.op_type in to and self._weighted(node):
                return name
            if node is None:
                return None
            data = [value for value in node.input if value and value not in self.constants]
            if node.op_type not in over or not data or (len(data) > 1 and node.op_type != "Concat"):
                return None
            name = data[0]
        return None

    def _weighted(self, node: NodeProto) -> bool:
        """Is its second operand of constants?"""
        weights = node.input[1]
        maker = self.makers.get(weights)
        return weights in self.constants or (maker is not None and all(one in self.constants for one in maker.input))

    def _fitting(self, name: str) -> str | None:
        """The value itself or, where it is too wide, the feature map that it was before it was flattened."""
        for _ in range(MAX_STEPS):
            width = self.width(name)
            if name not in self.inputs and width is not None and width <= MAX_WIDTH:
                return name
            node = self.makers.get(name)
            if node is None or node.op_type not in FLATTENING:
                return None
            name = node.input[0]
        return None


def _add_output(model: onnx.ModelProto, graph: _Graph, value: str) -> str:
    """Nodes from ``value`` to an output [n, d]; its name."""
    taken = {*graph.makers, *graph.inputs, *graph.constants}
    name = EMBEDDING
    while name in taken:
        name = f"{name}_"
    kind, rank, width = graph.types[value], graph.rank(value), graph.width(value)
    nodes, constants = [], []
    if rank == 2:
        nodes = [helper.make_node("Identity", [value], [name], name=f"{name}.expose")]
    else:
        places = [1] if rank == 3 else list(range(2, rank))
        if opset_of(model) >= 18:
            constants = [helper.make_tensor(f"{name}.axes", TensorProto.INT64, [len(places)], places)]
            nodes = [helper.make_node("ReduceMean", [value, f"{name}.axes"], [name], name=f"{name}.expose", keepdims=0)]
        else:
            nodes = [helper.make_node("ReduceMean", [value], [name], name=f"{name}.expose", axes=places, keepdims=0)]
    first = kind.shape.dim[0]
    batch = first.dim_value if first.HasField("dim_value") else first.dim_param or "batch"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    model.graph.output.append(helper.make_tensor_value_info(name, kind.elem_type, [batch, width]))
    return name
