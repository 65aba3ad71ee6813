"""How much each layer hurts when it alone is quantized: the signal-to-noise ratio of the model's outputs.

The file (kind ``sensitivity``) is JSON: ``{"layers": [{"node", "op", "snr_db", "weight_bytes", "macs"}, ...],
"all_snr_db": ...}``, worst first. Signal and noise are summed over the float outputs, each relative to its own signal.

Rules that hold here:
- a layer is a weighted node with the activation right behind it;
- at most ``LAYERS`` are measured, those with the greatest relative error of their weights on the int8 grid: the others
  take the SNR of the least sensitive one that was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from edgewise_compiler.data import Array, Data
from edgewise_compiler.passes import Pass, PassConfig, Work
from edgewise_compiler.passes.calibrate import read_ranges
from edgewise_compiler.passes.graph import (
    WEIGHTED,
    Links,
    collect,
    feeds,
    load_ready,
    out_axis,
    run,
    session,
    whole,
)
from edgewise_compiler.passes.grid import to_grid
from edgewise_compiler.passes.quantize import Scheme, quantizable, quantize_graph, refuse_nothing

ITEMS = 64
LAYERS = 64
MAX_DB = 150.0
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu")


class Sensitivity(Pass):
    """Layer by layer."""

    name = "sensitivity"
    title = "measure how each layer takes quantization"
    paper = "Wu et al. 2020, arXiv:2004.09602, section 5.1 (one layer at a time)"
    takes = {"model": "onnx", "ranges": "ranges"}
    makes = "sensitivity"
    needs = frozenset({"float32", "folded"})
    forbids = frozenset({"quantized", "fused", "half", "weights"})
    data = "calibrate"

    class Config(PassConfig, frozen=True, kw_only=True):
        """The scheme that is asked about."""

        scheme: Scheme = "u8s8"

    def run(self, work: Work) -> None:
        """Write the SNRs. Refuses a graph with nothing to quantize."""
        config: Sensitivity.Config = work.config
        assert work.data is not None
        model = load_ready(work.inputs["model"])
        ranges = read_ranges(work.inputs["ranges"])
        data = work.data.spread(ITEMS)
        possible = quantizable(model, ranges)
        refuse_nothing(model, possible)
        layers = [node for node in model.graph.node if node.op_type in WEIGHTED and node.name in possible]
        measured = _most_likely(model, layers)
        outputs = [output.name for output in model.graph.output if output.type.tensor_type.elem_type == 1]
        want = _answers(model, outputs, data)
        snrs: dict[str, float] = {}
        for count, node in enumerate(measured):
            work.progress(count / (len(measured) + 1), node.name)
            alone = quantize_graph(model, ranges, config.scheme, with_activation(model, node, possible))
            snrs[node.name] = snr_db(want, _answers(alone, outputs, data))
        everything = quantize_graph(model, ranges, config.scheme, possible)
        whole_db = snr_db(want, _answers(everything, outputs, data))
        if len(measured) < len(layers):
            work.notes.append(
                f"{len(measured)} of {len(layers)} layers measured, those whose weights lose most on the grid; "
                "the others are taken to be as the best of them"
            )
        rest = max(snrs.values())
        macs = count_macs(model, layers, data)
        rows: list[dict[str, Any]] = [
            {
                "node": node.name,
                "op": node.op_type,
                "snr_db": round(snrs.get(node.name, rest), 3),
                "weight_bytes": _weight_bytes(model, node),
                "macs": macs[node.name],
            }
            for node in layers
        ]
        rows.sort(key=lambda row: (row["snr_db"], row["node"]))
        work.out.write_text(json.dumps({"layers": rows, "all_snr_db": round(whole_db, 3)}, indent=1))


def with_activation(model: onnx.ModelProto, node: onnx.NodeProto, possible: Sequence[str]) -> list[str]:
    """Names of a layer and of the activation right behind it."""
    after = Links(model.graph).only_reader(node.output[0])
    names = [node.name]
    if after is not None and after.op_type in ACTIVATIONS and after.name in possible:
        names.append(after.name)
    return names


def snr_db(want: Sequence[Array], got: Sequence[Array]) -> float:
    """Signal-to-noise ratio over several outputs, each relative to its own signal, in decibels; at most ``MAX_DB``."""
    ratios = []
    for one, other in zip(want, got, strict=True):
        signal = float(np.mean(np.square(one, dtype=np.float64)))
        noise = float(np.mean(np.square(one.astype(np.float64) - other.astype(np.float64))))
        if signal > 0:
            ratios.append(noise / signal)
    worst = float(np.mean(ratios)) if ratios else 0.0
    if math.isnan(worst):
        return -MAX_DB
    return MAX_DB if worst <= 10 ** (-MAX_DB / 10) else max(-MAX_DB, -10 * math.log10(worst))


def _answers(model: onnx.ModelProto, outputs: list[str], data: Data) -> list[Array]:
    opened = session(model)
    parts = [run(opened, outputs, feed) for feed in feeds(opened, data)]
    return [np.concatenate([part[i].reshape(-1) for part in parts]) for i in range(len(outputs))]


def _most_likely(model: onnx.ModelProto, layers: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    if len(layers) <= LAYERS:
        return layers
    links = Links(model.graph)

    def lost(node: onnx.NodeProto) -> float:
        if not links.is_float(node.input[1]):
            return math.inf
        weight = links.array(node.input[1]).astype(np.float32)
        axis = out_axis(node, weight.ndim)
        codes, scales = to_grid(weight, tuple(i for i in range(weight.ndim) if i != axis), 8)
        return float(np.square(codes * scales - weight).sum() / max(float(np.square(weight).sum()), 1e-30))

    chosen = sorted(layers, key=lambda node: (-lost(node), node.name))[:LAYERS]
    names = {node.name for node in chosen}
    return [node for node in layers if node.name in names]


def _weight_bytes(model: onnx.ModelProto, node: onnx.NodeProto) -> int:
    links = Links(model.graph)
    return sum(int(np.prod(links.weights[name].dims)) * 4 for name in node.input[1:] if links.is_float(name))


def count_macs(model: onnx.ModelProto, layers: list[onnx.NodeProto], data: Data) -> dict[str, int]:
    """Multiplications and additions of each layer for one item, by its shapes on the first."""
    links = Links(model.graph)
    names = [name for node in layers for name in (node.output[0], node.input[0])]
    shapes = {name: array.shape for name, array in next(collect(model, names, data.take(slice(0, 1)), batch=1)).items()}
    macs = {}
    for node in layers:
        out = int(np.prod(shapes[node.output[0]]))
        given = shapes[node.input[0]]
        weight = links.weights[node.input[1]].dims if node.input[1] in links.weights else None
        if node.op_type == "Conv" and weight:
            macs[node.name] = out * int(np.prod(weight[1:]))
        elif node.op_type == "ConvTranspose" and weight:
            macs[node.name] = int(np.prod(given)) * int(np.prod(weight[1:]))
        elif node.op_type == "Gemm":
            macs[node.name] = out * int(given[0 if whole(node, "transA", 0) else -1])
        else:
            macs[node.name] = out * int(given[-1])
    return macs
