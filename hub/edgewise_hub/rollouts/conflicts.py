"""What else goes on with a model on the same devices: one rollout or one experiment at a time."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise_hub.experiments.tables import Experiment, ExperimentDevice
from edgewise_hub.hub import Hub
from edgewise_hub.rollouts.assignments import OPEN
from edgewise_hub.rollouts.gather import rollout_devices
from edgewise_hub.rollouts.tables import Rollout


def open_rollout(session: Session, hub: Hub, model: str, group: str | None, devices: Sequence[str]) -> Rollout | None:
    """A rollout of the model that is not over, and that reaches this group (None: every device) or these devices."""
    rollouts = session.scalars(
        select(Rollout).where(Rollout.tenant_id == hub.tenant, Rollout.model == model, Rollout.state.in_(OPEN))
    )
    for rollout in rollouts:
        reached = {row.device_id for row in rollout_devices(session, hub, rollout.id)}
        if _same(rollout.group, group) or reached & set(devices):
            return rollout
    return None


def running_experiment(
    session: Session, hub: Hub, model: str, group: str | None, devices: Sequence[str]
) -> Experiment | None:
    """As much of an experiment that runs."""
    experiments = session.scalars(
        select(Experiment).where(
            Experiment.tenant_id == hub.tenant, Experiment.model == model, Experiment.state == "running"
        )
    )
    for experiment in experiments:
        taking = session.scalars(
            select(ExperimentDevice.device_id).where(
                ExperimentDevice.tenant_id == hub.tenant,
                ExperimentDevice.experiment_id == experiment.id,
                ExperimentDevice.left_at.is_(None),
            )
        )
        if _same(experiment.group, group) or set(taking) & set(devices):
            return experiment
    return None


def _same(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other
