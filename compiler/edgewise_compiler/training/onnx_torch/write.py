"""A module's weights, written back into the graph that it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from .graph import Array, fold, nodes, opset
from .recurrent import reorder

if TYPE_CHECKING:
    from .module import OnnxModule


@dataclass(frozen=True)
class Bound:
    """A parameter or buffer at ``path`` is the constant at input ``index`` of ``node``, through ``transform``."""

    path: str
    constant: str
    node: str
    index: int
    transform: str


def exact(array: Array) -> Array:
    """A contiguous copy, of the same shape."""
    return np.array(array, order="C", copy=True)


def encode(array: Array, transform: str) -> Array:
    """From the graph's layout to torch's."""
    if transform == "transposed":
        return array.T
    if transform in ("row", "channels"):
        return array.reshape(-1)
    if ":" in transform:
        kind, direction, *half = transform.split(":")
        rows = array[int(direction)]
        return np.asarray(reorder(kind, np.split(rows, 2)[int(half[0])] if half else rows))
    return array


def decode(value: Array, transform: str, before: Array) -> Array:
    """Back again. ``before``: what is there now; its other parts stay."""
    if transform == "transposed":
        return value.T
    if transform == "row":
        return value.reshape([1] * (before.ndim - 1) + [-1])
    if transform == "channels":
        return value.reshape([-1] + [1] * (before.ndim - 1))
    if ":" in transform:
        kind, direction, *half = transform.split(":")
        rows = np.asarray(reorder(kind, value, back=True))
        made = before.copy()
        if half:
            n = len(rows)
            made[int(direction), int(half[0]) * n : (int(half[0]) + 1) * n] = rows
        else:
            made[int(direction)] = rows
        return made
    return value


def write_back(module: OnnxModule, model: onnx.ModelProto) -> onnx.ModelProto:
    """The folded graph of ``model`` with the present weights of ``module``, whose layers may have become narrower.

    ``module`` was made of ``model``. A constant that several nodes share, and that is no longer the same for all of
    them, becomes one for each. Parametrized weights are written as what they come to. Raises ValueError for a module of
    another model.
    """
    written = fold(model)
    graph = written.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    protos = dict(zip((node.name for node in nodes(graph, opset(written))), graph.node, strict=True))
    values: dict[str, Array] = {}
    """By initializer, as far as written."""
    written_uses: dict[tuple[str, int], str] = {}
    for bound in module.bindings:
        if bound.constant not in initializers or bound.node not in protos:
            raise ValueError(f"expected the model that the module was made of: it has no {bound.constant!r}")
        before = numpy_helper.to_array(initializers[bound.constant])
        value = at(module, bound.path)
        use = (bound.node, bound.index)
        name = written_uses.get(use, bound.constant)
        made = exact(decode(value, bound.transform, values.get(name, before))).astype(before.dtype)
        parts = ":" in bound.transform
        if not parts and name in values and not np.array_equal(values[name], made):
            name = f"{bound.constant}/{bound.node}/{bound.index}"
            protos[bound.node].input[bound.index] = name
        values[name] = made
        written_uses[use] = name
    for name, array in values.items():
        if name in initializers:
            initializers[name].CopyFrom(numpy_helper.from_array(array, name))
        else:
            graph.initializer.append(numpy_helper.from_array(array, name))
    for step in module.steps:
        if step.layer is None:
            continue
        layer = module.get_submodule(step.layer)
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            for attribute in protos[step.node.name].attribute:
                if attribute.name == "group":
                    attribute.i = layer.groups
    return written


def at(module: nn.Module, path: str) -> Array:
    """The value of a parameter or buffer."""
    owner, _, attribute = path.rpartition(".")
    value: Any = getattr(module.get_submodule(owner), attribute)
    assert isinstance(value, torch.Tensor)
    return value.detach().cpu().numpy()
