"""Named groups of devices: a group is there while a device is in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Integer, cast, delete, func, select
from sqlalchemy.orm import Session

from edgewise_hub.fleet.tables import Device, Membership
from edgewise_hub.hub import Hub


class GroupCount(NamedTuple):
    """A group, its devices, and how many of them are online."""

    name: str
    devices: int
    online: int


def replace(session: Session, hub: Hub, device: str, groups: Iterable[str]) -> None:
    """Put a device into exactly these groups."""
    session.execute(delete(Membership).where(Membership.tenant_id == hub.tenant, Membership.device_id == device))
    for group in sorted(set(groups)):
        session.add(Membership(tenant_id=hub.tenant, device_id=device, group=group))
    session.flush()


def of_devices(session: Session, hub: Hub, devices: Iterable[str]) -> dict[str, list[str]]:
    """Each device's groups, sorted."""
    groups: dict[str, list[str]] = {device: [] for device in devices}
    rows = session.execute(
        select(Membership.device_id, Membership.group)
        .where(Membership.tenant_id == hub.tenant, Membership.device_id.in_(groups))
        .order_by(Membership.group)
    )
    for device, group in rows:
        groups[device].append(group)
    return groups


def members(session: Session, hub: Hub, group: str | None) -> list[str]:
    """The devices of a group (None: all), by id, without revoked ones."""
    devices = select(Device.id).where(Device.tenant_id == hub.tenant, Device.revoked_at.is_(None)).order_by(Device.id)
    if group is not None:
        devices = devices.join(
            Membership, (Membership.tenant_id == Device.tenant_id) & (Membership.device_id == Device.id)
        ).where(Membership.group == group)
    return list(session.scalars(devices))


def counts(session: Session, hub: Hub) -> list[GroupCount]:
    """All groups by name, without revoked devices."""
    rows = session.execute(
        select(Membership.group, func.count(), func.sum(cast(Device.online, Integer)))
        .join(Device, (Device.tenant_id == Membership.tenant_id) & (Device.id == Membership.device_id))
        .where(Membership.tenant_id == hub.tenant, Device.revoked_at.is_(None))
        .group_by(Membership.group)
        .order_by(Membership.group)
    )
    return [GroupCount(name, devices, int(online)) for name, devices, online in rows]
