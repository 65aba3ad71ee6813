"""How long each layer takes, in float and in int8, and what it costs to go from one to the other between two layers.

The file (kind ``latency``) is JSON, in microseconds for one item: ``{"layers": [{"node", "fp32_us", "int8_us"}, ...],
"switches": [{"first", "second", "us"}, ...], "fp32_us", "int8_us"}``. A layer's time is its own and that of what
follows it up to the next layer; what stays float in both models counts in both.

How it is measured: onnxruntime's profiles of the float model and of the int8 model, and the two models in which every
other layer is int8. What these two take longer than their layers goes into conversions of number formats and layouts,
and is shared out over their switches, half evenly, half by size. A profile counts more than it measures: each kernel's
time is lowered by the same amount so that the sum is the time of a run without the profiler.

It is a measurement: another run gives other numbers, and its result is never cached.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.passes import Pass, PassConfig, Work
from edgewise_compiler.passes.calibrate import read_ranges
from edgewise_compiler.passes.graph import WEIGHTED, collect, feeds, load_ready, run
from edgewise_compiler.passes.quantize import Scheme, quantizable, quantize_graph, refuse_nothing

RUNS = 120
WARM_UP = 20
ITEMS = 8
LEAST_US = 0.05
CONVERTS = ("QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput", "Transpose")
"""Operators that onnxruntime puts in between."""

Edge = tuple[str, str]


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
        data = work.data.spread(ITEMS)

        def partly(floats: Collection[str]) -> onnx.ModelProto:
            return quantize_graph(model, ranges, config.scheme, quantizable(model, ranges, floats))

        fp32 = profile(model, data, config.threads, work.folder / "fp32")
        int8 = profile(partly([]), data, config.threads, work.folder / "int8")
        given = owners(model, layers)
        slow, fast = by_layer(fp32, layers, given), by_layer(int8, layers, given)
        sizes = {name: float(array.size) for name, array in _outputs(model, layers, data).items()}
        spent = []
        for floats in (layers[0::2], layers[1::2]):
            alone = sum(slow[name] if name in floats else fast[name] for name in layers)
            spent.append(total_us(partly(floats), data, config.threads) - alone)
        costs = switches(edges(model, given), layers, sizes, spent)
        said = {
            "layers": [
                {"node": name, "fp32_us": round(slow[name], 3), "int8_us": round(fast[name], 3)} for name in layers
            ],
            "switches": [{"first": one, "second": two, "us": round(us, 3)} for (one, two), us in costs.items()],
            "fp32_us": round(fp32.total_us, 3),
            "int8_us": round(int8.total_us, 3),
        }
        work.out.write_text(json.dumps(said, indent=1))


@dataclass(frozen=True)
class Profile:
    """Times of one model in microseconds for one item: of each kernel by (name, operator), and of a whole run."""

    kernels: Mapping[tuple[str, str], float]
    total_us: float


def profile(model: onnx.ModelProto, data: Data, threads: int, prefix: Path) -> Profile:
    """Measure a model and its kernels. Raises CompileError (code ``cannot-load``)."""
    total = total_us(model, data, threads)
    watched = _open(model, threads, prefix)
    items = list(feeds(watched, data, 1))
    for count in range(WARM_UP + RUNS):
        run(watched, None, items[count % len(items)])
    file = Path(watched.end_profiling())
    events = json.loads(file.read_text())
    file.unlink()
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]].append(float(event["dur"]))
    # A node in a loop runs several times an item: its times are summed.
    kernels = {kernel: typical(found) * len(found) / (WARM_UP + RUNS) for kernel, found in times.items()}
    surplus = (sum(kernels.values()) - total) / max(1, len(kernels))
    return Profile({kernel: max(LEAST_US, us - max(0.0, surplus)) for kernel, us in kernels.items()}, total)


def total_us(model: onnx.ModelProto, data: Data, threads: int) -> float:
    """Typical time of a model for one item, in microseconds. Raises CompileError (code ``cannot-load``)."""
    opened = _open(model, threads, None)
    items = list(feeds(opened, data, 1))
    times = []
    for count in range(WARM_UP + RUNS):
        start = time.perf_counter()
        run(opened, None, items[count % len(items)])
        times.append((time.perf_counter() - start) * 1e6)
    return typical(times[WARM_UP:])


def _open(model: onnx.ModelProto, threads: int, profile_prefix: Path | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, with no common base but Exception
        raise CompileError(f"onnxruntime cannot load the model: {one_line(error)}", code="cannot-load") from error


def typical(times: Sequence[float]) -> float:
    """The mean of the lower three quarters: as steady as a median, and finer than the profiler's whole microseconds."""
    kept = sorted(times)[: max(1, len(times) * 3 // 4)]
    return sum(kept) / len(kept)


def owners(model: onnx.ModelProto, layers: Collection[str]) -> dict[str, str]:
    """The layer that each node, and each tensor it makes, is given to: itself, else the layer that it comes after."""
    given: dict[str, str] = {}
    for node in model.graph.node:
        found = node.name if node.name in layers else next((given[name] for name in node.input if name in given), None)
        if found is not None:
            given |= dict.fromkeys([node.name, *(name for name in node.output if name)], found)
    return given


def edges(model: onnx.ModelProto, given: Mapping[str, str]) -> list[Edge]:
    """Which layer's answers go to which other layer, each pair once, in order."""
    found: dict[Edge, None] = {}
    for node in model.graph.node:
        for name in node.input:
            if name in given and node.name in given and given[name] != given[node.name]:
                found[given[name], given[node.name]] = None
    return list(found)


def by_layer(measured: Profile, layers: Sequence[str], given: Mapping[str, str]) -> dict[str, float]:
    """Times of kernels given to layers.

    A kernel bears the name of a node or a tensor of the graph with more around it; the longest such name counts. What
    only converts, and is of no layer, is shared out in proportion.
    """
    found = dict.fromkeys(layers, 0.0)
    shared = 0.0
    for (kernel, operator), us in measured.kernels.items():
        name = max((name for name in given if name in kernel), key=len, default=None)
        if name is not None:
            found[given[name]] += us
        elif operator in CONVERTS:
            shared += us
    total = sum(found.values())
    return {name: us + (shared * us / total if total else shared / len(layers)) for name, us in found.items()}


def switches(
    pairs: Sequence[Edge], layers: Sequence[str], sizes: Mapping[str, float], spent_us: Sequence[float]
) -> dict[Edge, float]:
    """What it costs when of two layers, one after the other, one is int8 and the other float, in microseconds.

    ``spent_us``: what the models in which every other layer is float take longer than their layers. In these, pairs
    that are an odd number of layers apart switch.
    """
    if not pairs:
        return {}
    place = {name: index for index, name in enumerate(layers)}
    turning = [pair for pair in pairs if (place[pair[0]] + place[pair[1]]) % 2] or list(pairs)
    each = max(0.0, float(np.mean(spent_us))) / len(turning)
    mean = float(np.mean([sizes[first] for first, _ in turning]))
    return {pair: each * (0.5 + 0.5 * sizes[pair[0]] / mean) for pair in pairs}


def _outputs(model: onnx.ModelProto, layers: Collection[str], data: Data) -> dict[str, np.ndarray]:
    tensors = {node.output[0]: node.name for node in model.graph.node if node.name in layers}
    answers = next(collect(model, tensors, data.take(slice(0, 1)), batch=1))
    return {name: answers[tensor] for tensor, name in tensors.items()}
