"""Prometheus metrics of the hub, in a registry of its own; ``render`` is what ``/metrics`` answers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring.tables import Alert, Judgement

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
WEBHOOKS = Counter("edgewise_webhooks_total", "Alerts posted to the webhook.", ["outcome"], registry=REGISTRY)
ALERTS = Gauge("edgewise_alerts_open", "Open alerts.", ["kind"], registry=REGISTRY)
_JUDGED = ["model", "group"]
DRIFT_VERDICT = Gauge(
    "edgewise_drift_verdict",
    "1 for the verdict of a group's newest judgement.",
    [*_JUDGED, "verdict"],
    registry=REGISTRY,
)
DRIFT_P = Gauge("edgewise_drift_p_value", "p-value of a group's newest judgement.", _JUDGED, registry=REGISTRY)
DRIFT_EFFECT = Gauge(
    "edgewise_drift_effect", "Distance from the reference, in units of its spread.", _JUDGED, registry=REGISTRY
)
DRIFT_EVIDENCE = Gauge(
    "edgewise_drift_evidence",
    "Evidence of drift so far: E takes E spans on average by chance.",
    _JUDGED,
    registry=REGISTRY,
)
ACCURACY = Gauge(
    "edgewise_estimated_accuracy",
    "Accuracy without labels: the estimate, and the ends of its 95% interval.",
    [*_JUDGED, "bound"],
    registry=REGISTRY,
)
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
        _monitoring(hub, session)
    DEVICES.labels("online").set(by_presence.get(True, 0))
    DEVICES.labels("offline").set(by_presence.get(False, 0))
    BROKER_CONNECTED.set(hub.broker_connected())
    return generate_latest(REGISTRY)


def _monitoring(hub: Hub, session: Session) -> None:
    """What was judged last of each group, and what is open. Groups that are gone leave no stale series."""
    for gauge in (ALERTS, DRIFT_VERDICT, DRIFT_P, DRIFT_EFFECT, DRIFT_EVIDENCE, ACCURACY):
        gauge.clear()
    for kind, count in session.execute(
        select(Alert.kind, func.count())
        .where(Alert.tenant_id == hub.tenant, Alert.closed_at.is_(None))
        .group_by(Alert.kind)
    ):
        ALERTS.labels(kind).set(count)
    newest = (
        select(Judgement.model, Judgement.group, func.max(Judgement.span_end).label("end"))
        .where(Judgement.tenant_id == hub.tenant)
        .group_by(Judgement.model, Judgement.group)
        .subquery()
    )
    rows = session.scalars(
        select(Judgement)
        .join(
            newest,
            (Judgement.model == newest.c.model)
            & (Judgement.group == newest.c.group)
            & (Judgement.span_end == newest.c.end),
        )
        .where(Judgement.tenant_id == hub.tenant)
    )
    for row in rows:
        of = (row.model, row.group)
        DRIFT_VERDICT.labels(*of, row.verdict).set(1)
        DRIFT_P.labels(*of).set(row.p_value)
        DRIFT_EFFECT.labels(*of).set(row.details.get("effect", 0.0))
        DRIFT_EVIDENCE.labels(*of).set(row.details.get("evidence", 0.0))
        for bound, name in (("estimate", "accuracy"), ("low", "low"), ("high", "high")):
            value = row.details.get(f"estimated_{name}")
            if value is not None:
                ACCURACY.labels(*of, bound).set(value)
