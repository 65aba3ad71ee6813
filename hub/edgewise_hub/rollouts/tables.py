"""Tables of rollouts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from edgewise_hub.database import Base, OfTenant


class Rollout(OfTenant, Base):
    """``plan``: stages and gates (``rollouts.plan.Plan`` as JSON). ``state``: running, paused, completed,
    rolled-back (by a gate), aborted (by a hand). ``stage`` counts from 0. ``group`` None means every device."""

    __tablename__ = "rollouts"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model: Mapped[str] = mapped_column(String(64))
    from_version: Mapped[int | None]
    to_version: Mapped[int]
    group: Mapped[str | None] = mapped_column("group_name", String(64))
    plan: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    stage: Mapped[int] = mapped_column(default=0)
    stage_started_at: Mapped[float]
    reason: Mapped[str] = mapped_column(default="")
    evidence: Mapped[dict[str, Any]]
    """The newest reading of each gate, as shown."""
    created_at: Mapped[float]
    updated_at: Mapped[float]
    __table_args__ = (Index("ix_rollouts_state", "tenant_id", "state"),)


class RolloutDevice(OfTenant, Base):
    """A device of a rollout: its place in the draw (0..1, a hash of device and rollout), its stage, when it was told.
    ``from_version`` is what it served before, and what it goes back to; ``generation`` the desired state that first
    told it, so that a failure of an earlier try is not held against this one."""

    __tablename__ = "rollout_devices"
    rollout_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    device_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    draw: Mapped[float]
    stage: Mapped[int]
    from_version: Mapped[int | None]
    assigned_at: Mapped[float | None]
    generation: Mapped[int | None]


class RolloutEvent(OfTenant, Base):
    """What was decided, when, and why."""

    __tablename__ = "rollout_events"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rollout_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    at: Mapped[float]
    stage: Mapped[int]
    decision: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str]
    evidence: Mapped[dict[str, Any]]
