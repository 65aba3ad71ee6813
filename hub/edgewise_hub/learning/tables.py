"""Tables of learning."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from edgewise_hub.database import Base, OfTenant


class SampleRequestRow(OfTenant, Base):
    """The hub's wish for raw samples of one model from one group; each device's owner still has to consent.
    Budgets are a device's. ``state``: open, closed."""

    __tablename__ = "sample_requests"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model: Mapped[str] = mapped_column(String(64))
    group: Mapped[str] = mapped_column("group_name", String(64))
    count: Mapped[int]
    bytes: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float]


class SampleRow(OfTenant, Base):
    """One raw sample with its label. Bounded by the request's budgets."""

    __tablename__ = "samples"
    request_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    device_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(80), primary_key=True)
    """The inference request's id on the device: a sample counts once."""
    version: Mapped[int]
    dtype: Mapped[str] = mapped_column(String(8))
    shape: Mapped[list[Any]]
    input: Mapped[bytes] = mapped_column(LargeBinary)
    label: Mapped[int | None]
    prediction: Mapped[int | None]
    at: Mapped[float]
    received_at: Mapped[float]


class Trigger(OfTenant, Base):
    """When ``on`` ("drift") happens to ``model`` and ``min_samples`` labelled samples of the drifted group are there,
    start a training run with ``strategy``, and, where ``rollout`` holds a plan, roll its result out."""

    __tablename__ = "triggers"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model: Mapped[str] = mapped_column(String(64))
    on: Mapped[str] = mapped_column("on_event", String(16))
    min_samples: Mapped[int]
    strategy: Mapped[str] = mapped_column(String(32))
    config: Mapped[dict[str, Any]]
    profiles: Mapped[list[Any]]
    rollout: Mapped[dict[str, Any] | None]
    enabled: Mapped[bool] = mapped_column(default=True)
    fired_at: Mapped[float | None]
    created_at: Mapped[float]


class TrainingRun(OfTenant, Base):
    """One training: from scratch (strategy ``full``) or from a parent version with rehearsal.
    ``state``: queued, running, accepted, rejected (the champion was better), failed. ``comparison``: metrics of
    champion and challenger on each slice."""

    __tablename__ = "training_runs"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model: Mapped[str] = mapped_column(String(64))
    strategy: Mapped[str] = mapped_column(String(32))
    recipe: Mapped[str] = mapped_column(String(64))
    config: Mapped[dict[str, Any]]
    parent_version: Mapped[int | None]
    sample_request_id: Mapped[str | None] = mapped_column(String(32))
    trigger_id: Mapped[str | None] = mapped_column(String(32))
    profiles: Mapped[list[Any]]
    rollout: Mapped[dict[str, Any] | None]
    note: Mapped[str] = mapped_column(default="")
    job_id: Mapped[str | None] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(default="")
    comparison: Mapped[dict[str, Any]]
    version: Mapped[int | None]
    rollout_id: Mapped[str | None] = mapped_column(String(32))
    created_at: Mapped[float]
    finished_at: Mapped[float | None]
    __table_args__ = (Index("ix_training_runs_model", "tenant_id", "model"),)
