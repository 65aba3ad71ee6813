"""The table of jobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from edgewise_hub.database import Base, OfTenant


class Job(OfTenant, Base):
    """``kind``: train, compile, calibrate. ``state``: queued, running, done, failed. A running job whose lease has
    passed is taken again, at most ``jobs.executor.MAX_ATTEMPTS`` times. ``error``: {"code", "detail"}."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[float | None]
    progress: Mapped[float] = mapped_column(default=0.0)
    progress_text: Mapped[str] = mapped_column(default="")
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    __table_args__ = (Index("ix_jobs_state", "tenant_id", "state", "created_at"),)
