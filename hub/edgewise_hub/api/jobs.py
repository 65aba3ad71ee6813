"""Compiles and jobs."""

from __future__ import annotations

import time

from fastapi import APIRouter
from sqlalchemy import select

from edgewise_hub.api import schemas
from edgewise_hub.api.auth import HubDep
from edgewise_hub.api.errors import not_found
from edgewise_hub.api.pages import Cursor, Limit, page
from edgewise_hub.jobs import submit
from edgewise_hub.jobs.tables import Job
from edgewise_hub.registry.tables import Version

router = APIRouter()


@router.post("/compiles", status_code=202)
def create_compile(hub: HubDep, body: schemas.CompileIn) -> schemas.JobOut:
    """Compile one version for several device profiles, as one job."""
    with hub.database.write() as session:
        if session.get(Version, (hub.tenant, body.model, body.version)) is None:
            raise not_found("version", f"{body.model}/{body.version}")
        wishes = submit.Wishes(
            budget=None if body.budget is None else body.budget.model_dump(exclude_none=True),
            training=body.training,
            allow_over_budget=body.allow_over_budget,
            techniques={} if body.techniques is None else body.techniques.model_dump(exclude_none=True),
        )
        job = submit.compilation(session, hub, body.model, body.version, body.profiles, time.time(), wishes)
    hub.events.publish("job", job.id)
    return job_out(job)


@router.get("/jobs")
def list_jobs(hub: HubDep, cursor: Cursor = None, limit: Limit = 50) -> schemas.Page[schemas.JobOut]:
    """Jobs, newest first."""
    with hub.database.read() as session:
        rows, after = page(
            session, select(Job).where(Job.tenant_id == hub.tenant), (Job.created_at, Job.id), cursor, limit
        )
    return schemas.Page(items=[job_out(job) for job in rows], next=after)


@router.get("/jobs/{job_id}")
def get_job(hub: HubDep, job_id: str) -> schemas.JobOut:
    """One job."""
    with hub.database.read() as session:
        job = session.get(Job, (hub.tenant, job_id))
    if job is None:
        raise not_found("job", job_id)
    return job_out(job)


def job_out(job: Job) -> schemas.JobOut:
    """A job as the API shows it."""
    return schemas.JobOut.model_validate(
        {
            "id": job.id,
            "kind": job.kind,
            "state": job.state,
            "progress": job.progress,
            "progress_text": job.progress_text,
            "result": job.result,
            "error": job.error,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "finished_at": job.finished_at,
        }
    )
