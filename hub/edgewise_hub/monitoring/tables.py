"""Tables of monitoring: telemetry (windows) and what was judged from it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from edgewise_hub.database import Base, OfTenant


class StreamRow(OfTenant):
    """Mixin: one message of a stream as it came. Times are the device's (``wire.spans.Span``); ``size`` is the
    message's bytes on the wire."""

    device_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    first: Mapped[int] = mapped_column(primary_key=True)
    last: Mapped[int]
    start: Mapped[float]
    duration: Mapped[float]
    uncertainty: Mapped[float | None]
    size: Mapped[int]
    received_at: Mapped[float]


class WindowRow(StreamRow, Base):
    """One window. ``sketches`` is MessagePack {name: bytes}; ``quality``: problem -> feature -> items."""

    __tablename__ = "windows"
    model: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    bundle: Mapped[str] = mapped_column(String(64))
    duty: Mapped[str] = mapped_column(String(16))
    spec: Mapped[str] = mapped_column(String(64))
    counters: Mapped[dict[str, Any]]
    sketches: Mapped[bytes] = mapped_column(LargeBinary)
    quality: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    __table_args__ = (
        Index("ix_windows_model", "tenant_id", "model", "version", "received_at"),
        Index("ix_windows_received_at", "tenant_id", "received_at"),
    )


class HealthRow(StreamRow, Base):
    """One span of a device's resources: ``gauges`` name -> [n, total, least, most], ``totals`` name -> count."""

    __tablename__ = "health"
    gauges: Mapped[dict[str, Any]]
    totals: Mapped[dict[str, Any]]
    __table_args__ = (
        Index("ix_health_device", "tenant_id", "device_id", "received_at"),
        Index("ix_health_received_at", "tenant_id", "received_at"),
    )


class StreamPosition(OfTenant, Base):
    """How far a device's stream is committed: everything of ``epoch`` up to ``sequence``. What ``ack`` says.
    ``beyond``: ranges [first, last] that are committed behind a gap, ascending."""

    __tablename__ = "stream_positions"
    device_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    stream: Mapped[str] = mapped_column(String(64), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    sequence: Mapped[int]
    beyond: Mapped[list[Any]]
    updated_at: Mapped[float]


class Judgement(OfTenant, Base):
    """One judgement of one group over one span of windows: every statistic, and the verdict in words."""

    __tablename__ = "judgements"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model: Mapped[str] = mapped_column(String(64))
    group: Mapped[str] = mapped_column("group_name", String(64))
    at: Mapped[float]
    span_start: Mapped[float]
    span_end: Mapped[float]
    n: Mapped[int]
    verdict: Mapped[str] = mapped_column(String(16))
    p_value: Mapped[float]
    alpha: Mapped[float]
    details: Mapped[dict[str, Any]]
    __table_args__ = (Index("ix_judgements_group", "tenant_id", "model", "group_name", "at"),)


class Alert(OfTenant, Base):
    """Something that a person should know, opened once and closed when it is over."""

    __tablename__ = "alerts"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    model: Mapped[str] = mapped_column(String(64))
    group: Mapped[str | None] = mapped_column("group_name", String(64))
    summary: Mapped[str]
    details: Mapped[dict[str, Any]]
    opened_at: Mapped[float]
    closed_at: Mapped[float | None]
    __table_args__ = (Index("ix_alerts_open", "tenant_id", "closed_at"),)
