"""Where one device of a rollout stands, from its newest report. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import msgspec

from edgewise.wire.control import Progress, Reported, ReportedModel
from edgewise_hub.fleet.devices import decode_reported
from edgewise_hub.fleet.tables import Device
from edgewise_hub.rollouts.gates import DeviceState
from edgewise_hub.rollouts.tables import RolloutDevice


class Standing(NamedTuple):
    """A state, and why in words where the state alone does not say it."""

    state: DeviceState
    reason: str = ""


def standing(row: RolloutDevice, device: Device, model: str, bundles: Collection[str], *, taken_back: bool) -> Standing:
    """``bundles``: digests of the version that is rolled out; ``taken_back``: the rollout ended by going back.

    A failure counts from the generation on in which this rollout told the device: an older one is of another try."""
    if row.assigned_at is None:
        return Standing("waiting")
    reported = decode_reported(device)
    there = reported.models.get(model, ReportedModel()) if reported is not None else ReportedModel()
    if taken_back:
        return Standing("pending", "going back") if there.running in bundles else Standing("rolled-back")
    if there.confirmed in bundles:
        return Standing("confirmed")
    told = row.generation or 0
    for failure in there.failed:
        if failure.bundle in bundles and failure.generation >= told:
            return Standing("failed", f"{failure.code}: {failure.reason}")
    if reported is not None and reported.rejected is not None and reported.rejected.generation >= told:
        return Standing("failed", f"rejected: {reported.rejected.code}: {reported.rejected.reason}")
    if there.running in bundles:
        return Standing("trial")
    if device.revoked_at is not None:
        return Standing("pending", "the device is revoked")
    if not device.online:
        return Standing("pending", "offline")
    return _on_its_way(device, reported, model, bundles, told)


def _on_its_way(device: Device, reported: Reported | None, model: str, bundles: Collection[str], told: int) -> Standing:
    newest = (device.progress or {}).get(model)
    progress = msgspec.convert(newest, Progress) if newest else None
    if progress is not None and progress.bundle in bundles and progress.generation >= told:
        if progress.step == "downloading":
            return Standing("downloading", f"{progress.done} of {progress.total} bytes")
        return Standing("pending", progress.step)
    seen = reported.generation if reported is not None else 0
    return Standing("pending", "installing" if seen >= told else f"it has not seen generation {told} yet")
