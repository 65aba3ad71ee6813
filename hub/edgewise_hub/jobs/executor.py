"""Jobs are durable rows, taken by workers under a lease.

Rules that hold here:
- to submit a job is to write a row: nothing is lost when whoever wrote it dies;
- a worker holds a job for ``LEASE_S`` and renews every ``RENEW_S``; a worker that is gone lets the lease lapse and the
  job is taken again, at most ``MAX_ATTEMPTS`` times in all;
- each taking has a lease of its own name, and a result is saved in the transaction that checks the lease: of two
  workers on one job only one can finish it, so a result counts once.

Every function works inside the caller's write transaction and is given the time.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from edgewise.errors import EdgewiseError
from edgewise_hub.hub import Hub
from edgewise_hub.jobs.tables import Job

LEASE_S = 60.0
RENEW_S = 15.0
MAX_ATTEMPTS = 3
MAX_DETAIL = 500

Kind = Literal["train", "compile", "calibrate"]


class LeaseLost(EdgewiseError):
    """The job is somebody else's by now, or is over: what this worker made must not be saved."""

    code = "lease-lost"


@dataclass(frozen=True)
class Lease:
    """One taking of one job. ``name`` is in the row as long as the job is held."""

    job_id: str
    name: str


class Executor(Protocol):
    """What works the rows: local processes here, a cluster elsewhere. Submitting is ``enqueue``, no method of this."""

    def start(self) -> None:
        """Begin to take jobs."""

    def stop(self) -> None:
        """Take no more; what runs goes back to the queue."""


def enqueue(session: Session, hub: Hub, kind: Kind, payload: dict[str, Any], now: float) -> Job:
    """Submit a job. ``payload`` is JSON."""
    job = Job(
        tenant_id=hub.tenant, id=uuid.uuid4().hex[:16], kind=kind, payload=payload, state="queued", created_at=now
    )
    session.add(job)
    session.flush()
    return job


def take(session: Session, hub: Hub, now: float) -> Lease | None:
    """Take the oldest job that waits or whose lease has lapsed. One that has had its attempts fails instead."""
    lapsed = and_(Job.state == "running", Job.lease_until < now)
    waiting = (
        select(Job)
        .where(Job.tenant_id == hub.tenant, or_(Job.state == "queued", lapsed))
        .order_by(Job.created_at, Job.id)
        .with_for_update(skip_locked=True)
    )
    for job in session.scalars(waiting):
        if job.attempts >= MAX_ATTEMPTS:
            _end(job, now, error=_error("job-crashed", f"taken {job.attempts} times, and no worker finished it"))
            continue
        lease = Lease(job.id, uuid.uuid4().hex)
        job.state, job.worker, job.lease_until = "running", lease.name, now + LEASE_S
        job.attempts += 1
        job.started_at = now
        job.progress, job.progress_text = 0.0, ""
        return lease
    return None


def held(session: Session, hub: Hub, lease: Lease) -> Job:
    """The job, if the lease still holds it. A lapsed lease holds until somebody else takes the job.

    Raises LeaseLost.
    """
    job = session.get(Job, (hub.tenant, lease.job_id), with_for_update=True)
    if job is None or job.state != "running" or job.worker != lease.name:
        raise LeaseLost(f"job {lease.job_id}: expected it to be held by this worker, but it was taken again or is over")
    return job


def renew(session: Session, hub: Hub, lease: Lease, now: float) -> None:
    """Hold the job for another LEASE_S. Raises LeaseLost."""
    held(session, hub, lease).lease_until = now + LEASE_S


def set_progress(session: Session, hub: Hub, lease: Lease, fraction: float, text: str) -> None:
    """``fraction`` 0..1 and what is being done, in words. Raises LeaseLost."""
    job = held(session, hub, lease)
    job.progress, job.progress_text = min(max(fraction, 0.0), 1.0), text[:200]


def finish(session: Session, hub: Hub, lease: Lease, result: dict[str, Any], now: float) -> None:
    """Save the result; call it in the transaction that saves what the job made. Raises LeaseLost."""
    job = held(session, hub, lease)
    job.progress = 1.0
    _end(job, now, result=result)


def fail(session: Session, hub: Hub, lease: Lease, code: str, detail: str, now: float) -> None:
    """Give the job up: trying again would fail again. Raises LeaseLost."""
    _end(held(session, hub, lease), now, error=_error(code, detail))


def give_back(session: Session, hub: Hub, lease: Lease, now: float, *, crashed: str | None = None) -> None:
    """Let the job be taken again at once. ``crashed``: why its worker died, which spends an attempt.

    Raises LeaseLost.
    """
    job = held(session, hub, lease)
    if crashed is None:
        job.attempts -= 1
    elif job.attempts >= MAX_ATTEMPTS:
        _end(job, now, error=_error("job-crashed", crashed))
        return
    job.state, job.worker, job.lease_until = "queued", None, None


def _end(job: Job, now: float, *, result: dict[str, Any] | None = None, error: dict[str, str] | None = None) -> None:
    job.state = "done" if error is None else "failed"
    job.result, job.error = result, error
    job.worker, job.lease_until = None, None
    job.finished_at = now


def _error(code: str, detail: str) -> dict[str, str]:
    line = " ".join(detail.split())
    return {"code": code, "detail": line if len(line) <= MAX_DETAIL else line[: MAX_DETAIL - 1] + "…"}
