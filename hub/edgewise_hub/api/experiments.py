"""Experiments: compare two versions on the fleet, look at what is known, stop, or roll the winner out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise_hub.api.auth import HubDep
from edgewise_hub.api.changes import changed
from edgewise_hub.api.errors import not_found
from edgewise_hub.api.pages import Cursor, Limit, page
from edgewise_hub.api.schemas import ExperimentDetail, ExperimentIn, ExperimentOut, NameStr, Page, PromoteIn
from edgewise_hub.experiments import controller, view
from edgewise_hub.experiments.tables import Experiment
from edgewise_hub.hub import Hub

router = APIRouter(tags=["experiments"])


@router.post("/experiments", status_code=201)
def create_experiment(body: ExperimentIn, hub: HubDep) -> ExperimentDetail:
    """Start an experiment; its devices are told at once."""

    def create(session: Session, now: float) -> Experiment:
        return controller.create(session, hub, body, now)

    return _change(hub, create)


@router.get("/experiments")
def list_experiments(
    hub: HubDep,
    model: NameStr | None = None,
    state: Literal["running", "ended"] | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ExperimentOut]:
    """Experiments, newest first, of one ``model`` or in one ``state``."""
    rows = select(Experiment).where(Experiment.tenant_id == hub.tenant)
    if model is not None:
        rows = rows.where(Experiment.model == model)
    if state is not None:
        rows = rows.where(Experiment.state == state)
    with hub.database.read() as session:
        found, after = page(session, rows, (Experiment.created_at, Experiment.id), cursor, limit)
        return Page(items=[view.summary(session, hub, experiment) for experiment in found], next=after)


@router.get("/experiments/{experiment_id}")
def get_experiment(experiment_id: str, hub: HubDep) -> ExperimentDetail:
    """One experiment with its arms, its devices, and what was known when."""
    with hub.database.read() as session:
        return view.detail(session, hub, _find(session, hub, experiment_id))


@router.post("/experiments/{experiment_id}/stop")
def stop_experiment(experiment_id: str, hub: HubDep) -> ExperimentDetail:
    """End it; every device goes on with the control alone."""

    def stop(session: Session, now: float) -> Experiment:
        experiment = _find(session, hub, experiment_id)
        controller.stop(session, hub, experiment, now)
        return experiment

    return _change(hub, stop)


@router.post("/experiments/{experiment_id}/promote")
def promote_experiment(experiment_id: str, body: PromoteIn, hub: HubDep) -> ExperimentDetail:
    """Roll its candidate out to its group: ``rollout`` names the rollout."""

    def promote(session: Session, now: float) -> Experiment:
        experiment = _find(session, hub, experiment_id)
        controller.promote(session, hub, experiment, body, now)
        return experiment

    shown = _change(hub, promote)
    hub.events.publish("rollout", str(shown.rollout))
    return shown


def _change(hub: Hub, change: Callable[[Session, float], Experiment]) -> ExperimentDetail:
    return changed(hub, change, view.detail, lambda shown: ("experiment", shown.id))


def _find(session: Session, hub: Hub, experiment_id: str) -> Experiment:
    experiment = session.get(Experiment, (hub.tenant, experiment_id))
    if experiment is None:
        raise not_found("experiment", experiment_id)
    return experiment
