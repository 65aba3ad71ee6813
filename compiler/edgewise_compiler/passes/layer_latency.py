"""How long each layer takes, in float and in int8: onnxruntime's own profile of both whole models.

The file (kind ``latency``) is JSON: ``{"layers": [{"node", "fp32_us", "int8_us"}, ...], "fp32_us", "int8_us"}``, in
microseconds for one item. A layer's time is its own and that of what follows it up to the next layer, conversions
between layouts and number formats too; what stays float in both models counts in both.

It is a measurement: another run gives other numbers, and its result is never cached.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import onnx
import onnxruntime as ort

from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.passes import Pass, PassConfig, Work
from edgewise_compiler.passes.calibrate import read_ranges
from edgewise_compiler.passes.graph import (
    WEIGHTED,
    feeds,
    load_ready,
    run,
)
from edgewise_compiler.passes.quantize import Scheme, quantizable, quantize_graph, refuse_nothing

RUNS = 60
WARM_UP = 10
ITEMS = 8
CONVERTS = ("QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput", "Transpose")
"""Operators that onnxruntime puts in between."""


class LayerLatency(Pass):
    """Layer by layer, on this machine."""

    name = "layer_latency"
    title = "measure how long each layer takes"
    paper = "Cai et al. 2019, ProxylessNAS, arXiv:1812.00332, section 3.3 (latency by operator, summed)"
    takes = {"model": "onnx", "ranges": "ranges"}
    makes = "latency"
    needs = frozenset({"float32", "folded"})
    forbids = frozenset({"quantized", "fused", "half", "weights"})
    data = "calibrate"
    measures = True

    class Config(PassConfig, frozen=True, kw_only=True):
        """The scheme that is asked about, and how many threads a device gives."""

        scheme: Scheme = "u8s8"
        threads: int = 1

    def run(self, work: Work) -> None:
        """Write the times. Refuses a graph with nothing to quantize."""
        config: LayerLatency.Config = work.config
        assert work.data is not None
        model = load_ready(work.inputs["model"])
        ranges = read_ranges(work.inputs["ranges"])
        possible = quantizable(model, ranges)
        refuse_nothing(model, possible)
        layers = [node.name for node in model.graph.node if node.op_type in WEIGHTED and node.name in possible]
        small = quantize_graph(model, ranges, config.scheme, possible)
        data = work.data.spread(ITEMS)
        fp32 = profile(model, data, config.threads, work.folder / "fp32")
        int8 = profile(small, data, config.threads, work.folder / "int8")
        given = owners(model, layers)
        slow, fast = by_layer(fp32, layers, given), by_layer(int8, layers, given)
        rows = [{"node": name, "fp32_us": round(slow[name], 3), "int8_us": round(fast[name], 3)} for name in layers]
        said = {"layers": rows, "fp32_us": round(sum(fp32.values()), 3), "int8_us": round(sum(int8.values()), 3)}
        work.out.write_text(json.dumps(said, indent=1))


def profile(model: onnx.ModelProto, data: Data, threads: int, prefix: Path) -> dict[tuple[str, str], float]:
    """Typical time of each kernel for one item, by (name, operator), in microseconds.

    Raises CompileError (code ``cannot-load``).
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        opened = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, with no common base but Exception
        raise CompileError(f"onnxruntime cannot load the model: {one_line(error)}", code="cannot-load") from error
    items = list(feeds(opened, data, 1))
    for count in range(WARM_UP + RUNS):
        run(opened, None, items[count % len(items)])
    file = Path(opened.end_profiling())
    events = json.loads(file.read_text())
    file.unlink()
    times: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]].append(event["dur"])
    # A node in a loop runs several times a feed: its times a feed are summed.
    return {kernel: typical(found) * (len(found) / (WARM_UP + RUNS)) for kernel, found in times.items()}


def typical(times: list[int]) -> float:
    """The mean of the lower three quarters: as steady as a median, and finer than the clock's whole microseconds."""
    kept = sorted(times)[: max(1, len(times) * 3 // 4)]
    return sum(kept) / len(kept)


def owners(model: onnx.ModelProto, layers: list[str]) -> dict[str, str]:
    """The layer that each node, and each tensor it makes, is given to: itself, else the layer that it comes after."""
    given: dict[str, str] = {}
    for node in model.graph.node:
        found = node.name if node.name in layers else next((given[name] for name in node.input if name in given), None)
        if found is not None:
            given |= dict.fromkeys([node.name, *(name for name in node.output if name)], found)
    return given


def by_layer(times: dict[tuple[str, str], float], layers: list[str], given: dict[str, str]) -> dict[str, float]:
    """Times of kernels, by (name, operator), given to layers.

    A kernel bears the name of a node or tensor of the graph, with more behind it; the longest such name counts. What
    only converts, and is of no layer, is shared out in proportion.
    """
    found = dict.fromkeys(layers, 0.0)
    shared = 0.0
    for (kernel, operator), time in times.items():
        name = max((name for name in given if kernel.startswith(name)), key=len, default=None)
        if name is not None:
            found[given[name]] += time
        elif operator in CONVERTS:
            shared += time
    total = sum(found.values())
    return {name: time + (shared * time / total if total else shared / len(layers)) for name, time in found.items()}
