"""Bias correction: rounding shifts a layer's mean output; the shift, measured on data, is taken off its bias.

Layers are corrected from the input to the output, each with those before it corrected already. The float model must be
the very one that was quantized: layers are matched by name. Means are taken in front of the activation, which int8 has
folded into the rounding.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from edgewise_compiler.data import Data
from edgewise_compiler.passes import Pass, PassConfig, Refusal, Work
from edgewise_compiler.passes.graph import (
    WEIGHTED,
    Links,
    collect,
    load,
    save,
    sweep,
    tidy,
)
from edgewise_compiler.passes.qdq import add_bias, bias_value, parts, set_bias, weight_scales

WAVES = 32
"""Corrected one after another up to here; in more layers than this, neighbours go together."""


class Correct(Pass):
    """Empirical bias correction."""

    name = "correct"
    title = "correct biases"
    paper = "Nagel et al. 2019, arXiv:1906.04721, section 4.2 (empirical)"
    takes = {"model": "onnx", "float": "onnx"}
    needs = frozenset({"quantized"})
    lossy = True
    data = "calibrate"

    class Config(PassConfig, frozen=True, kw_only=True):
        """``items``: how many items of the calibration data are used at most."""

        items: int = 256

    def run(self, work: Work) -> None:
        """Write the corrected model. Refuses one with no quantized layer that the float model has too."""
        config: Correct.Config = work.config
        assert work.data is not None
        model, source = load(work.inputs["model"]), load(work.inputs["float"])
        tidy(source)
        data = work.data.spread(config.items)
        links = Links(model.graph)
        known = {node.name: node for node in source.graph.node}
        layers = [
            node
            for node in model.graph.node
            if node.op_type in WEIGHTED
            and node.name in known
            and (parts(links, node, 2) is not None or (len(node.input) < 3 and weight_scales(links, node) is not None))
            and node.op_type != "MatMul"
        ]
        if not layers:
            raise Refusal("no bias to correct: no quantized Conv or Gemm that the float model has by the same name")
        wanted = means(source, [known[node.name] for node in layers], data)
        size = -(-len(layers) // WAVES)
        largest = 0.0
        for start in range(0, len(layers), size):
            work.progress(start / len(layers), f"layer {start + 1} of {len(layers)}")
            wave = layers[start : start + size]
            got = means(model, wave, data)
            for node in wave:
                shift = wanted[node.name] - got[node.name]
                if not np.isfinite(shift).all():
                    continue
                largest = max(largest, float(np.abs(shift).max()))
                before = bias_value(Links(model.graph), node)
                if before is None:
                    add_bias(model.graph, node, shift)
                else:
                    set_bias(model.graph, node, before + shift)
        sweep(model)
        save(model, work.out)
        work.notes.append(f"{len(layers)} layers corrected, by at most {largest:.2g}")


def means(model: onnx.ModelProto, layers: list[onnx.NodeProto], data: Data) -> dict[str, npt.NDArray[np.float64]]:
    """The mean output of each layer by channel over the data, float64 [channels], by the layer's name."""
    sums: dict[str, npt.NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for answers in collect(model, [node.output[0] for node in layers], data):
        for node in layers:
            output = answers[node.output[0]].astype(np.float64)
            channel = 1 if node.op_type.startswith("Conv") else output.ndim - 1
            others = tuple(axis for axis in range(output.ndim) if axis != channel)
            sums[node.name] = output.sum(axis=others) + sums.get(node.name, 0.0)
            counts[node.name] = counts.get(node.name, 0) + output.size // output.shape[channel]
    return {name: total / max(counts[name], 1) for name, total in sums.items()}
