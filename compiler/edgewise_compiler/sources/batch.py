"""A fixed batch of 1 made dynamic, where that is provably right.

The proof is by operator: when every item of a batch goes its own way through it, rows of the result depend on the same
row of the inputs alone, so n items at once answer as n runs of one. An operator that is not in the table, or that
touches the first axis, ends the proof, and the batch stays 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, numpy_helper, shape_inference

BATCH = "batch"

ALIKE = frozenset(
    {
        "Abs",
        "Cast",
        "Ceil",
        "Clip",
        "Cos",
        "DequantizeLinear",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Log",
        "Neg",
        "Not",
        "QuantizeLinear",
        "Reciprocal",
        "Relu",
        "Round",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sqrt",
        "Tanh",
    }
)
"""Element by element in the first input; the others are constants of the operator."""
BROADCAST = frozenset(
    {
        "Add",
        "And",
        "Div",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Or",
        "Pow",
        "PRelu",
        "Sub",
        "Where",
    }
)
WINDOWS = frozenset(
    {
        "AveragePool",
        "Conv",
        "ConvTranspose",
        "DepthToSpace",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "MaxPool",
        "Resize",
        "SpaceToDepth",
    }
)
REDUCE = frozenset({"ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"})
AXIS = {"ArgMax": 0, "ArgMin": 0, "LogSoftmax": -1, "Softmax": -1, "Split": 0}
"""Operators along one axis, with the axis that is meant where none is named."""

SUBGRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


class Mixed(Exception):
    """An operator mixes the items of a batch, or may."""


def free_batch(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str | None]:
    """(the model with a first axis called ``batch``, None), or (the model as it came, why its batch stays fixed).

    Only for models whose inputs all have a first axis of 1; others come back as they are.
    """
    try:
        return _freed(model), None
    except (Mixed, shape_inference.InferenceError) as error:
        return model, str(error)


def _freed(model: onnx.ModelProto) -> onnx.ModelProto:
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    proof = _Proof(inferred.graph, freed.graph)
    for value in freed.graph.input:
        shape = proof.shape(value.name)
        if not shape or shape[0] != 1:
            raise Mixed(f"input {value.name!r} has shape {shape}, and no batch of 1 first")
        proof.batched.add(value.name)
    for node in freed.graph.node:
        proof.follow(node)
    for value in [*freed.graph.input, *freed.graph.output]:
        if value.name not in proof.batched:
            raise Mixed(f"output {value.name!r} does not depend on the batch")
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    used = {name for node in freed.graph.node for name in node.input}
    weights = [weight for weight in freed.graph.initializer if weight.name in used]
    del freed.graph.value_info[:], freed.graph.initializer[:]
    freed.graph.initializer.extend(weights)
    return freed


class _Proof:
    """``batched``: values whose first axis is the batch, each row from the same row of the inputs alone."""

    def __init__(self, inferred: GraphProto, freed: GraphProto) -> None:
        self.batched: set[str] = set()
        self._freed = freed
        self._shapes = {
            value.name: [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
            for value in [*inferred.value_info, *inferred.input, *inferred.output]
            if value.type.tensor_type.HasField("shape")
        }
        self._shapes |= {weight.name: list(weight.dims) for weight in inferred.initializer}
        self._weights = {weight.name: weight for weight in freed.initializer}

    def shape(self, name: str) -> list[int]:
        """Sizes, -1 for an unknown one. Raises Mixed where nothing is known."""
        if name not in self._shapes:
            raise Mixed(f"the shape of {name!r} is not known")
        return self._shapes[name]

    def follow(self, node: NodeProto) -> None:
        """Are this node's outputs batched? Raises Mixed where that is not plain."""
        if node.domain not in ("", "ai.onnx") or any(attribute.type in SUBGRAPHS for attribute in node.attribute):
            raise self._mixed(node, "nothing is known about what it does inside")
        inputs = [name for name in node.input if name]
        if not any(name in self.batched for name in inputs):
            return
        rest = [name for name in inputs[1:] if name in self.batched]
        kind = node.op_type
        if kind in BROADCAST or kind == "Concat":
            self._joined(node, inputs)
        elif kind == "MatMul":
            self._matmul(inputs)
        elif kind == "Gather":
            self._gather(node, inputs)
        elif rest or inputs[0] not in self.batched:
            raise self._mixed(node, "its weights or bounds come from the input")
        elif kind == "Reshape":
            self._reshape(node)
        elif kind == "Gemm":
            self._plain(node, not _attribute(node, "transA", 0))
        elif kind == "Transpose":
            self._plain(node, list(_attribute(node, "perm", [])[:1]) == [0])
        elif kind in AXIS:
            self._plain(node, _attribute(node, "axis", AXIS[kind]) % self._rank(node) != 0)
        elif kind == "Flatten":
            self._plain(node, _attribute(node, "axis", 1) == 1)
        elif kind in REDUCE or kind in ("Squeeze", "Unsqueeze", "Slice"):
            self._axes(node)
        elif kind == "Pad":
            pads = self._numbers(node, 1)
            self._plain(node, len(node.input) < 4 and pads[0] == 0 and pads[len(pads) // 2] == 0)
        elif kind in WINDOWS:
            self._plain(node, kind != "Resize" or self._resizes_sides(node))
        elif kind not in ALIKE:
            raise self._mixed(node, "nothing is known about it")
        for name in node.output:
            if self.shape(name)[:1] != [1]:
                raise self._mixed(node, f"its output has shape {self.shape(name)}")
        self.batched |= set(node.output)

    def _plain(self, node: NodeProto, kept: bool) -> None:
        if not kept:
            raise self._mixed(node, "it touches the first axis")

    def _joined(self, node: NodeProto, inputs: list[str]) -> None:
        ranks = {len(self.shape(name)) for name in inputs if name in self.batched}
        rank = max(len(self.shape(name)) for name in inputs)
        if ranks != {rank}:
            raise self._mixed(node, "a batched value is broadcast over a first axis that is not the batch")
        for name in set(inputs) - self.batched:
            if node.op_type == "Concat" or (len(self.shape(name)) == rank and self.shape(name)[0] != 1):
                raise self._mixed(node, f"it joins the batch with {name!r}, which has none")
        if node.op_type == "Concat":
            self._plain(node, _attribute(node, "axis", 0) % rank != 0)

    def _matmul(self, inputs: list[str]) -> None:
        left, right = (self.shape(name) for name in inputs)
        fixed = [shape for name, shape in zip(inputs, (left, right), strict=True) if name not in self.batched]
        both = not fixed and len(left) == len(right) > 2
        by_weights = inputs[0] in self.batched and bool(fixed) and len(fixed[0]) == 2
        if not both and not by_weights:
            raise Mixed("a MatMul mixes the items of the batch, or may")

    def _gather(self, node: NodeProto, inputs: list[str]) -> None:
        axis = _attribute(node, "axis", 0) % max(len(self.shape(inputs[0])), 1)
        by_row = inputs[0] in self.batched and inputs[1] not in self.batched and axis > 0
        table = inputs[0] not in self.batched and axis == 0
        self._plain(node, by_row or table)

    def _reshape(self, node: NodeProto) -> None:
        """[1, ...] to [1, ...]: each item's elements stay its own. The first size becomes 0, the input's own."""
        sizes = self._numbers(node, 1)
        if self.shape(node.output[0])[:1] != [1] or sizes[0] not in (0, 1, -1) or _attribute(node, "allowzero", 0):
            raise self._mixed(node, "its new shape does not keep the batch first")
        if sizes[0] == -1:
            return
        name = f"{node.name or node.output[0]}/batch_shape"
        self._freed.initializer.append(numpy_helper.from_array(np.array([0, *sizes[1:]], np.int64), name))
        node.input[1] = name

    def _axes(self, node: NodeProto) -> None:
        place = {"Slice": 3}.get(node.op_type, 1)
        if len(node.input) <= place or not node.input[place]:
            raise self._mixed(node, "it names no axes")
        rank = self._rank(node) + (len(self._numbers(node, 1)) if node.op_type == "Unsqueeze" else 0)
        self._plain(node, all(axis % rank != 0 for axis in self._numbers(node, place)))

    def _resizes_sides(self, node: NodeProto) -> bool:
        """Other axes are named, or the first one's scale is 1."""
        if min(_attribute(node, "axes", [0])) > 0:
            return True
        return len(node.input) == 3 and bool(node.input[2]) and float(self._array(node, 2)[0]) == 1

    def _rank(self, node: NodeProto) -> int:
        return len(self.shape(node.input[0]))

    def _array(self, node: NodeProto, place: int) -> npt.NDArray[Any]:
        name = node.input[place]
        if name not in self._weights:
            raise self._mixed(node, f"{name!r} is computed")
        found: npt.NDArray[Any] = numpy_helper.to_array(self._weights[name]).ravel()
        return found

    def _numbers(self, node: NodeProto, place: int) -> list[int]:
        return [int(value) for value in self._array(node, place)]

    def _mixed(self, node: NodeProto, why: str) -> Mixed:
        return Mixed(f"{node.op_type} {node.name!r}: {why}")


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default
