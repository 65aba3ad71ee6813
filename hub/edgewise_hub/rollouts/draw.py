"""Who is in which stage: by a hash of device and rollout, so that a canary is no one's choice. Pure.

Rules that hold here:
- a device's place depends on the rollout and the device alone, and each rollout draws anew;
- stages only grow: one reaches all devices of those before it, and the last reaches every device;
- a device that joins later takes the place that its own draw gives it, in a stage that has not begun.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

from edgewise_hub.rollouts.plan import Stage


def place(rollout: str, device: str) -> float:
    """A device's place in the draw: in [0, 1), as good as uniform over devices and over rollouts."""
    head = hashlib.sha256(f"{rollout}|{device}".encode()).digest()[:6]
    return int.from_bytes(head, "big") / 2**48


def sizes(stages: Sequence[Stage], devices: int) -> list[int]:
    """How many of ``devices`` each stage reaches in all: at least one, never fewer than the stage before."""
    reached: list[int] = []
    for stage in stages:
        wanted = stage.count if stage.count is not None else math.ceil(devices * (stage.percent or 0.0) / 100)
        reached.append(min(devices, max(wanted, 1, reached[-1] if reached else 0)))
    reached[-1] = devices
    return reached


def assign(stages: Sequence[Stage], places: Mapping[str, float]) -> dict[str, int]:
    """Each device's stage, counted from 0: the devices in order of their places fill the stages one after the other."""
    reached = sizes(stages, len(places))
    ordered = sorted(places, key=lambda device: (places[device], device))
    return {
        device: next(stage for stage, size in enumerate(reached) if index < size)
        for index, device in enumerate(ordered)
    }


def stage_of_late(place: float, drawn: Sequence[tuple[float, int]], current: int, last: int) -> int | None:
    """The stage of a device that joins a running rollout: a later one than ``current``, whose deadline it could not
    meet; None in the last stage (it gets the version when the rollout completes). ``drawn``: (place, stage) of the
    devices drawn so far; stages count from 0."""
    if current >= last:
        return None
    return max(current + 1, min((stage for other, stage in drawn if other >= place), default=last))


def next_stage(occupied: set[int], current: int, last: int) -> int | None:
    """The next stage that reaches anybody new, or None when there is none: the rollout is complete.

    ``occupied``: stages that some device is drawn into."""
    return min((stage for stage in occupied if current < stage <= last), default=None)
