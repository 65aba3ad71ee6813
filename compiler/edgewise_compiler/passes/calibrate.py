"""Ranges of inner tensors over calibration data: what static quantization takes its scales from.

The file (kind ``ranges``) is JSON: ``{"method": ..., "ranges": {tensor: [low, high]}}``, the tensors of the float model
by name. Two readings of the data at most, feed by feed: memory stays bounded whatever the number of items.

Rules that hold here:
- a NaN is refused: such a model or such data must be mended first;
- a tensor that is infinite, or so large that eight bits say nothing of it (attention masks), has no range: what reads
  or makes it stays float.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.passes import Pass, PassConfig, Work
from edgewise_compiler.passes.graph import (
    collect,
    load_ready,
)

LARGEST = 1e9
BINS = 2048
LEVELS = 128
"""Of the quantized side of the entropy method: 8 bits of magnitude without the sign, as TensorRT has it."""
MAX_TENSORS_AT_ONCE = 256

Histogram = npt.NDArray[np.float64]


class Calibrate(Pass):
    """MinMax takes the extremes; Percentile cuts off the tails; Entropy cuts where least information is lost."""

    name = "calibrate"
    title = "find the ranges of inner tensors"
    paper = "Migacz 2017, 8-bit inference with TensorRT (entropy); Jacob et al. 2018, arXiv:1712.05877 (minmax)"
    makes = "ranges"
    needs = frozenset({"float32"})
    forbids = frozenset({"quantized", "half", "weights"})
    data = "calibrate"

    class Config(PassConfig, frozen=True, kw_only=True):
        """``percentile``: of the values kept, for that method. ``symmetric``: ranges with zero in the middle."""

        method: Literal["minmax", "entropy", "percentile"] = "minmax"
        percentile: float = 99.99
        symmetric: bool = False

    def run(self, work: Work) -> None:
        """Write the ranges."""
        config: Calibrate.Config = work.config
        assert work.data is not None
        model = load_ready(work.inputs["model"])
        spans = extremes(model, work.data)
        ranges = {name: span for name, span in spans.items() if max(map(abs, span)) <= LARGEST}
        if len(ranges) < len(spans):
            work.notes.append(f"{len(spans) - len(ranges)} inner tensors are infinite or huge and stay float")
        if config.method != "minmax":
            work.progress(0.5, "histograms")
            histograms = _histograms(model, ranges, work.data)
            ranges = {name: _cut(histograms[name], ranges[name], config) for name in ranges}
        if config.symmetric:
            ranges = {name: (-max(map(abs, span)), max(map(abs, span))) for name, span in ranges.items()}
        work.out.write_text(json.dumps({"method": config.method, "ranges": ranges}, indent=0, sort_keys=True))


def read_ranges(path: Path) -> dict[str, tuple[float, float]]:
    """(low, high) by tensor. Raises CompileError (code ``bad-data``)."""

    class _Ranges(msgspec.Struct):
        method: str
        ranges: dict[str, tuple[float, float]]

    try:
        return msgspec.json.decode(path.read_bytes(), type=_Ranges).ranges
    except msgspec.DecodeError as error:
        raise CompileError(f"{path.name}: expected calibrated ranges: {error}", code="bad-data") from error


def float_tensors(model: onnx.ModelProto) -> list[str]:
    """The float32 tensors of the main graph that some node makes, and the inputs, in order."""
    known = {
        info.name: info.type.tensor_type.elem_type
        for info in [*model.graph.value_info, *model.graph.input, *model.graph.output]
    }
    made = [given.name for given in model.graph.input] + [name for node in model.graph.node for name in node.output]
    return [name for name in made if name and known.get(name) == TensorProto.FLOAT]


def _parts(names: list[str]) -> list[list[str]]:
    return [names[start : start + MAX_TENSORS_AT_ONCE] for start in range(0, len(names), MAX_TENSORS_AT_ONCE)]


def extremes(model: onnx.ModelProto, data: Data) -> dict[str, tuple[float, float]]:
    """(lowest, highest) of each float tensor over the data. Raises CompileError (code ``not-finite``) for a NaN."""
    spans: dict[str, tuple[float, float]] = {}
    for part in _parts(float_tensors(model)):
        for answers in collect(model, part, data):
            for name, array in answers.items():
                if not array.size:
                    continue
                low, high = float(array.min()), float(array.max())
                if np.isnan(low) or np.isnan(high):
                    raise CompileError(
                        f"calibration: {name!r} is NaN on calibration data; clean the data, or guard the model",
                        code="not-finite",
                    )
                before = spans.get(name, (low, high))
                spans[name] = (min(low, before[0]), max(high, before[1]))
    return spans


def _histograms(model: onnx.ModelProto, ranges: dict[str, tuple[float, float]], data: Data) -> dict[str, Histogram]:
    """Counts over ``BINS`` equal bins from the lowest to the highest value."""
    counts = {name: np.zeros(BINS, dtype=np.float64) for name in ranges}
    for part in _parts(list(ranges)):
        for answers in collect(model, part, data):
            for name, array in answers.items():
                low, high = ranges[name]
                if high > low:
                    counts[name] += np.histogram(array, bins=BINS, range=(low, high))[0]
    return counts


def _cut(counts: Histogram, span: tuple[float, float], config: Calibrate.Config) -> tuple[float, float]:
    if not counts.sum():
        return span
    return by_percentile(counts, span, config.percentile) if config.method == "percentile" else by_entropy(counts, span)


def by_percentile(counts: Histogram, span: tuple[float, float], percentile: float) -> tuple[float, float]:
    """The range that keeps this percentage of the values, as much cut from each end. An end at zero stays."""
    low, high = span
    share = np.cumsum(counts) / counts.sum()
    tail = (1 - percentile / 100) / 2
    edges = np.linspace(low, high, BINS + 1)
    first, last = int(np.searchsorted(share, tail, side="right")), int(np.searchsorted(share, 1 - tail))
    return float(low if low == 0 else edges[first]), float(high if high == 0 else edges[min(last + 1, BINS)])


def by_entropy(counts: Histogram, span: tuple[float, float]) -> tuple[float, float]:
    """The cut of magnitudes with the least Kullback-Leibler divergence to its own quantization, within ``span``."""
    low, high = span
    edges = np.linspace(low, high, BINS + 1)
    middles = np.abs((edges[:-1] + edges[1:]) / 2)
    limit = max(abs(low), abs(high))
    magnitudes = np.histogram(middles, bins=BINS, range=(0, limit), weights=counts)[0]
    # A tensor with a spike at zero (after ReLU) would be judged by that spike alone.
    magnitudes[0] = magnitudes[1] if len(magnitudes) > 1 else magnitudes[0]
    best, cut = np.inf, BINS
    for size in range(LEVELS, BINS + 1, 16):
        kept = magnitudes[:size].copy()
        if not kept.sum():
            continue
        kept[-1] += magnitudes[size:].sum()
        groups = np.minimum(np.arange(size) * LEVELS // size, LEVELS - 1)
        inside = magnitudes[:size]
        filled = inside > 0
        total = np.bincount(groups, weights=inside, minlength=LEVELS)
        many = np.bincount(groups, weights=filled.astype(np.float64), minlength=LEVELS)
        coarse = np.where(filled, (total / np.maximum(many, 1))[groups], 0.0)
        distance = _divergence(kept, coarse)
        if distance < best:
            best, cut = distance, size
    edge = cut / BINS * limit
    return max(low, -edge), min(high, edge)


def _divergence(p: Histogram, q: Histogram) -> float:
    if not q.sum():
        return float("inf")
    p, q = p / p.sum(), q / q.sum()
    rows = p > 0
    return float(np.sum(p[rows] * np.log(p[rows] / np.maximum(q[rows], 1e-12))))
