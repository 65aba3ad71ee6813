"""The desired state of each device: made of assignments, bundles and sample requests, signed, published, and renewed.

Rules that hold here:
- a generation rises exactly when the content changes, or when the state it signs would soon expire;
- a state is saved before it is published; what a crash leaves unpublished goes out with the next tick or connection;
- where an assigned version is not compiled for a device's profile, the device keeps what it was told before;
- a device is never told a floor above a release that it is told to serve: it would refuse the whole state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from edgewise.bundle import seal
from edgewise.wire import topics
from edgewise.wire.control import Desired, DesiredModel, Duty, Role, SampleRequest, Transfer
from edgewise.wire.experiment import Policy
from edgewise.wire.quality import Quality
from edgewise_hub.experiments.assign import policy
from edgewise_hub.experiments.plan import Plan
from edgewise_hub.experiments.tables import Experiment, ExperimentDevice
from edgewise_hub.fleet.tables import Assignment, DesiredState, Device, Membership
from edgewise_hub.hub import Hub
from edgewise_hub.learning.tables import SampleRequestRow
from edgewise_hub.mqtt.inbox import Outbound
from edgewise_hub.registry.tables import Bundle, Model
from edgewise_hub.registry.versions import find_bundle

LIFETIME_S = 30 * 86400.0
RENEW_BEFORE_S = 7 * 86400.0
SKEW_S = 300.0
"""``not_before`` lies so far back, for devices whose clock is a little behind."""


def refresh(session: Session, hub: Hub, device_ids: Iterable[str], now: float) -> list[str]:
    """Make the desired states of these devices anew where anything changed, inside the caller's write transaction.

    Returns the ids of devices with a new generation: call ``publish_pending`` after the commit.
    """
    session.flush()
    bundles: dict[tuple[str, int, str], Bundle | None] = {}
    known = {model.name: model for model in session.scalars(select(Model).where(Model.tenant_id == hub.tenant))}
    requests = list(
        session.scalars(
            select(SampleRequestRow)
            .where(SampleRequestRow.tenant_id == hub.tenant, SampleRequestRow.state == "open")
            .order_by(SampleRequestRow.created_at, SampleRequestRow.id)
        )
    )
    settings = hub.settings
    transfer = Transfer(bytes_s=settings.download_bytes_s, quiet=list(settings.quiet_hours))
    changed = []
    for device_id in device_ids:
        device = session.get(Device, (hub.tenant, device_id))
        if device is None or device.revoked_at is not None:
            continue
        row = session.get(DesiredState, (hub.tenant, device_id))
        before: dict[str, Any] = row.content["models"] if row else {}
        asked = _sample_requests(session, hub, device_id, requests)
        experiments = _experiments(session, hub, device_id)
        models: dict[str, DesiredModel] = {}
        for assignment in _assignments(session, hub, device_id):
            key = (assignment.model, assignment.version, device.profile)
            if key not in bundles:
                bundles[key] = find_bundle(session, hub, *key)
            duty = _duty(bundles[key], before.get(assignment.model))
            if duty is not None:
                experiment = experiments.get(assignment.model)
                if experiment is not None and duty.version != experiment.control:
                    experiment = None
                models[assignment.model] = DesiredModel(
                    duties={"active": duty, **_beside(session, hub, device, experiment)},
                    policy=None if experiment is None else experiment.policy,
                    quality=msgspec.convert(known[assignment.model].quality, Quality),
                    floor=min(known[assignment.model].floor, duty.release),
                    window_s=hub.settings.window_s,
                    trial_s=hub.settings.trial_s,
                    samples=asked.get(assignment.model),
                )
        content = {"profile": device.profile, "models": msgspec.to_builtins(models)}
        if transfer != Transfer():
            content["transfer"] = msgspec.to_builtins(transfer)
        expires_soon = row is not None and now > row.created_at + LIFETIME_S - RENEW_BEFORE_S
        if row is not None and row.content == content and not expires_soon:
            continue
        generation = row.generation + 1 if row else 1
        desired = Desired(
            tenant=hub.tenant,
            device=device_id,
            profile=device.profile,
            generation=generation,
            models=models,
            issued_at=now,
            not_before=now - SKEW_S,
            not_after=now + LIFETIME_S,
            transfer=transfer,
        )
        if row is None:
            row = DesiredState(tenant_id=hub.tenant, device_id=device_id, published=0)
            session.add(row)
        row.generation, row.content, row.created_at = generation, content, now
        row.envelope = seal(desired, hub.signer.sign)
        changed.append(device_id)
    return changed


def serving(session: Session, hub: Hub, model: str) -> list[str]:
    """The devices that are assigned a version of the model."""
    return list(
        session.scalars(
            select(Assignment.device_id)
            .where(Assignment.tenant_id == hub.tenant, Assignment.model == model)
            .order_by(Assignment.device_id)
        )
    )


def publish_pending(hub: Hub, everything: bool = False) -> int:
    """Publish desired states that are not out yet, or (``everything``, at each connection: the broker may have lost its
    store) all of them. Returns how many. Nothing is published, or noted as such, while there is no connection."""
    if not hub.broker_connected():
        return 0
    pending = (
        select(DesiredState.device_id, DesiredState.generation, DesiredState.envelope)
        .join(Device, (Device.id == DesiredState.device_id) & (Device.tenant_id == DesiredState.tenant_id))
        .where(DesiredState.tenant_id == hub.tenant, Device.revoked_at.is_(None))
    )
    if not everything:
        pending = pending.where(DesiredState.published < DesiredState.generation)
    with hub.database.read() as session:
        states = session.execute(pending).all()
    for device_id, _generation, envelope in states:
        hub.publish(Outbound(topics.desired(hub.tenant, device_id), envelope, retain=True))
    if states:
        with hub.database.write() as session:
            for device_id, generation, _envelope in states:
                session.execute(
                    update(DesiredState)
                    .where(
                        DesiredState.tenant_id == hub.tenant,
                        DesiredState.device_id == device_id,
                        DesiredState.published < generation,
                    )
                    .values(published=generation)
                )
    return len(states)


def renew(hub: Hub, now: float) -> list[str]:
    """Sign again what would expire within ``RENEW_BEFORE_S``. Returns the ids of the devices renewed."""
    old = select(DesiredState.device_id).where(
        DesiredState.tenant_id == hub.tenant, DesiredState.created_at < now - (LIFETIME_S - RENEW_BEFORE_S)
    )
    with hub.database.read() as session:
        device_ids = list(session.scalars(old))
    if not device_ids:
        return []
    with hub.database.write() as session:
        return refresh(session, hub, device_ids, now)


def tick(hub: Hub, now: float) -> None:
    """Renew and publish."""
    renew(hub, now)
    publish_pending(hub)


def _assignments(session: Session, hub: Hub, device_id: str) -> list[Assignment]:
    return list(
        session.scalars(
            select(Assignment)
            .where(Assignment.tenant_id == hub.tenant, Assignment.device_id == device_id)
            .order_by(Assignment.model)
        )
    )


def _duty(bundle: Bundle | None, before: dict[str, Any] | None) -> Duty | None:
    """The duty of the assigned version's bundle; without one, the duty that the device has."""
    if bundle is not None:
        return Duty(bundle=bundle.digest, size=bundle.size, version=bundle.version, release=bundle.version)
    return msgspec.convert(before["duties"]["active"], Duty) if before else None


class _Part(NamedTuple):
    """A device's part in an experiment."""

    control: int
    candidate: int | None
    model: str
    role: Role | None
    policy: Policy


def _experiments(session: Session, hub: Hub, device_id: str) -> dict[str, _Part]:
    """By model, the running experiments that the device takes part in."""
    rows = session.scalars(
        select(Experiment)
        .join(
            ExperimentDevice,
            (ExperimentDevice.tenant_id == Experiment.tenant_id) & (ExperimentDevice.experiment_id == Experiment.id),
        )
        .where(
            Experiment.tenant_id == hub.tenant,
            Experiment.state == "running",
            ExperimentDevice.device_id == device_id,
            ExperimentDevice.left_at.is_(None),
        )
        .order_by(Experiment.created_at, Experiment.id)
    )
    found: dict[str, _Part] = {}
    for row in rows:
        plan = Plan.from_json(row.plan)
        found[row.model] = _Part(row.control, row.candidate, row.model, plan.role, policy(plan, row.id))
    return found


def _beside(session: Session, hub: Hub, device: Device, part: _Part | None) -> dict[Role, Duty]:
    """The candidate's duty in an experiment."""
    if part is None or part.role is None or part.candidate is None:
        return {}
    duty = _duty(find_bundle(session, hub, part.model, part.candidate, device.profile), None)
    return {} if duty is None else {part.role: duty}


def _sample_requests(
    session: Session, hub: Hub, device_id: str, requests: list[SampleRequestRow]
) -> dict[str, SampleRequest]:
    """By model, the newest open request of a group that the device is in."""
    if not requests:
        return {}
    groups = set(
        session.scalars(
            select(Membership.group).where(Membership.tenant_id == hub.tenant, Membership.device_id == device_id)
        )
    )
    return {
        request.model: SampleRequest(id=request.id, count=request.count, bytes=request.bytes)
        for request in requests
        if request.group in groups
    }
