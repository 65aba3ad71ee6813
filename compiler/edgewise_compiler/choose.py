"""Which candidate a profile gets: pure. fp32 or one of the profile's int8 schemes.

1. A scheme whose outputs are not finite, or that loses more than ``MAX_LOSS`` of the metric, is out.
2. Where nothing was measured, the profile's first scheme that is left.
3. Where it was, the first that is left, unless another is faster by more than the noise.
4. fp32 when no scheme is left, or when it is faster than the chosen one by more than the noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgewise_compiler.plan import FP32
from edgewise_compiler.report import Latency

MAX_LOSS = 0.02
"""Two points of accuracy (or of agreement with the source)."""
MIN_NOISE = 0.02
"""Two candidates within 2% are equally fast, however steady the rounds were."""


@dataclass(frozen=True)
class Candidate:
    """``metric``: higher is better. ``finite``: are all answers on the reference finite?"""

    metric: float
    finite: bool
    latency: Latency | None = None


def choose(schemes: Sequence[str], candidates: Mapping[str, Candidate]) -> tuple[str, list[str]]:
    """The chosen candidate's name and why, in sentences. ``schemes`` in the profile's order of preference."""
    notes: list[str] = []
    left: list[str] = []
    full = candidates[FP32]
    for scheme in schemes:
        candidate = candidates[scheme]
        if not candidate.finite:
            notes.append(f"{scheme} is out: outputs are not finite")
        elif candidate.metric < full.metric - MAX_LOSS:
            notes.append(f"{scheme} is out: {candidate.metric:.4f} against {full.metric:.4f} in fp32")
        else:
            left.append(scheme)
    if not left:
        return FP32, [*notes, "fp32 is kept: no int8 scheme holds the metric"]
    chosen = left[0]
    if full.latency is None:
        return chosen, [*notes, f"{chosen}: the profile's first scheme; speed was not measured"]
    reason = f"{chosen}: the profile's first scheme; no other is faster by more than the noise"
    for scheme in left[1:]:
        if faster(candidates[scheme].latency, candidates[chosen].latency):
            reason = f"{scheme}: faster than {chosen} by more than the noise"
            chosen = scheme
    if faster(full.latency, candidates[chosen].latency):
        return FP32, [*notes, f"fp32 is kept: faster than int8 ({chosen}) by more than the noise"]
    return chosen, [*notes, reason]


def faster(one: Latency | None, other: Latency | None) -> bool:
    """Is the first faster by more than both spreads and ``MIN_NOISE``? False where either was not measured."""
    if one is None or other is None:
        return False
    noise = max(one.spread, other.spread, MIN_NOISE)
    return one.p50_ms < other.p50_ms * (1 - noise)
