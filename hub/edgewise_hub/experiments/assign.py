"""Who takes part in an experiment, and what they are told. Pure.

Rules that hold here:
- a device takes part by a hash of (device, experiment): no one's choice, the same for ever, and each experiment draws
  anew; a device that joins later is drawn the same way;
- which arm answers a request is drawn on the device, by the policy that it is told (``wire.experiment.draw``): the hub
  repeats that draw for an A/B by device alone.
"""

from __future__ import annotations

import msgspec

from edgewise.wire.experiment import AB, Policy, draw
from edgewise_hub.experiments.plan import Plan
from edgewise_hub.rollouts.draw import place


def takes_part(experiment: str, device: str, share: float) -> bool:
    """Is the device among the ``share`` (0..1) of the group that takes part?"""
    return place(experiment, device) < share


def policy(plan: Plan, experiment: str) -> Policy:
    """What the devices are told."""
    return msgspec.structs.replace(plan.policy, experiment=experiment)


def arm_of_device(plan: Plan, experiment: str, device: str) -> str | None:
    """The arm of a whole device, where devices are what an A/B splits; else None."""
    told = policy(plan, experiment)
    if not isinstance(told, AB) or told.by != "device":
        return None
    return "candidate" if draw(told, f"device:{device}") < told.weight else "active"
