"""Devices and groups: what is wished for, what is there, and why they differ."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Literal

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise_hub.api.auth import HubDep
from edgewise_hub.api.errors import not_found
from edgewise_hub.api.pages import Cursor, Limit, page
from edgewise_hub.api.schemas import DeviceHealth, DeviceModel, DeviceOut, DevicePatch, GroupOut, NameStr, Page
from edgewise_hub.fleet import desired, groups
from edgewise_hub.fleet.devices import Wish, decode_reported, standing
from edgewise_hub.fleet.tables import Assignment, DesiredState, Device, Membership
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring import health
from edgewise_hub.mqtt import retained
from edgewise_hub.registry.tables import Bundle

router = APIRouter(tags=["fleet"])

DAY_S = 86400.0


@router.get("/devices")
def list_devices(
    hub: HubDep,
    group: NameStr | None = None,
    state: Literal["online", "offline", "revoked"] | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[DeviceOut]:
    """Devices by id, of one ``group`` or in one ``state``."""
    rows = select(Device).where(Device.tenant_id == hub.tenant)
    if group is not None:
        of_group = select(Membership.device_id).where(Membership.tenant_id == hub.tenant, Membership.group == group)
        rows = rows.where(Device.id.in_(of_group))
    if state == "revoked":
        rows = rows.where(Device.revoked_at.is_not(None))
    elif state is not None:
        rows = rows.where(Device.revoked_at.is_(None), Device.online.is_(state == "online"))
    with hub.database.read() as session:
        found, after = page(session, rows, (Device.id,), cursor, limit, newest_first=False)
        return Page(items=_out(session, hub, found), next=after)


@router.get("/devices/{device_id}")
def get_device(device_id: str, hub: HubDep) -> DeviceOut:
    """One device."""
    with hub.database.read() as session:
        return _out(session, hub, [_device(session, hub, device_id)])[0]


@router.get("/devices/{device_id}/health")
def get_health(device_id: str, hub: HubDep, since: float | None = None) -> DeviceHealth:
    """The device's resources and its models' latency since ``since`` (Unix seconds; the last day)."""
    with hub.database.read() as session:
        _device(session, hub, device_id)
        return health.read(session, hub, device_id, time.time() - DAY_S if since is None else since)


@router.patch("/devices/{device_id}")
def update_device(device_id: str, body: DevicePatch, hub: HubDep) -> DeviceOut:
    """Replace the device's groups."""
    with hub.database.write() as session:
        device = _device(session, hub, device_id)
        groups.replace(session, hub, device_id, body.groups)
        desired.refresh(session, hub, [device_id], time.time())
        answer = _out(session, hub, [device])[0]
    desired.publish_pending(hub)
    hub.events.publish("device", device_id)
    return answer


@router.post("/devices/{device_id}/revoke")
def revoke_device(device_id: str, hub: HubDep) -> DeviceOut:
    """End a device's access for good: its session is cut, its account disabled, its messages refused. Asking again is
    fine, and finishes what a broker that did not answer left open."""
    with hub.database.write() as session:
        device = _device(session, hub, device_id)
        device.revoked_at = device.revoked_at or time.time()
        device.online = False
        session.flush()
        answer = _out(session, hub, [device])[0]
    hub.events.publish("device", device_id)
    if hub.accounts is not None:
        hub.accounts.disable(device_id)
    retained.clear(hub, device_id)
    return answer


@router.get("/groups")
def list_groups(hub: HubDep) -> Page[GroupOut]:
    """All groups by name."""
    with hub.database.read() as session:
        return Page(items=[GroupOut(**group._asdict()) for group in groups.counts(session, hub)])


def _device(session: Session, hub: Hub, device_id: str) -> Device:
    device = session.get(Device, (hub.tenant, device_id))
    if device is None:
        raise not_found("device", device_id)
    return device


def _out(session: Session, hub: Hub, devices: list[Device]) -> list[DeviceOut]:
    """Devices as shown, with a fixed number of queries."""
    ids = [device.id for device in devices]
    memberships = groups.of_devices(session, hub, ids)
    states = {
        row.device_id: row
        for row in session.scalars(
            select(DesiredState).where(DesiredState.tenant_id == hub.tenant, DesiredState.device_id.in_(ids))
        )
    }
    assigned: dict[str, dict[str, int]] = {device_id: {} for device_id in ids}
    for row in session.scalars(
        select(Assignment).where(Assignment.tenant_id == hub.tenant, Assignment.device_id.in_(ids))
    ):
        assigned[row.device_id][row.model] = row.version
    bundles = _Bundles(session, hub, {model for of_device in assigned.values() for model in of_device})
    return [
        DeviceOut(
            id=device.id,
            profile=device.profile,
            agent=(device.reported or {}).get("agent", ""),
            groups=memberships[device.id],
            online=device.online,
            last_seen=device.last_seen,
            enrolled_at=device.enrolled_at,
            revoked=device.revoked_at is not None,
            generation=states[device.id].generation if device.id in states else 0,
            reported_generation=(device.reported or {}).get("generation", 0),
            models=_models(device, assigned[device.id], states.get(device.id), bundles),
            facts=(device.reported or {}).get("facts", {}),
            consent=(device.reported or {}).get("consent", {}),
        )
        for device in devices
    ]


class _Bundles:
    """Which versions the bundles of some models are of, and what they are compiled for."""

    def __init__(self, session: Session, hub: Hub, models: Iterable[str]) -> None:
        rows = session.execute(
            select(Bundle.digest, Bundle.model, Bundle.version, Bundle.profile).where(
                Bundle.tenant_id == hub.tenant, Bundle.model.in_(sorted(models))
            )
        )
        self._versions: dict[str, int] = {}
        self._compiled: set[tuple[str, int, str]] = set()
        for digest, model, version, profile in rows:
            self._versions[digest] = version
            self._compiled.add((model, version, profile))

    def version(self, digest: str | None) -> int | None:
        """The version that a bundle is of."""
        return self._versions.get(digest or "")

    def compiled(self, model: str, version: int, profile: str) -> bool:
        """Is the version compiled for the profile?"""
        return (model, version, profile) in self._compiled


def _models(
    device: Device, assigned: dict[str, int], state: DesiredState | None, bundles: _Bundles
) -> list[DeviceModel]:
    reported = decode_reported(device)
    wished: dict[str, Any] = state.content["models"] if state else {}
    models = []
    for model in sorted({*assigned, *(reported.models if reported else ())}):
        there = reported.models.get(model) if reported else None
        duty = wished.get(model, {}).get("duties", {}).get("active")
        version = assigned.get(model)
        told = duty["bundle"] if duty is not None and duty["version"] == version else None
        wish = Wish(version, told, state.generation if state else 0) if version is not None else None
        compiled = version is not None and bundles.compiled(model, version, device.profile)
        stands = standing(wish, device, reported, model, has_bundle=compiled)
        models.append(
            DeviceModel(
                model=model,
                version=version,
                bundle=told,
                running_version=bundles.version(there.running if there else None),
                confirmed_version=bundles.version(there.confirmed if there else None),
                state=stands.state,
                reason=stands.reason,
            )
        )
    return models
