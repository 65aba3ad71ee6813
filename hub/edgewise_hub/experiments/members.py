"""Who takes part in an experiment now, and how it goes there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise_hub.experiments.assign import takes_part
from edgewise_hub.experiments.plan import Plan
from edgewise_hub.experiments.tables import Experiment, ExperimentDevice
from edgewise_hub.fleet import groups
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.registry.tables import Bundle
from edgewise_hub.rollouts import assignments


class Members(NamedTuple):
    """``able``: devices that can take part and were drawn; ``left_out``: how many of the group cannot: another version,
    or no bundle of the candidate for their profile."""

    able: list[str]
    left_out: int


def find(
    session: Session, hub: Hub, *, experiment: str, model: str, group: str | None, control: int, candidate: int | None,
    share: float,
) -> Members:  # fmt: skip
    """The devices of the group (None: all) that run the control and have a bundle of the candidate, as drawn."""
    everyone = groups.members(session, hub, group)
    assigned = assignments.assigned(session, hub, model)
    runs = {device for device in everyone if assigned.get(device) == control}
    if candidate is not None:
        runs &= set(assignments.compiled(session, hub, model, candidate, group))
    able = [device for device in everyone if device in runs]
    return Members([d for d in able if takes_part(experiment, d, share)], len(everyone) - len(able))


def now(session: Session, hub: Hub, experiment: Experiment) -> Members:
    """Of an experiment that runs."""
    return find(
        session,
        hub,
        experiment=experiment.id,
        model=experiment.model,
        group=experiment.group,
        control=experiment.control,
        candidate=experiment.candidate,
        share=Plan.from_json(experiment.plan).devices,
    )


def rows(session: Session, hub: Hub, experiment: str) -> list[ExperimentDevice]:
    """All that ever took part, by name."""
    return list(
        session.scalars(
            select(ExperimentDevice)
            .where(ExperimentDevice.tenant_id == hub.tenant, ExperimentDevice.experiment_id == experiment)
            .order_by(ExperimentDevice.device_id)
        )
    )


class Standing(NamedTuple):
    """How it goes on one device; ``reason`` where the state alone does not say it."""

    state: Literal["waiting", "taking-part", "failed", "left"]
    reason: str = ""


def standings(
    session: Session, hub: Hub, experiment: Experiment, taking: Sequence[ExperimentDevice]
) -> Mapping[str, Standing]:
    """By device."""
    digests = set(
        session.scalars(
            select(Bundle.digest).where(
                Bundle.tenant_id == hub.tenant, Bundle.model == experiment.model, Bundle.version == experiment.candidate
            )
        )
    )
    devices = {
        device.id: device
        for device in session.scalars(
            select(Device)
            .join(
                ExperimentDevice,
                (ExperimentDevice.tenant_id == Device.tenant_id) & (ExperimentDevice.device_id == Device.id),
            )
            .where(ExperimentDevice.tenant_id == hub.tenant, ExperimentDevice.experiment_id == experiment.id)
        )
    }
    found: dict[str, Standing] = {}
    for row in taking:
        device = devices.get(row.device_id)
        # as it was stored, since thousands are looked at each tick
        there = ((device.reported or {}) if device else {}).get("models", {}).get(experiment.model, {})
        failures = [
            f for f in there.get("failed", []) if f["bundle"] in digests and f["generation"] >= (row.generation or 0)
        ]
        if failures:
            found[row.device_id] = Standing("failed", f"{failures[-1]['code']}: {failures[-1]['reason']}")
        elif row.left_at is not None:
            found[row.device_id] = Standing("left")
        elif row.measured:
            found[row.device_id] = Standing("taking-part")
        elif device is not None and not device.online:
            found[row.device_id] = Standing("waiting", "offline")
        else:
            there_already = not digests or digests.intersection(there.get("installed", []))
            found[row.device_id] = Standing("waiting", "no requests" if there_already else "installing")
    return found
