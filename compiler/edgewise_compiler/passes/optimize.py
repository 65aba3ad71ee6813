"""ONNX in, simpler ONNX out: standard operators only, BatchNorm folded, shapes inferred. Every other pass starts here.

Rules that hold here:
- each step is a help, not a need: where one gives up on a graph or changes its signature, the pass goes on without it
  and says so in its notes;
- MatMul stays MatMul: as Gemm between Reshapes its weights are out of reach for other passes;
- an already quantized graph is only tidied: folding would undo what its scales say.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnxruntime as ort
import onnxslim

from edgewise_compiler.errors import Unsupported, one_line
from edgewise_compiler.passes import Pass, Refusal, Work
from edgewise_compiler.passes.graph import (
    STANDARD,
    Links,
    anonymize,
    attribute,
    fresh,
    graphs,
    load,
    name_nodes,
    nodes,
    opset,
    out_axis,
    rename,
    save,
    set_array,
    signature,
    sort,
    sweep,
    tidy,
    whole,
)

MIN_OPSET = 13
"""The first with per-channel QuantizeLinear."""
OLDEST_OPSET = 7
QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
SHARED_BYTES = 1024
FOLDS_INTO = ("Conv", "ConvTranspose", "Gemm")

Step = Callable[[onnx.ModelProto, Path], onnx.ModelProto]


class Optimize(Pass):
    """Fold constants and BatchNorm, infer shapes, take out what does nothing."""

    name = "optimize"
    title = "optimize the graph"
    paper = "Jacob et al. 2018, arXiv:1712.05877, section 3.2 (BatchNorm folding)"
    gives = frozenset({"folded"})
    packages = ("onnx", "onnxruntime", "numpy", "onnxslim")

    def run(self, work: Work) -> None:
        """Write the optimized model. Refuses opsets older than ``OLDEST_OPSET`` and those that cannot be raised."""
        model = load(work.inputs["model"])
        said = opset(model)
        if said < OLDEST_OPSET:
            raise Refusal(f"ONNX opset {said}: expected {OLDEST_OPSET} or newer; export the model anew")
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        tidy(model)
        if said < MIN_OPSET:
            model = raise_opset(model, MIN_OPSET)
            tidy(model)
            work.notes.append(f"opset {said} raised to {MIN_OPSET}")
        quantized = any(node.op_type in QUANTIZED for node in nodes(model.graph))
        if not quantized:
            model = self._try("onnxruntime's basic optimizations", _basic, model, work)
            fold_batch_norm(model)
            model = self._try("onnxslim", _slim, model, work)
            fold_batch_norm(model)
            spatial_means_to_pools(model)
            share_weights(model)
        model = self._try("shape inference", _infer, model, work)
        anonymize(model)
        name_nodes(model.graph)
        save(model, work.out)

    def _try(self, what: str, step: Step, model: onnx.ModelProto, work: Work) -> onnx.ModelProto:
        """A step on a copy; the model as it was where the step gives up or breaks the signature."""
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        try:
            with _quiet():
                done = step(copy, work.folder)
            tidy(done)
        except Exception as error:  # somebody's optimizer on somebody's graph: errors of all kinds
            why = f"{type(error).__name__}: {one_line(error, 120)}"
        else:
            if signature(done) == signature(model):
                return done
            why = "it changes inputs or outputs"
        work.notes.append(f"without {what}: {why}")
        return model


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]  # a generator for ``with``
    """Optimizers print, warn and log about what is no concern of the user's."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def raise_opset(model: onnx.ModelProto, to: int) -> onnx.ModelProto:
    """The same model in a newer opset. Raises Refusal where an operator has no way there."""
    try:
        raised = onnx.version_converter.convert_version(model, to)
    except Exception as error:  # the converter raises RuntimeError, ValueError and its own
        raise Refusal(
            f"ONNX opset {opset(model)} cannot be raised to {to}: {one_line(error)}; export the model with opset {to}"
        ) from error
    # The converter drops what it does not know: functions and other domains.
    if model.functions or {entry.domain for entry in model.opset_import} - set(STANDARD):
        foreign = [node for node in nodes(model.graph) if node.domain not in STANDARD]
        if foreign:
            raise Refusal(
                f"ONNX opset {opset(model)}: expected {to} or newer where operators of other domains are used",
                [Unsupported(node=node.name, op=node.op_type, why=f"of domain {node.domain}") for node in foreign[:8]],
            )
    return raised


def _basic(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """onnxruntime's own first level: constants folded, BatchNorm and scalings folded into Conv, identities out."""
    out = folder / "basic.onnx"
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(out)
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=["MatMulAddFusion"]
    )
    done = onnx.load_model(str(out))
    before = {node.domain for node in nodes(model.graph)}
    if added := {node.domain for node in nodes(done.graph)} - before - set(STANDARD):
        raise ValueError(f"operators of {', '.join(sorted(added))} came in")
    return done


def _slim(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    foreign = {node.domain for node in nodes(model.graph)} - set(STANDARD)
    if foreign or any(node.op_type in ("If", "Loop", "Scan") for node in model.graph.node):
        return model
    # FusionGemm makes Gemm of MatMul; FusionReduce and others are kept.
    slim: onnx.ModelProto = onnxslim.slim(model, skip_fusion_patterns=["FusionGemm"])
    onnx.checker.check_model(slim)
    return slim


def _infer(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def fold_batch_norm(model: onnx.ModelProto) -> int:
    """Fold each BatchNormalization into the Conv, ConvTranspose or Gemm that it alone reads. Returns how many.

    y = gamma (x - mean) / sqrt(variance + epsilon) + beta scales each output channel, so the weights take the scale
    and the bias the rest.
    """
    graph, folded = model.graph, 0
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        links = Links(graph)
        layer = links.maker.get(norm.input[0])
        if layer is None:
            continue
        if (
            layer.op_type not in FOLDS_INTO
            or links.only_reader(norm.input[0]) != norm
            or whole(norm, "training_mode", 0)
            or any(norm.output[1:])
            or not all(links.is_float(name) for name in [*norm.input[1:], *layer.input[1:]])
        ):
            continue
        if layer.op_type == "Gemm" and (attribute(layer, "beta", 1.0) != 1.0 or attribute(layer, "alpha", 1.0) != 1.0):
            continue
        gamma, beta, mean, variance = (links.array(name).astype(np.float64) for name in norm.input[1:])
        epsilon = attribute(norm, "epsilon", 1e-5)
        assert isinstance(epsilon, float)
        scale = gamma / np.sqrt(variance + epsilon)
        weight = links.array(layer.input[1]).astype(np.float64)
        if (group := whole(layer, "group", 1)) > 1 and layer.op_type == "ConvTranspose":
            # Weights [in, out / groups, ...]: a group's inputs go to its own outputs.
            shape = (group, weight.shape[0] // group, weight.shape[1])
            weight = (weight.reshape(*shape, -1) * scale.reshape(group, 1, -1, 1)).reshape(weight.shape)
        else:
            axis = out_axis(layer, weight.ndim)
            weight = weight * scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
        bias = links.array(layer.input[2]).astype(np.float64) if len(layer.input) > 2 else 0.0
        # A weight may be shared: the folded one has a name of its own.
        names = [f"{layer.name}.weight.folded", f"{layer.name}.bias.folded"]
        set_array(graph, names[0], weight.astype(np.float32))
        set_array(graph, names[1], np.broadcast_to(beta + (bias - mean) * scale, scale.shape).astype(np.float32))
        data = layer.input[0]
        del layer.input[:]
        layer.input.extend([data, *names])
        layer.output[0] = norm.output[0]
        graph.node.remove(norm)
        folded += 1
    if folded:
        sort(graph)
        sweep(model)
    return folded


def share_weights(model: onnx.ModelProto) -> int:
    """Weights that are there several times, in inner graphs too, are kept once, in the main one. Returns how many went.

    Folding constants copies what several branches share.
    """
    give, kept, gone = fresh(model.graph), dict[str, str](), 0
    for graph in graphs(model.graph):
        renamed = {}
        for tensor in [tensor for tensor in graph.initializer if len(tensor.raw_data) >= SHARED_BYTES]:
            name = tensor.name
            key = hashlib.sha256(f"{tensor.data_type}{list(tensor.dims)}".encode() + tensor.raw_data).hexdigest()
            if key in kept:
                renamed[name] = kept[key]
                graph.initializer.remove(tensor)
                gone += 1
                continue
            kept[key] = name
            if graph is not model.graph:
                kept[key] = renamed[name] = give(f"{name}.shared")
                moved = model.graph.initializer.add()
                moved.CopyFrom(tensor)
                moved.name = kept[key]
                graph.initializer.remove(tensor)
        if renamed:
            rename(graph, renamed)
    return gone


def spatial_means_to_pools(model: onnx.ModelProto) -> int:
    """ReduceMean over height and width of [n, c, h, w] is a GlobalAveragePool, which int8 kernels exist for."""
    graph, changed = model.graph, 0
    links = Links(graph)
    ranks = {
        info.name: len(info.type.tensor_type.shape.dim)
        for info in [*graph.input, *graph.value_info, *graph.output]
        if info.type.tensor_type.HasField("shape")
    }
    for node in graph.node:
        if node.op_type != "ReduceMean" or not whole(node, "keepdims", 1) or ranks.get(node.input[0]) != 4:
            continue
        if len(node.input) > 1 and node.input[1] in links.weights:
            axes = links.array(node.input[1]).tolist()
        else:
            axes = attribute(node, "axes", None)
        if not isinstance(axes, list) or sorted(axis % 4 for axis in axes) != [2, 3]:
            continue
        node.op_type = "GlobalAveragePool"
        del node.attribute[:]
        del node.input[1:]
        changed += 1
    if changed:
        sweep(model)
    return changed
