"""ONNX nodes, constants and their names while a graph is written; knows nothing of TFLite."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Array = npt.NDArray[Any]

SMALL = 64
"""Constants of up to so many values are written once, however often they are used."""
SHORT = 80
"""Characters of a tensor's name that names of nodes and constants carry on."""


class Nodes:
    """``inputs`` is set by who writes the graph; ``prefix`` is what the next nodes are named for."""

    def __init__(self) -> None:
        self.prefix = "input"
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self.inputs: list[ValueInfoProto] = []
        self._names: set[str] = set()
        self._small: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def node(self, op_type: str, inputs: list[str], **attributes: Any) -> str:
        """Write a node with one output, and give its name."""
        return self.nodes_of(op_type, inputs, 1, **attributes)[0]

    def nodes_of(self, op_type: str, inputs: list[str], outputs: int, **attributes: Any) -> list[str]:
        """Write a node with several outputs, and give their names."""
        label = self._unique(f"{self.prefix}/{op_type}")
        names = [label] if outputs == 1 else [self._unique(f"{label}_{i}") for i in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, names, name=label, **attributes))
        return names

    def constant(self, array: Array | np.generic, hint: str) -> str:
        """An initializer of these values."""
        array = np.asarray(array)
        array = array.astype(array.dtype.newbyteorder("="))
        key = (array.dtype.str, array.shape, array.tobytes() if array.size <= SMALL else b"")
        if array.size <= SMALL and key in self._small:
            return self._small[key]
        name = self._unique(short(hint))
        self.initializers[name] = numpy_helper.from_array(array, name)
        if array.size <= SMALL:
            self._small[key] = name
        return name

    def numbers(self, values: list[int]) -> str:
        """An int64 list: axes, shapes, pads."""
        return self.constant(np.array(values, np.int64), "numbers")

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32), "number")

    def assemble(self, name: str, outputs: list[tuple[str, ValueInfoProto]]) -> GraphProto:
        """The whole graph, without what no output needs. ``outputs``: (value, description under its final name)."""
        inputs = {value.name for value in self.inputs}
        finals: dict[str, str] = {}
        for value, described in outputs:
            while described.name in inputs or described.name in finals.values():
                described.name += "_out"
            if value in finals or value in inputs or value in self.initializers:
                value = self.node("Identity", [value])
            finals[value] = described.name
        nodes = _needed(self.nodes, set(finals))
        renamed = {value: f"{value}/inner" for value in set(finals.values()) - set(finals)} | finals
        for node in nodes:
            node.input[:] = [renamed.get(value, value) for value in node.input]
            node.output[:] = [renamed.get(value, value) for value in node.output]
        for weight in self.initializers.values():
            weight.name = renamed.get(weight.name, weight.name)
        used = {value for node in nodes for value in node.input}
        weights = [weight for weight in self.initializers.values() if weight.name in used]
        return helper.make_graph(nodes, name, self.inputs, [described for _, described in outputs], weights)

    def _unique(self, name: str) -> str:
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found


def _needed(nodes: list[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """The nodes, in order, that ``wanted`` values come from."""
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def short(name: str) -> str:
    """The end of a name: converters join names of layers to hundreds of characters."""
    return name.rstrip(";").rpartition(";")[2][-SHORT:]
