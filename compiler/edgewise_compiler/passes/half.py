"""fp32 -> fp16 inside, float32 outside: for devices that compute in half precision.

On a CPU without fp16 kernels this is slower than float; there ``weights`` with 16 bits halves the file at no cost.

Rules that hold here:
- what would overflow stays float: a node that makes or reads a value beyond ``LARGEST`` on calibration data, or holds
  a weight beyond it;
- operators without fp16 kernels, and control flow with all that is inside it, stay float.
"""

from __future__ import annotations

import logging

import numpy as np
import onnx
from onnx import TensorProto
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from edgewise_compiler.errors import CompileError, Unsupported, one_line
from edgewise_compiler.passes import Pass, Refusal, Work
from edgewise_compiler.passes.calibrate import extremes
from edgewise_compiler.passes.graph import (
    Links,
    anonymize,
    graphs,
    load_ready,
    name_nodes,
    nodes,
    save,
    session,
    signature,
    sweep,
    whole,
)

LARGEST = 65504.0 / 2
"""Half of the largest fp16: room for inputs beyond those of the calibration."""
ITEMS = 64
STAY = [*DEFAULT_OP_BLOCK_LIST, "If", "Loop", "Scan", "LSTM", "GRU", "RNN", "DFT", "STFT"]


class Half(Pass):
    """Half precision with float inputs and outputs."""

    name = "half"
    title = "compute in half precision"
    paper = "Micikevicius et al. 2018, arXiv:1710.03740"
    needs = frozenset({"float32"})
    forbids = frozenset({"quantized", "weights"})
    gives = frozenset({"half"})
    drops = frozenset({"float32"})
    lossy = True
    data = "calibrate"

    def run(self, work: Work) -> None:
        """Write the fp16 model. Refuses one with no float weights outside control flow."""
        assert work.data is not None
        model = load_ready(work.inputs["model"])
        if not any(tensor.data_type == TensorProto.FLOAT for tensor in model.graph.initializer):
            raise Refusal(
                "nothing to halve: no float32 weight outside of control flow",
                [
                    Unsupported(node=node.name, op=node.op_type, why="what is inside stays float")
                    for node in model.graph.node
                    if node.op_type in ("If", "Loop", "Scan")
                ],
            )
        inner = near_inner(model)
        large = too_large(model, extremes(model, work.data.spread(ITEMS)))
        if large:
            work.notes.append(f"{len(large)} nodes stay float: their values exceed half of the largest fp16")
        before = signature(model)
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            made = convert_float_to_float16(
                model, keep_io_types=True, op_block_list=STAY, node_block_list=large + inner, disable_shape_infer=False
            )
        except Exception as error:  # the converter raises built-in classes of all kinds
            raise CompileError(f"cannot convert to fp16: {one_line(error)}", code="cannot-quantize") from error
        finally:
            logging.disable(level)
        if signature(made) != before:
            raise Refusal("fp16: the converter changes the inputs or outputs of this graph")
        bypass(made.graph)
        name_nodes(made.graph)
        anonymize(made)
        sweep(made)
        try:
            session(made)
        except CompileError as error:
            raise Refusal(f"fp16: {error}") from error
        save(made, work.out)


def bypass(graph: onnx.GraphProto) -> None:
    """Between two nodes that stay float a value is not taken through fp16, where it may overflow."""
    links = Links(graph)
    for node in graph.node:
        if node.op_type != "Cast" or whole(node, "to", 0) != TensorProto.FLOAT:
            continue
        down = links.maker.get(node.input[0])
        if down is not None and down.op_type == "Cast" and whole(down, "to", 0) == TensorProto.FLOAT16:
            node.input[0] = down.input[0]


def near_inner(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes inside control flow, and of those whose answers such nodes read."""
    inside = [node for graph in list(graphs(model.graph))[1:] for node in graph.node]
    read = {name for node in inside for name in node.input}
    read |= {output.name for graph in list(graphs(model.graph))[1:] for output in graph.output}
    return [node.name for node in inside] + [node.name for node in model.graph.node if read & set(node.output)]


def too_large(model: onnx.ModelProto, spans: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the nodes that touch a value or a weight beyond ``LARGEST``."""
    links = Links(model.graph)
    huge = {name for name, span in spans.items() if max(map(abs, span)) > LARGEST}
    for name, tensor in links.weights.items():
        if tensor.data_type == TensorProto.FLOAT:
            array = links.array(name)
            if array.size and not np.abs(array).max() <= LARGEST:
                huge.add(name)
    return [node.name for node in nodes(model.graph) if huge & {*node.input, *node.output}]
