"""Attention, LayerNormalization and GELU as one operator each: onnxruntime's own, faster in float and in dynamic int8.

What there is to fuse is found by looking at the graph. The embedding stays as it is, so that its table can be
compressed by itself.
"""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import onnx
from onnx import helper
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_by_fusion

from edgewise_compiler.errors import Unsupported, one_line
from edgewise_compiler.passes import Pass, Refusal, Work
from edgewise_compiler.passes.graph import (
    STANDARD,
    Links,
    anonymize,
    fresh,
    load,
    name_nodes,
    nodes,
    save,
    set_array,
    signature,
    sweep,
    tidy,
)

MICROSOFT = "com.microsoft"
FUSED = (
    "Attention",
    "MultiHeadAttention",
    "LayerNormalization",
    "SkipLayerNormalization",
    "Gelu",
    "FastGelu",
    "BiasGelu",
)


class Fuse(Pass):
    """The fusions of onnxruntime's transformer optimizer, for BERT-like graphs."""

    name = "fuse"
    title = "fuse attention and normalization"
    paper = "Vaswani et al. 2017, arXiv:1706.03762 (what is fused)"
    forbids = frozenset({"quantized", "half", "weights"})
    gives = frozenset({"fused"})
    drops = frozenset({"folded"})
    tolerance = 2e-3

    def run(self, work: Work) -> None:
        """Write the fused model. Refuses a graph with nothing to fuse."""
        model = load(work.inputs["model"])
        tidy(model)
        before, said = signature(model), _count(model)
        options = FusionOptions("bert")
        options.enable_embed_layer_norm = False
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            copy = onnx.ModelProto.FromString(model.SerializeToString())
            split_unsqueezes(copy.graph)
            made = optimize_by_fusion(copy, "bert", num_heads=0, hidden_size=0, optimization_options=options).model
        except Exception as error:  # somebody's optimizer on somebody's graph: errors of all kinds
            raise Refusal(f"the transformer fusions give up on this graph: {one_line(error)}") from error
        finally:
            logging.disable(level)
        fused = _count(made) - said
        if not fused:
            raise Refusal(
                "nothing to fuse: no attention, LayerNormalization or GELU as transformer encoders have them",
                [
                    Unsupported(node=node.name, op=node.op_type, why="not part of a pattern that is known")
                    for node in nodes(model.graph)
                    if node.op_type in ("Softmax", "Erf", "LayerNormalization")
                ][:8],
            )
        if signature(made) != before:
            raise Refusal("the transformer fusions change the inputs or outputs of this graph")
        if all(entry.domain != MICROSOFT for entry in made.opset_import):
            made.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
        name_nodes(made.graph)
        anonymize(made)
        sweep(made)
        save(made, work.out)
        work.notes.append("fused: " + ", ".join(f"{count} {name}" for name, count in sorted(fused.items())))


def split_unsqueezes(graph: onnx.GraphProto) -> None:
    """One Unsqueeze an axis, as exporters write attention masks: the fusions know no other form."""
    links, give = Links(graph), fresh(graph)
    for position, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "Unsqueeze" or len(node.input) < 2 or node.input[1] not in links.weights:
            continue
        axes = links.array(node.input[1]).reshape(-1).tolist()
        if len(axes) < 2 or min(axes) < 0:
            continue
        name = node.input[0]
        for count, axis in enumerate(sorted(axes)[:-1]):
            constant, made = give(f"{node.name}.axis{count}"), give(f"{node.name}.out{count}")
            set_array(graph, constant, np.array([axis], dtype=np.int64))
            step = helper.make_node("Unsqueeze", [name, constant], [made], name=give(f"{node.name}.step{count}"))
            graph.node.insert(position + count, step)
            name = made
        last = give(f"{node.name}.last")
        set_array(graph, last, np.array([max(axes)], dtype=np.int64))
        node.input[0], node.input[1] = name, last


def _count(model: onnx.ModelProto) -> Counter[str]:
    return Counter(
        node.op_type
        for node in nodes(model.graph)
        if node.op_type in FUSED and (node.domain not in STANDARD or node.op_type == "LayerNormalization")
    )
