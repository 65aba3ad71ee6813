"""Calibrations as jobs: asked for, made each night where the hub is told to, and found again by whoever quotes one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from edgewise.errors import EdgewiseError
from edgewise_hub.hub import Hub
from edgewise_hub.jobs import executor
from edgewise_hub.jobs.tables import Job
from edgewise_hub.monitoring.tables import WindowRow
from edgewise_hub.registry.tables import Bundle, Model

KIND: executor.Kind = "calibrate"
DAY_S = 86400.0
DEVICE_PER_DAY = 300
"""Items a day of a device that has not reported yet."""
MAX_GROUP = 100_000


class CalibrationError(EdgewiseError):
    """What cannot be calibrated: ``no-bundle``."""

    code = "no-bundle"


def submit(session: Session, hub: Hub, model: str, version: int | None, per_day: int | None, now: float) -> Job:
    """A job that calibrates a version (None: the newest with bundles). ``per_day``: items a day of one device; None: as
    many as devices answered on average in the last day. Raises CalibrationError."""
    if version is None:
        version = session.scalar(
            select(func.max(Bundle.version)).where(Bundle.tenant_id == hub.tenant, Bundle.model == model)
        )
    known = version is not None and session.scalar(
        select(Bundle.digest)
        .where(Bundle.tenant_id == hub.tenant, Bundle.model == model, Bundle.version == version)
        .limit(1)
    )
    if not known:
        raise CalibrationError(f"{model}: no version that was compiled; compile one first")
    daily, devices = _traffic(session, hub, model, now)
    daily = per_day or daily
    payload = {
        "model": model,
        "version": version,
        "per_day": {"device": daily, "group": min(daily * max(devices, 10), MAX_GROUP)},
    }
    return executor.enqueue(session, hub, KIND, payload, now)


def newest(session: Session, hub: Hub, model: str | None = None) -> dict[tuple[str, int], Job]:
    """The newest calibration that was finished of each (model, version)."""
    rows = session.scalars(
        select(Job)
        .where(Job.tenant_id == hub.tenant, Job.kind == KIND, Job.state == "done")
        .order_by(Job.created_at, Job.id)
    )
    return {
        (job.payload["model"], job.payload["version"]): job
        for job in rows
        if model is None or job.payload["model"] == model
    }


def quote(session: Session, hub: Hub, model: str) -> dict[str, Any] | None:
    """What an alert says of the newest calibration of its model: the job, and the worst bundle's rate of false alarms,
    run length and whether its reference is large enough. None where there is none."""
    found = newest(session, hub, model)
    if not found:
        return None
    job = found[max(found)]
    bundles = [one for one in (job.result or {}).get("bundles", {}).values() if one.get("false_alarms")]
    if not bundles:
        return None
    worst = max(bundles, key=lambda one: one["false_alarms"]["rate"])
    return {
        "job": job.id,
        "version": job.payload["version"],
        "at": job.finished_at,
        "profile": worst["profile"],
        "false_alarms": worst["false_alarms"],
        "promise": worst["promise"],
        "run_length": worst["run_length"],
        "enough": all(one["enough"] for one in bundles),
        "words": worst["words"],
    }


def tick(hub: Hub, now: float) -> None:
    """Where the hub calibrates each night: a job for each model whose newest version has none from the last day.

    ``now``: Unix seconds; the hour is the hub's setting, in UTC.
    """
    hour = hub.settings.calibrate_hour
    if hour is None or int(now % DAY_S // 3600) != hour:
        return
    with hub.database.read() as session:
        models = session.scalars(select(Model.name).where(Model.tenant_id == hub.tenant)).all()
        recent = select(Job.payload).where(
            Job.tenant_id == hub.tenant, Job.kind == KIND, Job.created_at > now - DAY_S / 2
        )
        asked = {payload["model"] for payload in session.scalars(recent)}
    for model in sorted(set(models) - asked):
        with hub.database.write() as session:
            try:
                submit(session, hub, model, None, None, now)
            except CalibrationError:
                continue  # nothing of it was compiled yet


def _traffic(session: Session, hub: Hub, model: str, now: float) -> tuple[int, int]:
    """(items a device, devices) of the last day."""
    rows = session.execute(
        select(WindowRow.device_id, WindowRow.counters).where(
            WindowRow.tenant_id == hub.tenant, WindowRow.model == model, WindowRow.received_at > now - DAY_S
        )
    )
    counted: dict[str, int] = {}
    for device, counters in rows:
        counted[device] = counted.get(device, 0) + int(counters.get("inferences", 0))
    if not counted:
        return DEVICE_PER_DAY, 0
    return max(1, sum(counted.values()) // len(counted)), len(counted)
