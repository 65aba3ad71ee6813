"""Who is told which version: the assignments that rollouts write, and the floor. Desired states are made of them.

All of it runs inside the caller's write transaction; publish after the commit.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise_hub.fleet import desired, groups
from edgewise_hub.fleet.tables import Assignment, DesiredState, Device
from edgewise_hub.hub import Hub
from edgewise_hub.registry.tables import Bundle, Model, Version
from edgewise_hub.rollouts.gather import rollout_devices
from edgewise_hub.rollouts.tables import Rollout, RolloutDevice

OPEN = ("running", "paused")
"""States of a rollout that is not over."""


def tell(
    session: Session, hub: Hub, rollout: Rollout, rows: Iterable[RolloutDevice], now: float
) -> list[RolloutDevice]:
    """Assign the version to the devices of this stage and of those before that were not told yet; returns them."""
    told = [row for row in rows if row.stage <= rollout.stage and row.assigned_at is None]
    for row in told:
        assign(session, hub, row.device_id, rollout.model, rollout.to_version, now)
        row.assigned_at = now
    desired.refresh(session, hub, [row.device_id for row in told], now)
    for row in told:
        state = session.get(DesiredState, (hub.tenant, row.device_id))
        row.generation = state.generation if state is not None else None
    session.flush()
    return told


def take_back(session: Session, hub: Hub, rollout: Rollout, now: float) -> None:
    """Every device that was told goes back to its own version of before; one that had none, to none."""
    told = [row for row in rollout_devices(session, hub, rollout.id) if row.assigned_at is not None]
    for row in told:
        assign(session, hub, row.device_id, rollout.model, row.from_version, now)
    desired.refresh(session, hub, [row.device_id for row in told], now)


def complete(session: Session, hub: Hub, rollout: Rollout, now: float) -> None:
    """The whole target has the version, also who joined after the last stage began; and the floor rises."""
    for device in compiled(session, hub, rollout.model, rollout.to_version, rollout.group):
        assign(session, hub, device, rollout.model, rollout.to_version, now)
    session.flush()
    versions = assigned(session, hub, rollout.model)
    model = session.get(Model, (hub.tenant, rollout.model))
    assert model is not None, "a version has a model"
    wanted = {rollout.to_version, *versions.values(), *_may_go_back_to(session, hub, rollout)}
    releases = session.scalars(
        select(Version.release).where(
            Version.tenant_id == hub.tenant, Version.model == rollout.model, Version.version.in_(wanted)
        )
    )
    model.floor = max(model.floor, min(releases))
    desired.refresh(session, hub, sorted(versions), now)


def _may_go_back_to(session: Session, hub: Hub, completed: Rollout) -> set[int]:
    """Versions that devices of other open rollouts of the model would be taken back to."""
    rows = (
        select(RolloutDevice.from_version)
        .join(Rollout, (Rollout.tenant_id == RolloutDevice.tenant_id) & (Rollout.id == RolloutDevice.rollout_id))
        .where(
            Rollout.tenant_id == hub.tenant,
            Rollout.model == completed.model,
            Rollout.state.in_(OPEN),
            Rollout.id != completed.id,
        )
        .distinct()
    )
    return {version for version in session.scalars(rows) if version is not None}


def newcomers(session: Session, hub: Hub) -> list[tuple[str, str, int]]:
    """(device, model, version): devices without an assignment of a model that a completed rollout brought to them. The
    newest completed rollout speaks, and the version must be compiled for the device's profile."""
    completed = session.scalars(
        select(Rollout)
        .where(Rollout.tenant_id == hub.tenant, Rollout.state == "completed")
        .order_by(Rollout.updated_at.desc(), Rollout.id)
    ).all()
    enrolled = groups.members(session, hub, None)
    found: dict[tuple[str, str], int] = {}
    for model in dict.fromkeys(rollout.model for rollout in completed):
        without = set(enrolled) - set(assigned(session, hub, model))
        for rollout in completed:
            if without and rollout.model == model:
                reached = without.intersection(compiled(session, hub, model, rollout.to_version, rollout.group))
                found.update({(device, model): rollout.to_version for device in reached})
                without -= reached
    return [(device, model, version) for (device, model), version in sorted(found.items())]


def welcome(session: Session, hub: Hub, now: float) -> None:
    """Give newcomers their versions."""
    found = newcomers(session, hub)
    for device, model, version in found:
        assign(session, hub, device, model, version, now)
    desired.refresh(session, hub, sorted({device for device, _, _ in found}), now)


def assign(session: Session, hub: Hub, device: str, model: str, version: int | None, now: float) -> None:
    """Set, or with None delete, a device's assignment."""
    row = session.get(Assignment, (hub.tenant, device, model))
    if version is None:
        if row is not None:
            session.delete(row)
    elif row is None:
        session.add(Assignment(tenant_id=hub.tenant, device_id=device, model=model, version=version, updated_at=now))
    elif row.version != version:
        row.version, row.updated_at = version, now


def assigned(session: Session, hub: Hub, model: str) -> dict[str, int]:
    """Device -> assigned version, without revoked devices."""
    rows = (
        select(Assignment.device_id, Assignment.version)
        .join(Device, (Device.tenant_id == Assignment.tenant_id) & (Device.id == Assignment.device_id))
        .where(Assignment.tenant_id == hub.tenant, Assignment.model == model, Device.revoked_at.is_(None))
    )
    return dict(session.execute(rows).all())


def compiled(session: Session, hub: Hub, model: str, version: int, group: str | None) -> list[str]:
    """The devices of a group (None: all) whose profile the version is compiled for."""
    members = groups.members(session, hub, group)
    profiles = select(Bundle.profile).where(
        Bundle.tenant_id == hub.tenant, Bundle.model == model, Bundle.version == version
    )
    able = set(session.scalars(select(Device.id).where(Device.tenant_id == hub.tenant, Device.profile.in_(profiles))))
    return [device for device in members if device in able]
