"""Mixed precision: which layers are computed in int8 and which in float, as an integer program.

Rules that hold here:
- what each layer costs is measured (``layer_latency``), and so is the noise that it alone adds (``sensitivity``);
- noise powers add, times and savings add: minimize the time under a bound on the noise;
- where the whole is noisier than the sum of its layers, the bound is tightened by as much.
"""

from __future__ import annotations

import json
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
        takes = {row.node: row for row in _read(work, "latency", _Latency).layers}
        last = set(last_weighted(model.graph, ends(model.graph, work.scores)))
        layers = [name for name in hurts if name in takes and name not in last]
        noise = np.array([10 ** (-hurts[name] / 10) for name in layers])
        saved = np.array([takes[name].fp32_us - takes[name].int8_us for name in layers])
        chosen = choose(noise, saved, 10 ** (-config.min_snr_db / 10))
        kept = [name for name, taken in zip(layers, chosen, strict=True) if not taken]
        if not chosen.any():
            raise Refusal(
                f"no layer is faster in int8 within {config.min_snr_db:.0f} dB: float is best on this machine"
            )
        nodes = quantizable(model, ranges, {*kept, *last})
        refuse_nothing(model, nodes)
        save(quantize_graph(model, ranges, config.scheme, nodes), work.out)
        work.notes.append(
            f"{int(chosen.sum())} of {len(layers)} layers in int8, {saved[chosen].sum():.0f} us saved by layer, "
            f"{-10 * np.log10(max(float(noise[chosen].sum()), 1e-15)):.1f} dB expected; "
            f"float: {', '.join([*kept, *sorted(last)][:8]) or 'none'}"
        )


def choose(noise: npt.NDArray[np.float64], saved: npt.NDArray[np.float64], allowed: float) -> npt.NDArray[np.bool_]:
    """Which layers to quantize, bool [layers]: the most time ``saved``, a sum of ``noise`` of at most ``allowed``."""
    chosen = np.zeros(len(noise), dtype=np.bool_)
    worth = np.flatnonzero((saved > 0) & (noise <= allowed))
    if not worth.size:
        return chosen
    # In units of what is allowed and of the largest saving: the solver's tolerances are absolute.
    solved = milp(
        -saved[worth] / saved[worth].max(),
        constraints=LinearConstraint(noise[worth][None, :] / allowed, -np.inf, 1.0),
        integrality=np.ones(worth.size, dtype=np.int64),
        bounds=Bounds(0, 1),
    )
    if solved.x is None:
        raise CompileError(f"the integer program was not solved: {solved.message}", code="cannot-quantize")
    chosen[worth] = np.round(solved.x).astype(np.bool_)
    return chosen


class _Hurt(msgspec.Struct):
    node: str
    snr_db: float


class _Time(msgspec.Struct):
    node: str
    fp32_us: float
    int8_us: float


class _Sensitivity(msgspec.Struct):
    layers: list[_Hurt]


class _Latency(msgspec.Struct):
    layers: list[_Time]


def _read(work: Work, role: str, what: type[_T]) -> _T:
    try:
        return msgspec.convert(json.loads(work.inputs[role].read_bytes()), what)
    except (ValueError, msgspec.ValidationError) as error:
        raise CompileError(f"{role}: expected what the pass of that name writes: {error}", code="bad-data") from error
