"""One device's sums become values: what the statistics take in. Pure.

Rules that hold here:
- a value is of one block of one device: its windows until they hold ``plan.block`` items an arm, by their shares. A
  block ends by how many items there were, never by what came of them nor by how they fell, so that a value has the
  mean that is looked for whatever came before it;
- a device gives at most ``plan.cap`` values: one that is busy has no more to say than another;
- each value counts once, however many requests are in it: the requests of a device are alike (cluster, not i.i.d.).

What a value is:
- **accuracy, latency** of requests drawn one by one (canary by requests; of a shadow accuracy alone): the candidate's
  mean in the block less the control's, the better way up. A latency counts in quarter octaves, at most two octaves
  from the device's own median of the blocks before;
- **accuracy** of an A/B, whose users or devices stay in their arm: one value a device, Horvitz-Thompson around the mean
  so far of the others: [(correct - b)_candidate / w - (correct - b)_control / (1 - w)] / items. Unbiased over the draw,
  also where a device has one user (sequential average treatment effects: Howard et al. 2021);
- **agreement**: the share of answers that agree, less 1. Of escalation: those that the server did not change;
- **reward**: the mean of the interleaved requests' credit: 1 won, -1 lost, 0 both (Radlinski et al. 2008; Chapelle et
  al. 2012, "Large-scale validation and analysis of interleaved search evaluation").
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from edgewise.sketch import LatencySketch
from edgewise.wire.experiment import AB, Arm, Bins, Shadow, Sums, add_bins, merge
from edgewise_hub.experiments.plan import Plan
from edgewise_hub.rollouts.gates import MIN_DIFFERENCE_S

CLIP_BINS = 8
"""Quarter octaves: latencies further from the median count as so far."""
MIN_CONTROL = 20
"""Latencies of the control, in blocks before, that a median or a p95 is taken of."""
SLOW_SHARE = 0.1
"""More of the candidate's requests than this beyond ``ratio`` times the control's p95, where 0.05 are beyond its own:
too slow. The rest is room for a p95 of few requests."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one device: the blocks that are not full yet (of the metric, of the guardrails), how many were,
    and the control's latencies in those."""

    metric: Sums = Sums()
    guard: Sums = Sums()
    metric_blocks: int = 0
    guard_blocks: int = 0
    control: Bins = {}


class Values(NamedTuple):
    """What a device's block gave; None: nothing of that. ``effect`` lies in ``effect_range``; ``level``: share of right
    answers; ``share``: of requests that the candidate was given; ``labels``: of labels; ``errors`` and ``slow``: shares
    of the candidate's requests."""

    effect: float | None = None
    level: float | None = None
    share: float | None = None
    labels: float | None = None
    errors: float | None = None
    slow: float | None = None


def effect_range(plan: Plan) -> tuple[float, float]:
    """Where an effect may lie; better for the candidate is larger."""
    if plan.metric == "agreement":
        return -1.0, 0.0
    if isinstance(plan.policy, AB):
        bound = 1 / min(plan.policy.weight, 1 - plan.policy.weight)
        return -bound, bound
    return -1.0, 1.0


def observe(plan: Plan, measured: Measured, sums: Sums, level: float) -> tuple[Measured, Values]:
    """One more window of a device. ``level``: what ``Values.level`` was on average so far (0..1)."""
    measured = msgspec.structs.replace(measured, metric=merge(measured.metric, sums), guard=merge(measured.guard, sums))
    values = Values()
    if measured.metric_blocks < plan.cap and _items(plan, measured.metric) >= _wanted(plan):
        values = _of_metric(plan, measured, level)
        measured = msgspec.structs.replace(measured, metric=Sums(), metric_blocks=measured.metric_blocks + 1)
    if measured.guard_blocks < plan.cap and _requests(plan, measured.guard) >= _wanted(plan):
        values = _of_guards(plan, measured, values)
        control = add_bins(measured.control, arm_of(measured.guard, "active").latency)
        measured = msgspec.structs.replace(
            measured, guard=Sums(), guard_blocks=measured.guard_blocks + 1, control=control
        )
    return measured, values


def items(plan: Plan, sums: Sums) -> dict[str, int]:
    """How many items of the metric each arm has: what ``min_samples`` asks of the smaller one."""
    control, candidate = arm_of(sums, "active"), arm_of(sums, plan.role)
    match plan.metric:
        case "accuracy":
            return {"control": control.labelled, "candidate": candidate.labelled}
        case "latency":
            return {"control": control.requests, "candidate": candidate.requests}
        case "reward":
            return {"credited": control.wins + candidate.wins + sums.ties}
    return {"compared": sums.compared.compared if plan.role else sums.escalated.answered}


def _items(plan: Plan, sums: Sums) -> int:
    """Items that fill a block of the metric: of both arms where two share them, else of the fewer."""
    if isinstance(plan.policy, Shadow) and plan.metric != "agreement":
        return items(plan, sums)["candidate"]
    return sum(items(plan, sums).values())


def _requests(plan: Plan, sums: Sums) -> int:
    if plan.weight is not None:
        return sum(arm.requests for arm in sums.arms.values())
    return arm_of(sums, plan.role).requests


def _wanted(plan: Plan) -> float:
    """Items of a whole block."""
    return plan.block if plan.weight is None else plan.block / min(plan.weight, 1 - plan.weight)


def arm_of(sums: Sums, role: str | None) -> Arm:
    """What one role saw; nothing, where it was not there."""
    return next((arm for name, arm in sums.arms.items() if name == role), Arm())


def _of_metric(plan: Plan, measured: Measured, level: float) -> Values:
    sums = measured.metric
    control, candidate = arm_of(sums, "active"), arm_of(sums, plan.role)
    match plan.metric:
        case "agreement":
            if plan.role is None:
                return Values(effect=-sums.escalated.changed / sums.escalated.answered)
            return Values(effect=sums.compared.agreed / sums.compared.compared - 1)
        case "reward":
            return Values(effect=(candidate.wins - control.wins) / (candidate.wins + control.wins + sums.ties))
        case "latency":
            return Values(effect=_faster(control, candidate, measured.control))
    labelled = control.labelled + candidate.labelled
    found = Values(level=(control.correct + candidate.correct) / labelled)
    if plan.weight is not None:
        found = found._replace(labels=candidate.labelled / labelled)
    if isinstance(plan.policy, AB):
        w = plan.policy.weight
        above = (candidate.correct - level * candidate.labelled) / w
        below = (control.correct - level * control.labelled) / (1 - w)
        return found._replace(effect=(above - below) / labelled)
    if not control.labelled or not candidate.labelled:
        return found
    return found._replace(effect=candidate.correct / candidate.labelled - control.correct / control.labelled)


def _of_guards(plan: Plan, measured: Measured, values: Values) -> Values:
    sums = measured.guard
    candidate = arm_of(sums, plan.role)
    if plan.weight is not None and (not isinstance(plan.policy, AB) or plan.policy.by == "key"):
        values = values._replace(share=candidate.requests / _requests(plan, sums))
    if candidate.requests:
        values = values._replace(errors=candidate.errors / candidate.requests)
    answered = sum(candidate.latency.values())
    if plan.max_latency_ratio is not None and answered and sum(measured.control.values()) >= MIN_CONTROL:
        p95 = _seconds(_quantile_bin(measured.control, 0.95))
        limit = max(p95 * plan.max_latency_ratio, p95 + MIN_DIFFERENCE_S)
        slow = sum(n for bin, n in candidate.latency.items() if _seconds(bin) > limit)
        values = values._replace(slow=slow / answered)
    return values


def _faster(control: Arm, candidate: Arm, before: Bins) -> float | None:
    """How much faster the candidate is: 1 is two times ``CLIP_BINS`` quarter octaves."""
    if not control.latency or not candidate.latency or sum(before.values()) < MIN_CONTROL:
        return None
    middle = _quantile_bin(before, 0.5)

    def mean(latency: Bins) -> float:
        low, high = middle - CLIP_BINS, middle + CLIP_BINS
        return sum(min(max(bin, low), high) * n for bin, n in latency.items()) / sum(latency.values())

    return (mean(control.latency) - mean(candidate.latency)) / (2 * CLIP_BINS)


def _seconds(bin: int) -> float:
    """The upper edge of a bin."""
    return float(LatencySketch.FIRST_S * 2.0 ** ((bin + 1) / 4))


def _quantile_bin(latency: Bins, q: float) -> int:
    left = q * sum(latency.values())
    for bin in sorted(latency):
        left -= latency[bin]
        if left <= 0:
            return bin
    return max(latency)
