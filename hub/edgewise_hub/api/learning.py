"""Sample requests, training runs and triggers."""

from __future__ import annotations

import time
import uuid

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise_hub.api import schemas
from edgewise_hub.api.auth import HubDep
from edgewise_hub.api.errors import not_found
from edgewise_hub.api.jobs import job_out
from edgewise_hub.api.pages import Cursor, Limit, page
from edgewise_hub.fleet import desired
from edgewise_hub.hub import Hub
from edgewise_hub.jobs import submit
from edgewise_hub.jobs.tables import Job
from edgewise_hub.learning import options, runs, samples
from edgewise_hub.learning.tables import SampleRequestRow, TrainingRun, Trigger

router = APIRouter()


@router.post("/sample-requests", status_code=201)
def create_sample_request(hub: HubDep, body: schemas.SampleRequestIn) -> schemas.SampleRequestOut:
    """Ask a group's devices for labelled samples. Only devices whose owner consented send any, within both budgets."""
    with hub.database.write() as session:
        request = samples.create(session, hub, body, time.time())
        shown = samples.summary(session, hub, request)
    desired.publish_pending(hub)
    hub.events.publish("sample-request", request.id)
    return shown


@router.get("/sample-requests")
def list_sample_requests(
    hub: HubDep, cursor: Cursor = None, limit: Limit = 50
) -> schemas.Page[schemas.SampleRequestOut]:
    """Sample requests, newest first."""
    table = SampleRequestRow
    with hub.database.read() as session:
        rows, after = page(
            session, select(table).where(table.tenant_id == hub.tenant), (table.created_at, table.id), cursor, limit
        )
        return schemas.Page(items=[samples.summary(session, hub, row) for row in rows], next=after)


@router.get("/sample-requests/{request_id}")
def get_sample_request(hub: HubDep, request_id: str) -> schemas.SampleRequestOut:
    """One sample request, with what has come."""
    with hub.database.read() as session:
        return samples.summary(session, hub, _sample_request(session, hub, request_id))


@router.post("/sample-requests/{request_id}/close")
def close_sample_request(hub: HubDep, request_id: str) -> schemas.SampleRequestOut:
    """Take no more samples for this request."""
    with hub.database.write() as session:
        request = _sample_request(session, hub, request_id)
        samples.close(session, hub, request, time.time())
        shown = samples.summary(session, hub, request)
    desired.publish_pending(hub)
    hub.events.publish("sample-request", request_id)
    return shown


@router.post("/training-runs", status_code=202)
def create_training_run(hub: HubDep, body: schemas.TrainingRunIn) -> schemas.TrainingRunOut:
    """Train a version: from scratch, or from a parent with rehearsal."""
    with hub.database.write() as session:
        run = runs.create(session, hub, body, time.time())
        shown = run_out(session, hub, run)
    hub.events.publish("training-run", run.id)
    return shown


@router.get("/training-runs")
def list_training_runs(
    hub: HubDep, model: str | None = None, cursor: Cursor = None, limit: Limit = 50
) -> schemas.Page[schemas.TrainingRunOut]:
    """Training runs, newest first."""
    rows = select(TrainingRun).where(TrainingRun.tenant_id == hub.tenant)
    if model is not None:
        rows = rows.where(TrainingRun.model == model)
    with hub.database.read() as session:
        found, after = page(session, rows, (TrainingRun.created_at, TrainingRun.id), cursor, limit)
        return schemas.Page(items=[run_out(session, hub, run) for run in found], next=after)


@router.get("/training-runs/{run_id}")
def get_training_run(hub: HubDep, run_id: str) -> schemas.TrainingRunOut:
    """One training run."""
    with hub.database.read() as session:
        run = session.get(TrainingRun, (hub.tenant, run_id))
        if run is None:
            raise not_found("training run", run_id)
        return run_out(session, hub, run)


@router.post("/triggers", status_code=201)
def create_trigger(hub: HubDep, body: schemas.TriggerIn) -> schemas.TriggerOut:
    """When drift harms a group and enough labelled samples of it are there: train, and roll out."""
    options.read(body.config)
    submit.check_profiles(hub, body.profiles)
    trigger = Trigger(
        tenant_id=hub.tenant,
        id=uuid.uuid4().hex[:16],
        model=body.model,
        on=body.on,
        min_samples=body.min_samples,
        strategy=body.strategy,
        config=body.config,
        profiles=list(body.profiles),
        rollout=body.rollout.model_dump() if body.rollout else None,
        enabled=True,
        created_at=time.time(),
    )
    with hub.database.write() as session:
        session.add(trigger)
    return trigger_out(trigger)


@router.get("/triggers")
def list_triggers(hub: HubDep, cursor: Cursor = None, limit: Limit = 50) -> schemas.Page[schemas.TriggerOut]:
    """Triggers, newest first."""
    rows = select(Trigger).where(Trigger.tenant_id == hub.tenant)
    with hub.database.read() as session:
        found, after = page(session, rows, (Trigger.created_at, Trigger.id), cursor, limit)
    return schemas.Page(items=[trigger_out(trigger) for trigger in found], next=after)


@router.delete("/triggers/{trigger_id}", status_code=204)
def delete_trigger(hub: HubDep, trigger_id: str) -> None:
    """Remove a trigger; runs that it started go on."""
    with hub.database.write() as session:
        trigger = session.get(Trigger, (hub.tenant, trigger_id))
        if trigger is None:
            raise not_found("trigger", trigger_id)
        session.delete(trigger)


def run_out(session: Session, hub: Hub, run: TrainingRun) -> schemas.TrainingRunOut:
    """A training run as the API shows it, with the job at hand."""
    job = session.get(Job, (hub.tenant, run.job_id)) if run.job_id else None
    return schemas.TrainingRunOut.model_validate(
        {
            "id": run.id,
            "model": run.model,
            "strategy": run.strategy,
            "parent_version": run.parent_version,
            "state": run.state,
            "reason": run.reason,
            "comparison": run.comparison.get("slices", []),
            "version": run.version,
            "job": job_out(job) if job else None,
            "trigger": run.trigger_id,
            "rollout": run.rollout_id,
            "created_at": run.created_at,
            "finished_at": run.finished_at,
        }
    )


def trigger_out(trigger: Trigger) -> schemas.TriggerOut:
    """A trigger as the API shows it."""
    return schemas.TriggerOut(
        id=trigger.id,
        model=trigger.model,
        on=trigger.on,
        min_samples=trigger.min_samples,
        strategy=trigger.strategy,
        enabled=trigger.enabled,
        fired_at=trigger.fired_at,
        created_at=trigger.created_at,
    )


def _sample_request(session: Session, hub: Hub, request_id: str) -> SampleRequestRow:
    request = session.get(SampleRequestRow, (hub.tenant, request_id))
    if request is None:
        raise not_found("sample request", request_id)
    return request
