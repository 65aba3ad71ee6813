"""Integer arithmetic without calibration: weights int8, activations quantized at run time, feed by feed.

For transformers and recurrent nets, whose activations have ranges that differ from input to input. Weights of MatMul,
Gemm, Attention and LSTM, in inner graphs too; embedding tables as in ``weights``.
"""

from __future__ import annotations

import logging

import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode

from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.passes import Pass, PassConfig, Refusal, Work
from edgewise_compiler.passes.graph import Links, anonymize, graphs, load, name_nodes, nodes, save, sweep, tidy
from edgewise_compiler.passes.optimize import share_weights
from edgewise_compiler.passes.weights import embeddings_to_int8

OPERATORS = ["MatMul", "Attention", "LSTM"]
"""Gemm becomes MatMul and Add first."""
INTEGER = ("MatMulInteger", "QAttention", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")


class Dynamic(Pass):
    """Dynamic int8."""

    name = "dynamic"
    title = "quantize dynamically"
    paper = "Zafrir et al. 2019, Q8BERT, arXiv:1910.06188"
    needs = frozenset({"float32"})
    forbids = frozenset({"quantized", "half", "weights"})
    gives = frozenset({"quantized"})
    drops = frozenset({"float32"})
    lossy = True

    class Config(PassConfig, frozen=True, kw_only=True):
        """``exclude``: names of nodes that stay float. ``embeddings``: their tables to int8 too."""

        exclude: tuple[str, ...] = ()
        embeddings: bool = True
        per_channel: bool = True

    def run(self, work: Work) -> None:
        """Write the model. Refuses one without MatMul, Gemm, Attention or LSTM on constant weights."""
        config: Dynamic.Config = work.config
        model = load(work.inputs["model"])
        tidy(model)
        unshare(model)
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            quantizer = ONNXQuantizer(
                model,
                config.per_channel,
                False,
                QuantizationMode.IntegerOps,
                False,
                QuantType.QInt8,
                QuantType.QUInt8,
                None,
                [],
                list(config.exclude),
                OPERATORS,
                {"MatMulConstBOnly": True, "EnableSubgraph": True},
            )
            quantizer.quantize_model()
        except Exception as error:  # the quantizer raises built-in classes of all kinds
            raise CompileError(f"cannot quantize dynamically: {one_line(error)}", code="cannot-quantize") from error
        finally:
            logging.disable(level)
        made: onnx.ModelProto = quantizer.model.model
        if not any(node.op_type in INTEGER for node in nodes(made.graph)):
            raise Refusal("nothing to quantize dynamically: no MatMul, Gemm, Attention or LSTM on constant weights")
        if config.embeddings:
            tables = sum(embeddings_to_int8(graph) for graph in graphs(made.graph))
            if tables:
                work.notes.append(f"{tables} embedding tables to int8, a scale a row")
        share_weights(made)
        sweep(made)
        anonymize(made)
        name_nodes(made.graph)
        save(made, work.out)


def unshare(model: onnx.ModelProto) -> None:
    """Give inner graphs weights of their own: the quantizer does not look outside of a graph."""
    links = Links(model.graph)
    for graph in list(graphs(model.graph))[1:]:
        read = {name for node in graph.node if node.op_type in (*OPERATORS, "Gemm") for name in node.input}
        own = {tensor.name for tensor in graph.initializer}
        for name in sorted((read & links.weights.keys()) - own):
            graph.initializer.add().CopyFrom(links.weights[name])
