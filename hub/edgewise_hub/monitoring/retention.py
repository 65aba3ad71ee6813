"""What devices reported is forgotten after the retention; what was handled of their streams is not."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from edgewise_hub.experiments.tables import ExperimentWindow
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring.tables import HealthRow, StreamPosition, StreamRow, WindowRow

TABLES: tuple[type[StreamRow], ...] = (WindowRow, ExperimentWindow, HealthRow)


def tick(hub: Hub, now: float) -> None:
    """Prune what is older than the retention, when there is any. ``now``: Unix seconds."""
    before = now - hub.settings.retention_s
    with hub.database.read() as session:
        found = any(
            session.scalar(
                select(table.first).where(table.tenant_id == hub.tenant, table.received_at < before).limit(1)
            )
            is not None
            for table in TABLES
        )
    if found:
        with hub.database.write() as session:
            prune(session, hub, before)


def prune(session: Session, hub: Hub, before: float) -> int:
    """Forget what was received before ``before`` (Unix seconds), and the positions of epochs silent since then that are
    not a device's newest. Returns how many messages went."""
    gone = 0
    for table in TABLES:
        old = delete(table).where(table.tenant_id == hub.tenant, table.received_at < before)
        gone += session.execute(old).rowcount  # type: ignore[attr-defined]  # a delete's result is a CursorResult
    rows = session.scalars(
        select(StreamPosition).where(StreamPosition.tenant_id == hub.tenant).order_by(StreamPosition.updated_at.desc())
    )
    seen: set[tuple[str, str]] = set()
    for row in rows:
        stream = (row.device_id, row.stream)
        if stream in seen and row.updated_at < before:
            session.delete(row)
        seen.add(stream)
    return gone
