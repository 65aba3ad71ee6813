"""The rule by which an experiment ends: (plan, evidence) -> decision. Pure.

In this order, at every look:
1. **broken**: the arms were not filled as they were drawn (sample ratio mismatch), so that nothing that was
   measured can be trusted: the result is withheld;
2. **guardrail**: the candidate fails to install, fails requests or is slow beyond its limits;
3. **continue** while the smaller arm has fewer than ``min_samples`` items;
4. **candidate-wins** or **control-wins**: the confidence sequence leaves zero (agreement, which cannot exceed full
   agreement: the margin) on one side;
5. **no-difference**: it lies within the margin on both sides;
6. **continue**.

Every part holds at all looks together, so one may look at every window: with no difference a winner is ever named with
probability at most ``alpha``.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from edgewise_hub.experiments.evidence import GUARD_ALPHA, SPLIT_ALPHA, Evidence, split_evidence
from edgewise_hub.experiments.observe import CLIP_BINS, SLOW_SHARE, items
from edgewise_hub.experiments.plan import Metric, Plan

Verdict = Literal["continue", "candidate-wins", "control-wins", "no-difference", "guardrail", "broken"]

FASTEST = 2.0 ** (2 * CLIP_BINS / 4)
"""Times faster than the control: an effect of 1."""


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """``told``: take part; ``failed``: of those, the candidate failed there; ``arms``: of an A/B by device, by arm."""

    told: int
    failed: int
    arms: dict[str, int] = {}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What is known, in the metric's own units (``latency``: how much faster, 0.25 is a quarter); None while nothing
    is, or where it is withheld. ``n``: values, ``items``: of the metric by arm."""

    verdict: Verdict
    reason: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    items: dict[str, int] = {}


def decide(plan: Plan, evidence: Evidence, devices: Devices) -> Decision:
    """What is to be done now."""
    counted = items(plan, evidence.sums)
    known = Decision(verdict="continue", reason="", n=evidence.effect.n, items=counted)
    if split_evidence(plan, evidence, devices.arms) >= math.log(1 / SPLIT_ALPHA):
        return _with(known, "broken", _split_words(plan, evidence, devices))
    mean, low, high = evidence.estimate(plan)
    if evidence.effect.n:
        shown = [_shown(plan.metric, each) for each in (mean, low, high)]
        known = msgspec.structs.replace(known, effect=shown[0], low=shown[1], high=shown[2])
    broken = _guardrail(plan, evidence, devices)
    if broken:
        return _with(known, "guardrail", broken)
    fewest = min(counted.values())
    if fewest < plan.min_samples or not evidence.effect.n:
        return _with(known, "continue", f"{fewest} of {plan.min_samples} items in the smaller arm")
    figures = [_figure(plan.metric, each) for each in (mean, low, high)]
    words = f"{figures[0]} {_UNITS[plan.metric]} ({figures[1]} to {figures[2]})"
    margin = _margin(plan)
    above, below = (-margin, -margin) if plan.metric == "agreement" else (0.0, 0.0)
    if plan.metric == "agreement" and low > above:
        return _with(known, "no-difference", f"{words}: at most {plan.margin:g} apart")
    if high < below:
        server = plan.role is None  # who is asked where the device is not sure, and often says otherwise
        return _with(known, "candidate-wins" if server else "control-wins", words)
    if plan.metric != "agreement" and low > above:
        return _with(known, "candidate-wins", words)
    if -margin < low and high < margin:
        return _with(known, "no-difference", f"{words}: within the margin of {plan.margin:g}")
    return _with(known, "continue", f"{words}: not decided yet")


def _with(known: Decision, verdict: Verdict, reason: str) -> Decision:
    return msgspec.structs.replace(known, verdict=verdict, reason=reason)


def _margin(plan: Plan) -> float:
    """In units of effects."""
    return math.log(1 + plan.margin) / math.log(FASTEST) if plan.metric == "latency" else plan.margin


def _shown(metric: Metric, effect: float) -> float:
    return FASTEST**effect - 1 if metric == "latency" else effect


_UNITS: dict[Metric, str] = {
    "accuracy": "points of accuracy",
    "latency": "speed",
    "reward": "wins a request",
    "agreement": "agreement",
}


def _figure(metric: Metric, effect: float) -> str:
    shown = _shown(metric, effect)
    match metric:
        case "accuracy":
            return f"{100 * shown:+.1f}"
        case "latency":
            return f"{100 * shown:+.0f}%"
        case "reward":
            return f"{shown:+.3f}"
    return f"{100 * (1 + shown):.1f}%"


def _guardrail(plan: Plan, evidence: Evidence, devices: Devices) -> str:
    """Which one is broken, in words; empty while none is."""
    enough = math.log(1 / GUARD_ALPHA)
    if devices.failed > plan.max_failed * devices.told:
        return f"the candidate failed on {devices.failed} of {devices.told} devices, at most {plan.max_failed:.0%} may"
    if plan.max_errors is not None and evidence.errors is not None and evidence.errors.evidence_above() >= enough:
        return f"the candidate fails {evidence.errors.mean:.1%} of its requests, at most {plan.max_errors:.1%} may"
    if evidence.slow is not None and evidence.slow.evidence_above() >= enough:
        return (
            f"{evidence.slow.mean:.0%} of the candidate's requests take more than {plan.max_latency_ratio:g} times the "
            f"control's p95, at most {SLOW_SHARE:.0%} may"
        )
    return ""


def _split_words(plan: Plan, evidence: Evidence, devices: Devices) -> str:
    arms = {role: arm.requests for role, arm in sorted(evidence.sums.arms.items())}
    labels = {role: arm.labelled for role, arm in sorted(evidence.sums.arms.items())}
    split = f"requests {arms}, labels {labels}" + (f", devices {devices.arms}" if devices.arms else "")
    return f"the arms were not filled as they were drawn: {split}; look for lost requests or labels, and start again"
