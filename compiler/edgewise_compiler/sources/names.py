"""Names of inputs and outputs that can travel: a manifest and a topic take letters, digits, ``.``, ``_`` and ``-``."""

from __future__ import annotations

import re

import onnx

MAX_NAME = 64
_OTHER = re.compile(r"[^A-Za-z0-9._-]")


def rename(model: onnx.ModelProto) -> dict[str, str]:
    """Give inputs and outputs names that can travel, in place: new names by old ones; empty when all were fine."""
    weights = {tensor.name for tensor in model.graph.initializer}
    values = [value for value in [*model.graph.input, *model.graph.output] if value.name not in weights]
    taken = _names(model.graph)
    renamed: dict[str, str] = {}
    for value in values:
        old = value.name
        if old in renamed or (re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", old) and len(old) <= MAX_NAME):
            continue
        new = base = (_OTHER.sub("_", old).lstrip("._-") or "tensor")[: MAX_NAME - 4]
        number = 1
        while new in taken:
            number += 1
            new = f"{base}_{number}"
        taken.add(new)
        renamed[old] = new
    if renamed:
        _apply(model.graph, renamed)
    return renamed


def _names(graph: onnx.GraphProto) -> set[str]:
    names = {value.name for value in [*graph.input, *graph.output, *graph.value_info]}
    names |= {tensor.name for tensor in graph.initializer}
    return names | {name for node in graph.node for name in [*node.input, *node.output]}


def _apply(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    """Inner graphs see the names of the outer one, and may not use them for others."""
    for value in [*graph.input, *graph.output, *graph.value_info]:
        value.name = renamed.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _apply(attribute.g, renamed)
            for inner in attribute.graphs:
                _apply(inner, renamed)
