"""Whether a rollout advances: (rollout, evidence, now) -> decision. Pure: no clock, no database.

Rules that hold here:
- a failing gate stops the rollout, at once and whatever the others say;
- a stage is left only when every gate passes (or is off) and the soak since its installs is over;
- at the deadline a stage that cannot install stops the rollout; one whose evidence is inconclusive is paused, since
  neither going on nor going back is proven right: a person decides.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edgewise_hub.rollouts import gates
from edgewise_hub.rollouts.gates import Evidence, Reading
from edgewise_hub.rollouts.plan import Plan

Verdict = Literal["continue", "hold", "stop", "complete", "pause"]


class RolloutState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running rollout is. ``next_stage``: the next that reaches anybody new, None in the last.
    ``installed_at``: when the install gate of this stage was first seen to pass. Times in Unix seconds."""

    plan: Plan
    stage: int
    next_stage: int | None
    stage_started_at: float
    installed_at: float | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """``reason`` in words with the numbers. ``stage`` to be in from now on: a later one with ``continue`` alone."""

    verdict: Verdict
    reason: str
    gates: list[Reading]
    stage: int
    installed_at: float | None


def advance(rollout: RolloutState, evidence: Evidence, now: float) -> Decision:
    """Decide. ``now`` in Unix seconds."""
    limits = rollout.plan.gates
    at_deadline = now >= rollout.stage_started_at + limits.deadline
    readings = [
        gates.install(limits, evidence, rollout.stage, at_deadline=at_deadline),
        gates.errors(limits, evidence),
        gates.latency(limits, evidence),
        gates.mix(limits, evidence),
    ]
    installed_at = rollout.installed_at
    if readings[0].state == "pass" and installed_at is None:
        installed_at = now

    def decide(verdict: Verdict, reason: str, stage: int = rollout.stage) -> Decision:
        return Decision(verdict=verdict, reason=reason, gates=readings, stage=stage, installed_at=installed_at)

    failing = [reading for reading in readings if reading.state == "fail"]
    if failing:
        return decide("stop", "; ".join(f"{reading.gate}: {reading.words}" for reading in failing))
    waiting = [reading for reading in readings if reading.state == "wait"]
    if waiting:
        reason = "; ".join(f"{reading.gate}: {reading.words}" for reading in waiting)
        if at_deadline:
            return decide("pause", f"not enough evidence within {limits.deadline:g} s: {reason}")
        return decide("hold", f"waiting for {reason}")
    if installed_at is not None and now < installed_at + limits.soak:
        return decide("hold", f"every gate passes; soaking for {limits.soak:g} s")
    if rollout.next_stage is None:
        return decide("complete", "every gate of the last stage passes")
    return decide("continue", f"every gate of stage {rollout.stage + 1} passes", rollout.next_stage)
