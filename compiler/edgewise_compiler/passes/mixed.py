"""Mixed precision: which layers are computed in int8 and which in float, as an integer program.

Rules that hold here:
- what each layer costs is measured (``layer_latency``), and so is the noise that it alone adds (``sensitivity``);
- noise powers add, and times add, those of going from int8 to float or back between two layers too: the least time
  under a bound on the noise is a linear program with a binary variable a layer, and one a pair of neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp

from edgewise_compiler.errors import CompileError
from edgewise_compiler.passes import Pass, PassConfig, Refusal, Work
from edgewise_compiler.passes.calibrate import read_ranges
from edgewise_compiler.passes.graph import (
    load_ready,
    save,
)
from edgewise_compiler.passes.quantize import Scheme, ends, last_weighted, quantizable, quantize_graph, refuse_nothing

_T = TypeVar("_T")
Doubles = npt.NDArray[np.float64]

TINY_US = 1e-6
"""A saving that no clock can see is none."""


class Mixed(Pass):
    """A choice per layer, the fastest within the noise allowed."""

    name = "mixed"
    title = "choose int8 or float by layer"
    paper = "Hubara et al. 2021, arXiv:2006.10518, section 3.4 (integer programming over layers)"
    takes = {"model": "onnx", "ranges": "ranges", "sensitivity": "sensitivity", "latency": "latency"}
    needs = frozenset({"float32", "folded"})
    forbids = frozenset({"quantized", "fused", "half", "weights"})
    gives = frozenset({"quantized"})
    drops = frozenset({"float32"})
    lossy = True
    packages = ("onnx", "onnxruntime", "numpy", "scipy")

    class Config(PassConfig, frozen=True, kw_only=True):
        """``min_snr_db``: the least signal-to-noise ratio of the outputs, as the layers' noises add up."""

        scheme: Scheme = "u8s8"
        min_snr_db: float = 20.0

    def run(self, work: Work) -> None:
        """Write the QDQ model. Refuses where float is best for every layer."""
        config: Mixed.Config = work.config
        model = load_ready(work.inputs["model"])
        ranges = read_ranges(work.inputs["ranges"])
        hurts = {row.node: row.snr_db for row in _read(work, "sensitivity", _Sensitivity).layers}
        latency = _read(work, "latency", _Latency)
        takes = {row.node: row for row in latency.layers}
        last = set(last_weighted(model.graph, ends(model.graph, work.scores)))
        layers = [name for name in takes if name in hurts]
        place = {name: index for index, name in enumerate(layers)}
        noise = np.array([10 ** (-hurts[name] / 10) for name in layers])
        saved = np.array([takes[name].fp32_us - takes[name].int8_us for name in layers])
        switches = {
            (place[row.first], place[row.second]): row.us
            for row in latency.switches
            if row.first in place and row.second in place
        }
        stay = [place[name] for name in last if name in place]
        chosen = choose(noise, saved, 10 ** (-config.min_snr_db / 10), switches, stay)
        kept = [name for name, taken in zip(layers, chosen, strict=True) if not taken]
        if not chosen.any():
            raise Refusal(
                f"no layer is worth int8 within {config.min_snr_db:.0f} dB: float is the fastest on this machine"
            )
        nodes = quantizable(model, ranges, {*kept, *last})
        refuse_nothing(model, nodes)
        save(quantize_graph(model, ranges, config.scheme, nodes), work.out)
        expected = -10 * np.log10(max(float(noise[chosen].sum()), 1e-15))
        gain = time_saved(chosen, saved, switches)
        work.notes.append(
            f"{int(chosen.sum())} of {len(layers)} layers in int8; {gain:.0f} us less of {latency.fp32_us:.0f} "
            f"and {expected:.1f} dB expected; float: {', '.join(sorted({*kept, *last})[:8]) or 'none'}"
        )


def choose(
    noise: Doubles, saved: Doubles, allowed: float, switches: Mapping[tuple[int, int], float], stay: Sequence[int] = ()
) -> npt.NDArray[np.bool_]:
    """Which layers to quantize, bool [layers]: the most time saved with noises that sum to at most ``allowed``.

    ``saved``: what each layer saves; ``switches``: what it costs when two layers differ; ``stay``: layers kept float.
    """
    layers, pairs = len(noise), list(switches)
    chosen = np.zeros(layers, dtype=np.bool_)
    if not (saved > TINY_US).any():
        return chosen
    costs = np.array([switches[pair] for pair in pairs])
    # A switch variable is at least the difference of its two layers, either way round.
    differ = np.zeros((2 * len(pairs), layers + len(pairs)))
    for row, (first, second) in enumerate(pairs):
        for sign, line in ((1, 2 * row), (-1, 2 * row + 1)):
            differ[line, [first, second, layers + row]] = sign, -sign, -1
    upper = np.ones(layers + len(pairs))
    upper[[*stay]] = 0
    upper[:layers][noise > allowed] = 0
    # In units of what is allowed and of the largest saving: the solver's tolerances are absolute.
    constraints = [LinearConstraint(np.concatenate([noise / allowed, np.zeros(len(pairs))])[None, :], -np.inf, 1.0)]
    if pairs:
        constraints.append(LinearConstraint(differ, -np.inf, 0.0))
    solved = milp(
        np.concatenate([-saved, costs]) / saved.max(),
        constraints=constraints,
        integrality=np.concatenate([np.ones(layers, dtype=np.int64), np.zeros(len(pairs), dtype=np.int64)]),
        bounds=Bounds(np.zeros(layers + len(pairs)), upper),
    )
    if solved.x is None:
        raise CompileError(f"the integer program was not solved: {solved.message}", code="cannot-quantize")
    chosen[:] = np.round(solved.x[:layers]).astype(np.bool_)
    return chosen


def time_saved(chosen: npt.NDArray[np.bool_], saved: Doubles, switches: Mapping[tuple[int, int], float]) -> float:
    """What a choice saves, in microseconds, as the program counts it."""
    return float(saved[chosen].sum()) - sum(us for (one, two), us in switches.items() if chosen[one] != chosen[two])


class _Hurt(msgspec.Struct):
    node: str
    snr_db: float


class _Time(msgspec.Struct):
    node: str
    fp32_us: float
    int8_us: float


class _Switch(msgspec.Struct):
    first: str
    second: str
    us: float


class _Sensitivity(msgspec.Struct):
    layers: list[_Hurt]


class _Latency(msgspec.Struct):
    layers: list[_Time]
    switches: list[_Switch]
    fp32_us: float


def _read(work: Work, role: str, what: type[_T]) -> _T:
    try:
        return msgspec.convert(json.loads(work.inputs[role].read_bytes()), what)
    except (ValueError, msgspec.ValidationError) as error:
        raise CompileError(f"{role}: expected what the pass of that name writes: {error}", code="bad-data") from error
