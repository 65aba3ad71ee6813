"""A quantized model computed in float again: its small weights stay, what rounds its activations goes.

In a net of a few thousand weights the scales of activations and of int32 biases, and the nodes that hold them, take a
third of the file, and integer kernels gain nothing. What training gave the weights (``qat``, down to 4 bits) is kept.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgewise_compiler.passes import Pass, Refusal, Work
from edgewise_compiler.passes.graph import Links, anonymize, fresh, load, save, set_array, sort, sweep, tidy


class Lighten(Pass):
    """Weights are brought back to float by Cast and Mul, which onnxruntime works out once, at load."""

    name = "lighten"
    title = "compute small weights in float"
    paper = "Krishnamoorthi 2018, arXiv:1806.08342"
    needs = frozenset({"quantized"})
    gives = frozenset({"weights"})
    drops = frozenset({"quantized"})
    lossy = True  # activations are no longer rounded: closer to float, but other answers
    packages = ("onnx", "numpy")

    def run(self, work: Work) -> None:
        """Refuses a model without a quantized weight."""
        model = load(work.inputs["model"])
        tidy(model)
        if not lighten(model):
            raise Refusal("no quantized weight with constant scales and without zero points")
        sort(model.graph)
        sweep(model)
        anonymize(model)
        save(model, work.out)


def lighten(model: onnx.ModelProto) -> int:
    """In place; how many weights came back as float."""
    graph = model.graph
    _drop_rounding(graph)
    links, give, changed = Links(graph), fresh(graph), 0
    made: list[onnx.NodeProto] = []
    for node in list(graph.node):
        if node.op_type != "DequantizeLinear" or len(node.input) > 2 or node.input[1] not in links.weights:
            continue
        stored = links.maker.get(node.input[0])
        packed = stored is not None and stored.op_type == "Cast" and stored.input[0] in links.weights
        source = stored.input[0] if packed and stored is not None else node.input[0]
        if source not in links.weights:
            continue
        scale, rank = links.array(node.input[1]), len(links.weights[source].dims)
        if links.weights[source].data_type == TensorProto.INT32:
            value = links.array(source).astype(np.float64) * scale.astype(np.float64)
            set_array(graph, node.output[0], value.astype(np.float32))
        else:
            axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
            shape = [1] * rank
            if scale.size > 1:
                shape[axis] = scale.size
            wide, factor = give(f"{source}.float"), give(f"{source}.scale")
            set_array(graph, factor, scale.reshape(shape))
            made += [
                helper.make_node("Cast", [source], [wide], name=give(f"{source}.cast"), to=TensorProto.FLOAT),
                helper.make_node("Mul", [wide, factor], [node.output[0]], name=give(f"{source}.mul")),
            ]
            changed += 1
        graph.node.remove(node)
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*made, *rest])
    return changed


def _drop_rounding(graph: onnx.GraphProto) -> None:
    """Readers of what was rounded read what it was before, cut off where the integers end: a ReLU that the quantizer
    took for granted is there. What came into the graph is not cut."""
    links, give = Links(graph), fresh(graph)
    given = {value.name for value in graph.input}
    for node in graph.node:
        rounded = links.maker.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if rounded is None or rounded.op_type != "QuantizeLinear" or rounded.input[1] not in links.weights:
            continue
        before, scale = rounded.input[0], links.array(rounded.input[1])
        zero = links.array(rounded.input[2]) if len(rounded.input) > 2 else np.zeros((), np.uint8)
        if scale.size > 1:
            continue
        limits = np.iinfo(zero.dtype.name)
        if before in given and node.output[0] not in links.outputs:
            for reader in links.readers.get(node.output[0], []):
                reader.input[:] = [before if name == node.output[0] else name for name in reader.input]
            continue
        bounds = [give(f"{before}.{end}") for end in ("low", "high")]
        for name, end in zip(bounds, (limits.min, limits.max), strict=True):
            set_array(graph, name, np.array((end - int(zero.item())) * float(scale.item()), np.float32))
        made = helper.make_node("Clip", [before, *bounds], [node.output[0]], name=node.name)
        node.CopyFrom(made)
