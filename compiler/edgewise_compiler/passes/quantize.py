"""fp32 -> int8 from calibrated ranges: QuantizeLinear and DequantizeLinear around what is computed in integers (QDQ).

Rules that hold here:
- only ``OPERATORS`` are quantized: divisions, exponentials and scalings stay float, and a NaN stays a NaN;
- the last weighted layer before the scores (before every output, where there are none) stays float, unless told
  otherwise;
- the output of a Gemm or MatMul is rounded only where the layers behind it would round it anyway: what the model
  gives out of one is float32 in value, not only in type;
- what touches a tensor without a range (attention masks) stays float, and so does what stands between float layers;
- weights of less than eight bits are stored as 4-bit integers and cast to int8: onnxruntime does that once, at load.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgewise_compiler.errors import CompileError, Unsupported, one_line
from edgewise_compiler.passes import Pass, PassConfig, Refusal, Work
from edgewise_compiler.passes.calibrate import float_tensors, read_ranges
from edgewise_compiler.passes.graph import (
    WEIGHTED,
    Links,
    anonymize,
    fresh,
    load_ready,
    rename,
    save,
    sort,
    sweep,
    whole,
)
from edgewise_compiler.passes.qdq import narrow

Scheme = Literal["u8s8", "s8s8"]
Ranges = Mapping[str, tuple[float, float]]

OPERATORS = [
    *WEIGHTED, "Relu", "Clip", "LeakyRelu", "Add", "MaxPool", "AveragePool", "GlobalAveragePool",
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Pad",
]  # fmt: skip
MATRIX = ("Gemm", "MatMul")
MOVES = (
    "MaxPool", "AveragePool", "GlobalAveragePool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Pad",
)  # fmt: skip
ACTIVATION = ("Relu", "Clip", "LeakyRelu")
SCHEMES: dict[Scheme, Any] = {"u8s8": QuantType.QUInt8, "s8s8": QuantType.QInt8}


class Quantize(Pass):
    """Static quantization: activations per tensor (u8 or s8), weights per channel (s8)."""

    name = "quantize"
    version = 2
    title = "quantize to int8"
    paper = "Jacob et al. 2018, arXiv:1712.05877; Krishnamoorthi 2018, arXiv:1806.08342 (per channel)"
    takes = {"model": "onnx", "ranges": "ranges"}
    needs = frozenset({"float32", "folded"})
    forbids = frozenset({"quantized", "fused", "half", "weights"})
    gives = frozenset({"quantized"})
    drops = frozenset({"float32"})
    lossy = True

    class Config(PassConfig, frozen=True, kw_only=True):
        """``exclude``: names of nodes that stay float. ``last_float``: the last weighted layer too."""

        scheme: Scheme = "u8s8"
        per_channel: bool = True
        exclude: tuple[str, ...] = ()
        last_float: bool = True
        weight_bits: Literal[8, 4, 3] = 8

    def run(self, work: Work) -> None:
        """Write the QDQ model. Refuses a graph with nothing to quantize."""
        config: Quantize.Config = work.config
        model = load_ready(work.inputs["model"])
        ranges = read_ranges(work.inputs["ranges"])
        excluded = set(config.exclude)
        if config.last_float:
            excluded.update(last_weighted(model.graph, ends(model.graph, work.scores)))
        chosen = quantizable(model, ranges, excluded)
        refuse_nothing(model, chosen)
        quantized = quantize_graph(model, ranges, config.scheme, chosen, per_channel=config.per_channel)
        if config.weight_bits < 8:
            quantized = narrow(quantized, model, config.weight_bits)
        save(quantized, work.out)
        floats = [node.name for node in model.graph.node if node.op_type in WEIGHTED and node.name not in chosen]
        if floats:
            more = f" and {len(floats) - 8} more" if len(floats) > 8 else ""
            work.notes.append(f"kept float: {', '.join(floats[:8])}{more}")


def ends(graph: onnx.GraphProto, scores: str | None) -> list[str]:
    """The outputs whose last layers stay float: the scores, else every float output."""
    if scores is not None:
        return [scores]
    return [output.name for output in graph.output if output.type.tensor_type.elem_type == TensorProto.FLOAT]


def last_weighted(graph: onnx.GraphProto, outputs: Iterable[str]) -> list[str]:
    """Names of the weighted nodes nearest to ``outputs``, walking back; none when there are no others to quantize."""
    makers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in WEIGHTED:
            found.add(node.name)
        else:
            waiting.extend(node.input)
    # Around a residual connection earlier layers are near too: one that leads to another is not the last.
    found -= {node.name for node in graph.node if node.name in found and _leads_on(graph, node, found)}
    others = [node.name for node in graph.node if node.op_type in WEIGHTED and node.name not in found]
    return sorted(found) if others else []


def _leads_on(graph: onnx.GraphProto, start: onnx.NodeProto, found: Collection[str]) -> bool:
    """Does another of ``found`` read, through whatever nodes, what ``start`` makes? The graph is in order."""
    behind = set(start.output)
    for node in graph.node:
        if node.name != start.name and behind & set(node.input):
            if node.name in found:
                return True
            behind.update(node.output)
    return False


def quantizable(model: onnx.ModelProto, ranges: Ranges, excluded: Collection[str] = ()) -> list[str]:
    """Names of the nodes that can be computed in integers, in order: of ``OPERATORS``, every float tensor with a range.

    What stands between layers is among them only where all that it reads was rounded to integers already: alone it
    would cost accuracy and win nothing.
    """
    floats, links = set(float_tensors(model)), Links(model.graph)
    fit = {
        node.name
        for node in model.graph.node
        if node.op_type in OPERATORS
        and node.name not in excluded
        # Its scales would be shared between groups, which its bias cannot be.
        and not (node.op_type == "ConvTranspose" and whole(node, "group", 1) > 1)
        and (touched := floats & {*node.input, *node.output})
        and all(name in ranges for name in touched)
    }
    chosen, rounded = [], set[str]()
    for node in model.graph.node:
        if node.name not in fit:
            continue
        reads = floats & set(node.input)
        if node.op_type not in WEIGHTED and not (reads and reads <= rounded):
            continue
        chosen.append(node.name)
        if node.op_type not in MATRIX or rounds(links, node, fit):
            rounded.update(node.output)
    return _exact_outputs(model.graph, links, chosen)


def _exact_outputs(graph: onnx.GraphProto, links: Links, chosen: list[str]) -> list[str]:
    """Without the pooling and reshaping at the very end: outputs are then float in value, as embeddings should be."""
    last: set[str] = set()
    for node in reversed(graph.node):
        readers = links.readers.get(node.output[0], [])
        if node.op_type in MOVES and (
            node.output[0] in links.outputs or any(reader.name in last for reader in readers)
        ):
            last.add(node.name)
    return [name for name in chosen if name not in last]


def rounds(links: Links, node: onnx.NodeProto, fit: Collection[str]) -> bool:
    """Is a matrix product's output rounded anyway, behind an activation at most, by the layers that read it?"""
    name = node.output[0]
    reader = links.only_reader(name)
    if reader is not None and reader.op_type in ACTIVATION and reader.name in fit:
        name = reader.output[0]
    readers = links.readers.get(name, [])
    return (
        name not in links.outputs
        and bool(readers)
        and all(reader.name in fit and reader.op_type in WEIGHTED and reader.input[0] == name for reader in readers)
    )


def refuse_nothing(model: onnx.ModelProto, chosen: Collection[str]) -> None:
    """Raises Refusal where no weighted layer is among ``chosen``: int8 would only cost."""
    layers = [node for node in model.graph.node if node.op_type in WEIGHTED]
    if any(node.name in chosen for node in layers):
        return
    inner = [node for node in model.graph.node if node.op_type in ("If", "Loop", "Scan", "LSTM", "GRU", "RNN")]
    raise Refusal(
        "nothing to quantize: no Conv, ConvTranspose, Gemm or MatMul that may become int8",
        [
            Unsupported(
                node=node.name,
                op=node.op_type,
                why="static int8 does not reach inside" if node in inner else "kept float",
                rewrite="take the weights pass, or dynamic quantization" if node in inner else None,
            )
            for node in [*layers, *inner][:16]
        ],
    )


def quantize_graph(
    model: onnx.ModelProto, ranges: Ranges, scheme: Scheme, chosen: list[str], *, per_channel: bool = True
) -> onnx.ModelProto:
    """The QDQ model in which the nodes ``chosen`` are computed in integers. ``model`` is left as it is.

    Raises CompileError (code ``cannot-quantize``).
    """
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    _own_biases(copy.graph)
    # Says that types are known already: it would write the model to disk and read it again.
    onnx.helper.set_model_props(copy, {"onnx.infer": "onnxruntime.quant"})
    spans = TensorsData(
        CalibrationMethod.MinMax,
        {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()},
    )
    links = Links(model.graph)
    exact = {
        node.output[0]
        for node in model.graph.node
        if node.name in chosen and node.op_type in MATRIX and not rounds(links, node, chosen)
    }
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        quantizer = QDQQuantizer(
            copy, per_channel, False, QuantType.QInt8, SCHEMES[scheme], spans, chosen, [], OPERATORS, {}
        )
        quantizer.quantize_model()
    except Exception as error:  # the quantizer raises built-in classes of all kinds
        raise CompileError(f"cannot quantize ({scheme}): {one_line(error)}", code="cannot-quantize") from error
    finally:
        logging.disable(level)
    made: onnx.ModelProto = quantizer.model.model
    unround(made.graph, exact)
    _drop_zeros(made.graph)
    sort(made.graph)
    sweep(made)
    anonymize(made)
    return made


def _own_biases(graph: onnx.GraphProto) -> None:
    """A bias that several layers share becomes one for each: their scales differ. onnxruntime's quantizer does so too,
    but calls the copies by names that the graph may have already."""
    give, taken = fresh(graph), set[str]()
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in WEIGHTED or len(node.input) < 3 or node.input[2] not in weights:
            continue
        if node.input[2] in taken:
            copy = graph.initializer.add()
            copy.CopyFrom(weights[node.input[2]])
            copy.name = node.input[2] = give(f"{node.name}.bias")
        taken.add(node.input[2])


def unround(graph: onnx.GraphProto, tensors: Collection[str]) -> None:
    """Take out the QuantizeLinear and DequantizeLinear that stand between these tensors and who reads them."""
    links = Links(graph)
    for node in list(graph.node):
        if node.op_type != "QuantizeLinear":
            continue
        backs = links.readers.get(node.output[0], [])
        for back in backs:
            if back.output[0] in tensors:
                # The tensor is an output of the model: its maker was renamed.
                links.maker[node.input[0]].output[0] = back.output[0]
                rename(graph, {node.input[0]: back.output[0]})
                graph.node.remove(back)
            elif node.input[0] in tensors and not all(
                reader.op_type in WEIGHTED for reader in links.readers.get(back.output[0], [])
            ):
                rename(graph, {back.output[0]: node.input[0]})


def _drop_zeros(graph: onnx.GraphProto) -> None:
    """A zero point that is zero, of a constant, goes without saying."""
    links = Links(graph)
    for node in graph.node:
        if (
            node.op_type == "DequantizeLinear"
            and node.input[0] in links.weights
            and len(node.input) == 3
            and node.input[2] in links.weights
            and not links.array(node.input[2]).any()
        ):
            del node.input[2]
