"""Training runs: created as a row with a train job, then moved on, tick by tick, by what their jobs' rows say.

    train job done, accepted -> compile job -> rollout (where planned) -> accepted
    train job done, rejected -> rejected                 any job failed -> failed

Rules that hold here:
- each step is one transaction that reads and writes rows only: a hub killed anywhere goes on where it was;
- ``job_id`` names the job at hand, first the train job, then the compile job;
- torch and the compiler live in the jobs' processes, never here.
"""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise_hub.api import schemas
from edgewise_hub.fleet.tables import Assignment, Device, Membership
from edgewise_hub.hub import Hub
from edgewise_hub.jobs import executor, submit
from edgewise_hub.jobs.submit import JobError
from edgewise_hub.jobs.tables import Job
from edgewise_hub.learning import options
from edgewise_hub.learning.errors import LearningError
from edgewise_hub.learning.tables import SampleRequestRow, TrainingRun, Trigger
from edgewise_hub.registry.tables import Version
from edgewise_hub.rollouts import controller
from edgewise_hub.rollouts.errors import RolloutError

UNFINISHED = ("queued", "running")
WAITING = "; waits for another rollout or experiment of the model to end"


def create(
    session: Session, hub: Hub, body: schemas.TrainingRunIn, now: float, trigger: Trigger | None = None
) -> TrainingRun:
    """A training run and its train job. What ``body`` leaves out comes from the parent: by default the version that
    most devices serve (strategy ``rehearsal``). Raises LearningError, JobError, BlobError."""
    options.read(body.config)
    submit.check_profiles(hub, body.profiles)
    parent = _parent(session, hub, body)
    recipe = body.recipe or (parent.source.get("recipe") if parent else None)
    if recipe is None:
        raise LearningError(
            f"{body.model}: expected a recipe, or a parent version made by one; upload the recipe and name its sha256",
            code="no-recipe",
        )
    hub.blobs.path(recipe)
    if body.strategy == "rehearsal":
        _check_request(session, hub, body)
    run = TrainingRun(
        tenant_id=hub.tenant,
        id=uuid.uuid4().hex[:16],
        model=body.model,
        strategy=body.strategy,
        recipe=recipe,
        config={**(parent.source.get("config", {}) if parent else {}), **body.config},
        parent_version=parent.version if parent else None,
        sample_request_id=body.sample_request,
        trigger_id=trigger.id if trigger else None,
        profiles=list(body.profiles),
        rollout=body.rollout.model_dump() if body.rollout else None,
        note=body.note,
        state="queued",
        comparison={},
        created_at=now,
    )
    run.job_id = executor.enqueue(session, hub, "train", {"run": run.id}, now).id
    session.add(run)
    session.flush()
    return run


def serving_version(session: Session, hub: Hub, model: str, group: str | None = None) -> int | None:
    """The version of ``model`` that most devices (of ``group``) are assigned, the newer of two equals, or None."""
    versions = (
        select(Assignment.version)
        .join(Device, (Device.tenant_id == Assignment.tenant_id) & (Device.id == Assignment.device_id))
        .where(Assignment.tenant_id == hub.tenant, Assignment.model == model, Device.revoked_at.is_(None))
    )
    if group is not None:
        versions = versions.join(
            Membership, (Membership.tenant_id == Device.tenant_id) & (Membership.device_id == Device.id)
        ).where(Membership.group == group)
    counts = Counter(session.scalars(versions))
    return max(counts, key=lambda version: (counts[version], version), default=None)


def serving_profiles(session: Session, hub: Hub, model: str) -> list[str]:
    """Profiles of the devices that are assigned ``model``, by name."""
    profiles = (
        select(Device.profile)
        .join(Assignment, (Assignment.tenant_id == Device.tenant_id) & (Assignment.device_id == Device.id))
        .where(Assignment.tenant_id == hub.tenant, Assignment.model == model, Device.revoked_at.is_(None))
        .distinct()
        .order_by(Device.profile)
    )
    return list(session.scalars(profiles))


def tick(hub: Hub, now: float) -> None:
    """Move every unfinished run on by at most one step, each in a transaction of its own."""
    with hub.database.read() as session:
        due = [run.id for run in unfinished(session, hub) if _is_due(run, _job(session, hub, run))]
    for identifier in due:
        with hub.database.write() as session:
            run = session.get_one(TrainingRun, (hub.tenant, identifier), with_for_update=True)
            before = (run.state, run.reason, run.job_id)
            job = _job(session, hub, run)
            if _is_due(run, job):
                _advance(session, hub, run, job, now)
        if (run.state, run.reason, run.job_id) != before:
            hub.events.publish("training-run", identifier)
        if run.rollout_id is not None:
            hub.events.publish("rollout", run.rollout_id)


def unfinished(session: Session, hub: Hub, model: str | None = None) -> list[TrainingRun]:
    """Runs that are not over, oldest first."""
    rows = select(TrainingRun).where(TrainingRun.tenant_id == hub.tenant, TrainingRun.state.in_(UNFINISHED))
    if model is not None:
        rows = rows.where(TrainingRun.model == model)
    return list(session.scalars(rows.order_by(TrainingRun.created_at, TrainingRun.id)))


def _is_due(run: TrainingRun, job: Job | None) -> bool:
    """Is there a step to take?"""
    if run.state not in UNFINISHED:
        return False
    return job is None or job.state in ("done", "failed") or (job.state == "running" and run.state == "queued")


def _advance(session: Session, hub: Hub, run: TrainingRun, job: Job | None, now: float) -> None:
    if job is None:
        _end(run, "failed", "its job is gone", now)
    elif job.state == "running":
        run.state = "running"
    elif job.state == "failed":
        error: dict[str, Any] = job.error or {}
        done = f"version {run.version} was trained, but not compiled: " if run.version is not None else ""
        _end(run, "failed", f"{done}{error.get('code')}: {error.get('detail')}", now)
    elif job.kind == "train" and not (job.result or {}).get("accepted"):
        _end(run, "rejected", run.reason, now)
    elif job.kind == "train":
        _compile(session, hub, run, now)
    else:
        _roll_out(session, hub, run, now)


def _compile(session: Session, hub: Hub, run: TrainingRun, now: float) -> None:
    run.state = "running"
    profiles = run.profiles or serving_profiles(session, hub, run.model)
    if not profiles:
        _end(run, "accepted", f"{run.reason}; not compiled, since no profile was named and no device serves it", now)
        return
    assert run.version is not None  # an accepted train job saved it, in the same transaction
    try:
        run.job_id = submit.compilation(session, hub, run.model, run.version, profiles, now).id
    except JobError as error:
        _end(run, "failed", f"version {run.version} was trained, but not compiled: {error}", now)


def _roll_out(session: Session, hub: Hub, run: TrainingRun, now: float) -> None:
    """Start the planned rollout, once no other, and no experiment, is on its way there. Where it cannot start, the
    version stands and the reason says why."""
    if run.rollout is None:
        _end(run, "accepted", run.reason, now)
        return
    learned = run.reason.removesuffix(WAITING)
    body = schemas.RolloutIn.model_validate({**run.rollout, "model": run.model, "version": run.version})
    try:
        with session.begin_nested():
            run.rollout_id = controller.create(session, hub, body, now).id
    except RolloutError as error:
        if error.code in ("rollout-running", "experiment-running"):
            run.reason = learned + WAITING
            return
        _end(run, "accepted", f"{learned}; not rolled out: {error}", now)
        return
    _end(run, "accepted", learned, now)


def _end(run: TrainingRun, state: str, reason: str, now: float) -> None:
    run.state, run.reason, run.finished_at = state, reason[:2000], now


def _job(session: Session, hub: Hub, run: TrainingRun) -> Job | None:
    return session.get(Job, (hub.tenant, run.job_id)) if run.job_id else None


def _parent(session: Session, hub: Hub, body: schemas.TrainingRunIn) -> Version | None:
    number = body.parent_version
    if number is None and body.strategy == "rehearsal":
        number = serving_version(session, hub, body.model)
    if number is None:
        if body.strategy == "rehearsal":
            raise LearningError(
                f"rehearsal: expected a parent version, and no device serves {body.model}; name parent_version",
                code="no-parent",
            )
        return None
    parent = session.get(Version, (hub.tenant, body.model, number))
    if parent is None:
        raise LearningError(f"{body.model} version {number}: there is none", code="no-parent")
    if parent.source["kind"] != "recipe" and body.strategy == "rehearsal":
        raise LearningError(
            f"{body.model} version {number}: expected one made by a recipe, got {parent.source['kind']}",
            code="no-recipe",
        )
    return parent


def _check_request(session: Session, hub: Hub, body: schemas.TrainingRunIn) -> None:
    request = session.get(SampleRequestRow, (hub.tenant, body.sample_request)) if body.sample_request else None
    if request is None or request.model != body.model:
        raise LearningError(
            f"rehearsal: expected a sample request of {body.model}, got {body.sample_request!r}", code="no-samples"
        )
