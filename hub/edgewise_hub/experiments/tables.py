"""Tables of experiments."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from edgewise_hub.database import Base, OfTenant
from edgewise_hub.monitoring.tables import StreamRow


class Experiment(OfTenant, Base):
    """``plan``: ``experiments.plan.Plan`` as JSON. ``state``: running, ended. ``decision``: of ``experiments.decide``,
    or ``stopped`` by a hand. ``evidence``: ``experiments.evidence.Evidence`` as MessagePack; ``result``: the newest
    decision as shown; ``history``: what was known when, thinned. ``group`` None means every device."""

    __tablename__ = "experiments"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(32))
    group: Mapped[str | None] = mapped_column("group_name", String(64))
    control: Mapped[int]
    candidate: Mapped[int | None]
    plan: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    decision: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str]
    evidence: Mapped[bytes] = mapped_column(LargeBinary)
    result: Mapped[dict[str, Any]]
    history: Mapped[list[Any]]
    rollout_id: Mapped[str | None] = mapped_column(String(32))
    created_at: Mapped[float]
    updated_at: Mapped[float]
    ended_at: Mapped[float | None]
    __table_args__ = (Index("ix_experiments_state", "tenant_id", "state"),)


class ExperimentDevice(OfTenant, Base):
    """A device that takes part, or did until ``left_at``. ``generation``: of the desired state that first told it.
    ``sums``: everything that it reported (``wire.experiment.Sums``); ``measured``: ``observe.Measured``;
    MessagePack."""

    __tablename__ = "experiment_devices"
    experiment_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    device_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    joined_at: Mapped[float]
    left_at: Mapped[float | None]
    generation: Mapped[int | None]
    sums: Mapped[bytes] = mapped_column(LargeBinary)
    measured: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (Index("ix_experiment_devices_device", "tenant_id", "device_id"),)


class ExperimentWindow(StreamRow, Base):
    """One window of one experiment, as it came; ``counted`` once it is in the evidence. ``sums`` is MessagePack."""

    __tablename__ = "experiment_windows"
    experiment_id: Mapped[str] = mapped_column(String(32))
    sums: Mapped[bytes] = mapped_column(LargeBinary)
    counted: Mapped[bool]
    __table_args__ = (
        Index("ix_experiment_windows_counted", "tenant_id", "experiment_id", "counted"),
        Index("ix_experiment_windows_received_at", "tenant_id", "received_at"),
    )
