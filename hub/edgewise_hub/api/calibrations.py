"""Calibrations of drift alarms: asked for, listed, and shown as a page."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from edgewise_hub.api.auth import HubDep
from edgewise_hub.api.errors import not_found
from edgewise_hub.api.jobs import job_out
from edgewise_hub.api.schemas import CalibrationIn, CalibrationOut, JobOut
from edgewise_hub.jobs.tables import Job
from edgewise_hub.monitoring import calibrations
from edgewise_hub.monitoring.calibration_page import page

router = APIRouter()


@router.post("/drift/calibrations", status_code=202)
def create_calibration(hub: HubDep, body: CalibrationIn) -> JobOut:
    """Measure on a model's own reference how often drift alarms are false and what they see. A job."""
    with hub.database.write() as session:
        job = calibrations.submit(session, hub, body.model, body.version, body.per_day, time.time())
    hub.events.publish("job", job.id)
    return job_out(job)


@router.get("/drift/calibrations")
def list_calibrations(hub: HubDep, model: Annotated[str | None, Query(max_length=64)] = None) -> list[CalibrationOut]:
    """The newest finished calibration of each model and version, by name and number."""
    with hub.database.read() as session:
        found = calibrations.newest(session, hub, model)
    return [_out(found[key]) for key in sorted(found)]


@router.get("/drift/calibrations/{job_id}")
def get_calibration(hub: HubDep, job_id: str) -> CalibrationOut:
    """One finished calibration, by its job."""
    return _out(_job(hub, job_id))


@router.get("/drift/calibrations/{job_id}/page", response_class=HTMLResponse)
def get_calibration_page(hub: HubDep, job_id: str) -> HTMLResponse:
    """The same as a self-contained page."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    return HTMLResponse(page(_job(hub, job_id).result or {}), headers={"Content-Security-Policy": policy})


def _job(hub: HubDep, job_id: str) -> Job:
    with hub.database.read() as session:
        job = session.get(Job, (hub.tenant, job_id))
    if job is None or job.kind != calibrations.KIND or job.state != "done":
        raise not_found("calibration", job_id)
    return job


def _out(job: Job) -> CalibrationOut:
    result = job.result or {}
    bundles = [{"digest": digest, **one} for digest, one in result["bundles"].items()]
    return CalibrationOut.model_validate(
        {
            "job": job.id,
            "model": result["model"],
            "version": result["version"],
            "at": result["at"],
            "per_day": job.payload["per_day"],
            "bundles": bundles,
        }
    )
