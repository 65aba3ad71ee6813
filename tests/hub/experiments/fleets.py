"""Simulated fleets: what devices would report of requests whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgewise.wire.experiment import Arm, Sums, draw, merge
from edgewise_hub.api.schemas import ExperimentIn
from edgewise_hub.experiments import assign
from edgewise_hub.experiments.decide import Decision, Devices, decide
from edgewise_hub.experiments.evidence import Evidence
from edgewise_hub.experiments.observe import Measured, observe
from edgewise_hub.experiments.plan import Plan, make_plan

Rng = np.random.Generator
Window = Callable[[int], Sums]
"""A device's number -> its next window."""


def plan(policy: dict[str, Any], **changes: Any) -> Plan:
    """The plan of an experiment of this policy."""
    candidate = None if policy["kind"] == "escalate" else 2
    return make_plan(ExperimentIn.model_validate({"model": "m", "policy": policy, "candidate": candidate, **changes}))


def run(plan: Plan, devices: int, windows: int, window: Window, experiment: str = "e") -> list[Decision]:
    """Every decision, after each round of windows; ends with the first that is not ``continue``."""
    evidence, measured = Evidence.start(plan), [Measured() for _ in range(devices)]
    decisions: list[Decision] = []
    arms: dict[str, int] = {}
    for device in range(devices):
        arm = assign.arm_of_device(plan, experiment, f"d{device}")
        if arm is not None:
            arms[arm] = arms.get(arm, 0) + 1
    for _ in range(windows):
        for device in range(devices):
            sums = window(device)
            measured[device], values = observe(plan, measured[device], sums, evidence.level)
            evidence.take(plan, values)
            evidence.sums = merge(evidence.sums, sums)
        decisions.append(decide(plan, evidence, Devices(told=devices, failed=0, arms=arms)))
        if decisions[-1].verdict != "continue":
            break
    return decisions


def arm(rng: Rng, requests: int, right: float, *, labelled: float = 1.0, errors: float = 0.0, bin: int = 20) -> Arm:
    """One arm's window: ``right`` and the others are probabilities."""
    failed = int(rng.binomial(requests, errors))
    answered = requests - failed
    labels = int(rng.binomial(answered, labelled))
    return Arm(
        requests=requests,
        errors=failed,
        latency={bin: answered} if answered else {},
        labelled=labels,
        correct=int(rng.binomial(labels, right)),
    )


def canary(rng: Rng, share: float, levels: np.ndarray, effect: float, n: int = 40) -> Window:
    """Requests drawn one by one; each device has a level of its own."""

    def window(device: int) -> Sums:
        given = int(rng.binomial(n, share))
        level = levels[device]
        return Sums(
            arms={
                "active": arm(rng, n - given, level),
                "candidate": arm(rng, given, min(1.0, level + effect)),
            }
        )

    return window


def ab(
    rng: Rng, plan: Plan, levels: np.ndarray, effect: float, users: int, n: int = 40, experiment: str = "e"
) -> Window:
    """Users who stay in their arm, each as hard to answer as he is; ``users`` 0: whole devices."""
    policy = assign.policy(plan, experiment)
    spread = rng.normal(0, 0.1, (len(levels), max(1, users)))

    def window(device: int) -> Sums:
        counts = rng.multinomial(n, np.full(max(1, users), 1 / max(1, users)))
        arms: dict[str, Arm] = {}
        for user, requests in enumerate(counts):
            unit = f"key:{device}-{user}" if users else f"device:d{device}"
            given = draw(policy, unit) < plan.weight  # type: ignore[operator]
            role = "candidate" if given else "active"
            right = float(np.clip(levels[device] + spread[device, user] + (effect if given else 0), 0, 1))
            arms[role] = _add(arms.get(role, Arm()), arm(rng, int(requests), right))
        return Sums(arms=arms)  # type: ignore[arg-type]

    return window


def _add(a: Arm, b: Arm) -> Arm:
    return merge(Sums(arms={"active": a}), Sums(arms={"active": b})).arms["active"]
