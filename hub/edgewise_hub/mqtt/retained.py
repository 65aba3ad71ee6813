"""What the hub keeps retained at the broker: published again at every connection, since a broker may lose its store."""

from __future__ import annotations

from sqlalchemy import select

from edgewise.wire import topics
from edgewise_hub.fleet.desired import publish_pending
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring.positions import ack_of
from edgewise_hub.monitoring.tables import StreamPosition
from edgewise_hub.mqtt.inbox import Outbound

DEVICE_KINDS = ("desired", "reported", "presence")


def republish(hub: Hub) -> None:
    """Publish every device's desired state and the newest ack of each of its streams."""
    publish_pending(hub, everything=True)
    positions = (
        select(StreamPosition)
        .join(Device, (Device.tenant_id == StreamPosition.tenant_id) & (Device.id == StreamPosition.device_id))
        .where(StreamPosition.tenant_id == hub.tenant, Device.revoked_at.is_(None))
        .order_by(StreamPosition.updated_at)
    )
    with hub.database.read() as session:
        newest = {(row.device_id, row.stream): row for row in session.scalars(positions)}
    for row in newest.values():
        hub.publish(ack_of(row))


def clear(hub: Hub, device: str) -> None:
    """Take a revoked device's retained messages from the broker."""
    base = topics.base(hub.tenant, device)
    with hub.database.read() as session:
        streams = session.scalars(
            select(StreamPosition.stream)
            .where(StreamPosition.tenant_id == hub.tenant, StreamPosition.device_id == device)
            .distinct()
        ).all()
    for rest in [*DEVICE_KINDS, *(f"ack/{stream}" for stream in streams)]:
        hub.publish(Outbound(f"{base}/{rest}", b"", retain=True))
