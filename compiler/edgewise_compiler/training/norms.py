"""Batch normalization for the time of training, where a graph came with it folded into its convolutions.

A network that loses channels, or weights, also loses the scale of what goes through it; batch normalization brings that
back at once, and lets it train at higher rates. It goes in as an identity (its scale and bias are the statistics that
it measures) and is folded into the weights again in the end, so that the graph has the nodes that it had.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from edgewise_compiler.training.onnx_torch import OnnxModule, fold
from edgewise_compiler.training.recover import EVALUATED, Feeds, Teacher

MARK = "/norm"
"""The end of the name of what is put in here."""
ITEMS = 1024
EPSILON = 1e-5


def insert(model: onnx.ModelProto, module: OnnxModule, feeds: Feeds, teacher: Teacher) -> onnx.ModelProto:
    """``model`` with a BatchNormalization behind each convolution that has none; it answers the same.

    ``teacher`` says which items have answers. Nothing goes in where a module takes few items at once: there would be no
    statistics to train with.
    """
    made = fold(model)
    if feeds.chunk is not None:
        return made
    graph = made.graph
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {info.name for info in graph.output}
    layers = {step.outputs[0]: step.layer for step in module.steps if step.layer and step.node.op == "Conv"}
    bare = {
        output: layer
        for output, layer in layers.items()
        if output not in outputs and not any(node.op_type == "BatchNormalization" for node in readers.get(output, []))
    }
    statistics = _measure(module, set(bare.values()), feeds, teacher.rows[:ITEMS])
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
        output = node.output[0] if node.output else ""
        if output not in bare or bare[output] not in statistics:
            continue
        mean, variance = statistics[bare[output]]
        nodes[-1].output[0] = f"{output}{MARK}/in"
        values = {"scale": np.sqrt(variance + EPSILON), "bias": mean, "mean": mean, "variance": variance}
        names = [f"{output}{MARK}/{part}" for part in values]
        graph.initializer.extend(
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in zip(names, values.values(), strict=True)
        )
        inputs = [nodes[-1].output[0], *names]
        nodes.append(helper.make_node("BatchNormalization", inputs, [output], name=f"{output}{MARK}", epsilon=EPSILON))
    del graph.node[:]
    graph.node.extend(nodes)
    return made


def _measure(module: OnnxModule, layers: set[str], feeds: Feeds, rows: Any) -> dict[str, tuple[Any, Any]]:
    """Mean and variance of each channel that the layers give, float64, over some items; finite ones alone."""
    sums: dict[str, list[Any]] = {}

    def hook(name: str) -> Any:
        def add(_layer: nn.Module, _inputs: Any, output: Tensor) -> None:
            by_channel = output.double().movedim(1, 0).flatten(1)
            moments = [by_channel.shape[1], by_channel.sum(1), by_channel.square().sum(1)]
            sums[name] = [a + b for a, b in zip(sums.get(name, [0, 0, 0]), moments, strict=True)]

        return add

    hooks = [module.get_submodule(name).register_forward_hook(hook(name)) for name in sorted(layers)]
    with torch.no_grad():
        for start in range(0, len(rows), EVALUATED):
            module(*feeds.at(rows[start : start + EVALUATED]))
    for one in hooks:
        one.remove()
    found = {}
    for name, (n, total, squares) in sums.items():
        mean = (total / n).numpy()
        variance = np.maximum((squares / n).numpy() - mean**2, 0.0)
        # A channel that hardly moves would be blown up by its own noise.
        if np.isfinite(mean).all() and np.isfinite(variance).all():
            found[name] = (mean, np.maximum(variance, 1e-4 * max(float(variance.max()), 1e-6)))
    return found


def remove(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with what ``insert`` put in folded into the convolutions."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    graph = made.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    gone: set[str] = set()
    for node in graph.node:
        if node.op_type != "BatchNormalization" or not node.name.endswith(MARK):
            continue
        scale, bias, mean, variance = (
            numpy_helper.to_array(values[name]).astype(np.float64) for name in node.input[1:]
        )
        factor = scale / np.sqrt(variance + EPSILON)
        conv = makers[node.input[0]]
        weight = values[conv.input[1]]
        before = numpy_helper.to_array(weight)
        shift = (
            numpy_helper.to_array(values[conv.input[2]]).astype(np.float64)
            if len(conv.input) > 2 and conv.input[2]
            else 0.0
        )
        # A weight that another node reads as well keeps its own value there.
        name = _own(conv.input[1], node, graph)
        scaled = (before * factor.reshape(-1, *[1] * (before.ndim - 1))).astype(np.float32)
        shifted = ((shift - mean) * factor + bias).astype(np.float32)
        _put(values, graph, name, scaled)
        _put(values, graph, f"{node.output[0]}{MARK}/folded", shifted)
        inputs = [conv.input[0], name, f"{node.output[0]}{MARK}/folded"]
        del conv.input[:]
        conv.input.extend(inputs)
        conv.output[0] = node.output[0]
        gone.add(node.name)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node if node.name not in gone]
    del graph.node[:]
    graph.node.extend(kept)
    read = {name for node in kept for name in node.input} | {info.name for info in graph.output}
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return made


def _own(name: str, norm: onnx.NodeProto, graph: onnx.GraphProto) -> str:
    shared = sum(list(node.input).count(name) for node in graph.node) > 1
    return f"{name}{MARK}/{norm.output[0]}" if shared else name


def _put(values: dict[str, onnx.TensorProto], graph: onnx.GraphProto, name: str, array: Any) -> None:
    if name in values:
        values[name].CopyFrom(numpy_helper.from_array(array, name))
    else:
        graph.initializer.append(numpy_helper.from_array(array, name))
        values[name] = graph.initializer[-1]
