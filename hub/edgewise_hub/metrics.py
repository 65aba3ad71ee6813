"""Prometheus metrics of the hub, in a registry of its own; ``render`` is what ``/metrics`` answers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from sqlalchemy import func, select

from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()

REFUSED = Counter(
    "edgewise_refused_total", "Messages of devices that were not taken.", ["kind", "code"], registry=REGISTRY
)
WINDOWS = Counter(
    "edgewise_windows_total", "Windows committed to the database, by stream.", ["stream"], registry=REGISTRY
)
WINDOW_BYTES = Counter(
    "edgewise_window_bytes_total", "Bytes of those windows on the wire.", ["stream"], registry=REGISTRY
)
BLOB_BYTES = Counter("edgewise_blob_bytes_total", "Bytes of blobs sent to devices.", registry=REGISTRY)
CASTS = Counter("edgewise_casts_total", "Blobs sent once to many devices.", registry=REGISTRY)
BROKER_DENIED = Counter(
    "edgewise_broker_denied_total", "Publishes and subscribes that the broker's access rules denied.", registry=REGISTRY
)
BROKER_RESTARTS = Counter("edgewise_broker_restarts_total", "Times the broker was started again.", registry=REGISTRY)
BROKER_CONNECTED = Gauge("edgewise_broker_connected", "1 while the hub is connected to its broker.", registry=REGISTRY)
DEVICES = Gauge("edgewise_devices", "Enrolled devices by presence.", ["presence"], registry=REGISTRY)


def render(hub: Hub) -> bytes:
    """The exposition; gauges are read from the database at scrape."""
    with hub.database.read() as session:
        counts = session.execute(
            select(Device.online, func.count())
            .where(Device.tenant_id == hub.tenant, Device.revoked_at.is_(None))
            .group_by(Device.online)
        )
        by_presence = dict(counts.all())
    DEVICES.labels("online").set(by_presence.get(True, 0))
    DEVICES.labels("offline").set(by_presence.get(False, 0))
    BROKER_CONNECTED.set(hub.broker_connected())
    return generate_latest(REGISTRY)
