"""Experiments acted on: made, moved at each tick, stopped, promoted. What decides is ``decide``.

Rules that hold here:
- windows that are counted, the evidence that they add to, the decision and the desired states that follow from it are
  one transaction: a window counts once, whatever crashes;
- an experiment that ends leaves every device with the control alone, whoever won: what comes next is a rollout;
- one experiment or rollout a model and device at a time;
- a device that comes into the group, or gets what it lacked, takes part from the next tick on; one that leaves, no
  more.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise.errors import EdgewiseError
from edgewise.wire.experiment import Sums, merge
from edgewise_hub.api.schemas import ExperimentIn, PromoteIn, RolloutIn
from edgewise_hub.experiments import members
from edgewise_hub.experiments.assign import arm_of_device
from edgewise_hub.experiments.decide import Decision, Devices, decide
from edgewise_hub.experiments.errors import ExperimentError
from edgewise_hub.experiments.evidence import Evidence
from edgewise_hub.experiments.observe import Measured, observe
from edgewise_hub.experiments.plan import Plan, make_plan
from edgewise_hub.experiments.tables import Experiment, ExperimentDevice, ExperimentWindow
from edgewise_hub.fleet import desired, groups
from edgewise_hub.fleet.tables import DesiredState
from edgewise_hub.hub import Hub
from edgewise_hub.registry.tables import Model, Version
from edgewise_hub.rollouts import assignments
from edgewise_hub.rollouts import controller as rollouts
from edgewise_hub.rollouts.conflicts import open_rollout, running_experiment
from edgewise_hub.rollouts.tables import Rollout

log = logging.getLogger(__name__)

MAX_WINDOWS = 2000
"""Counted a tick and experiment; the rest waits for the next."""
MAX_POINTS = 200
"""Kept of what was known when: at more, every second one goes."""


def create(session: Session, hub: Hub, body: ExperimentIn, now: float) -> Experiment:
    """Start an experiment; its devices are told in this transaction: call ``desired.publish_pending`` after the commit.

    Raises ExperimentError, with a code that it lists.
    """
    plan = make_plan(body)
    control = body.control if body.control is not None else _control(session, hub, body)
    for version in (control, body.candidate):
        _check_version(session, hub, body.model, version)
    if control == body.candidate:
        raise ExperimentError(
            f"{body.model}: version {control} is what the devices run; compare it with another", code="bad-plan"
        )
    experiment_id = secrets.token_hex(8)
    found = members.find(
        session,
        hub,
        experiment=experiment_id,
        model=body.model,
        group=body.group,
        control=control,
        candidate=body.candidate,
        share=1.0,
    )
    if not found.able:
        raise ExperimentError(
            f"none of {found.left_out} devices runs version {control} of {body.model} and has a bundle of version "
            f"{body.candidate}; roll {control} out, or compile {body.candidate} for their profiles",
            code="not-compiled",
        )
    _check_alone(session, hub, body.model, body.group, found.able)
    experiment = Experiment(
        tenant_id=hub.tenant,
        id=experiment_id,
        model=body.model,
        kind=body.policy.kind,
        group=body.group,
        control=control,
        candidate=body.candidate,
        plan=plan.to_json(),
        state="running",
        decision="continue",
        reason="waiting for the devices",
        evidence=msgspec.msgpack.encode(Evidence.start(plan)),
        result={},
        history=[],
        rollout_id=None,
        created_at=now,
        updated_at=now,
        ended_at=None,
    )
    session.add(experiment)
    session.flush()
    _welcome(session, hub, experiment, now)
    return experiment


def stop(session: Session, hub: Hub, experiment: Experiment, now: float) -> None:
    """End it by hand; call ``desired.publish_pending`` after the commit. Raises ExperimentError
    (``experiment-over``)."""
    if experiment.state != "running":
        raise ExperimentError(
            f"experiment {experiment.id} has ended already: {experiment.decision}", code="experiment-over"
        )
    _end(session, hub, experiment, "stopped", "stopped by hand", now)


def promote(session: Session, hub: Hub, experiment: Experiment, body: PromoteIn, now: float) -> Rollout:
    """End it and roll its candidate out to its group; publish after the commit. Raises ExperimentError (``not-proved``
    where the candidate did not win and nobody insists, ``bad-plan`` for a server) or RolloutError."""
    if experiment.candidate is None:
        raise ExperimentError(
            f"experiment {experiment.id} compares with a server: nothing to roll out", code="bad-plan"
        )
    if experiment.rollout_id is not None:
        raise ExperimentError(
            f"experiment {experiment.id} was promoted already, by rollout {experiment.rollout_id}",
            code="experiment-over",
        )
    if experiment.decision not in ("candidate-wins", "no-difference") and not body.force:
        raise ExperimentError(
            f"experiment {experiment.id}: {experiment.decision}, {experiment.reason}; wait for the candidate to win, "
            "or force it",
            code="not-proved",
        )
    if experiment.state == "running":
        _end(session, hub, experiment, "stopped", "promoted by hand", now)
    rollout = rollouts.create(
        session,
        hub,
        RolloutIn(
            model=experiment.model,
            version=experiment.candidate,
            group=experiment.group,
            stages=body.stages,
            gates=body.gates,
        ),
        now,
    )
    experiment.rollout_id, experiment.updated_at = rollout.id, now
    return rollout


def tick(hub: Hub, now: float) -> None:
    """Move every running experiment. ``now``: Unix seconds."""
    with hub.database.read() as session:
        running = list(
            session.scalars(
                select(Experiment.id)
                .where(Experiment.tenant_id == hub.tenant, Experiment.state == "running")
                .order_by(Experiment.created_at)
            )
        )
    for experiment_id in running:
        try:
            _step(hub, experiment_id, now)
        except EdgewiseError:
            log.exception("experiment %s cannot be judged; the others go on", experiment_id)


def _step(hub: Hub, experiment_id: str, now: float) -> None:
    """Welcome, count and judge, where there is anything to."""
    with hub.database.read() as session:
        experiment = session.get(Experiment, (hub.tenant, experiment_id))
        if experiment is None or experiment.state != "running":
            return
        moved = _moved(session, hub, experiment)
        if not any(moved) and not _waiting(session, hub, experiment, 1) and not _failing(session, hub, experiment):
            return
    with hub.database.write() as session:
        experiment = session.get(Experiment, (hub.tenant, experiment_id))
        if experiment is None or experiment.state != "running":
            return
        _welcome(session, hub, experiment, now)
        evidence = _count(session, hub, experiment)
        _judge(session, hub, experiment, evidence, now)
    desired.publish_pending(hub)
    hub.events.publish("experiment", experiment_id)


def _moved(session: Session, hub: Hub, experiment: Experiment) -> tuple[list[str], list[str]]:
    """(joined, left) since the last look."""
    able = members.now(session, hub, experiment).able
    there = {row.device_id for row in members.rows(session, hub, experiment.id) if row.left_at is None}
    return [device for device in able if device not in there], sorted(there - set(able))


def _welcome(session: Session, hub: Hub, experiment: Experiment, now: float) -> None:
    """Tell who joined or left."""
    joined, left = _moved(session, hub, experiment)
    for device in joined:
        row = session.get(ExperimentDevice, (hub.tenant, experiment.id, device))
        if row is None:
            row = ExperimentDevice(
                tenant_id=hub.tenant,
                experiment_id=experiment.id,
                device_id=device,
                joined_at=now,
                sums=b"",
                measured=b"",
            )
            session.add(row)
        row.left_at = None
    for device in left:
        row = session.get(ExperimentDevice, (hub.tenant, experiment.id, device))
        assert row is not None, "it took part"
        row.left_at = now
    desired.refresh(session, hub, [*joined, *left], now)
    for device in joined:
        row = session.get(ExperimentDevice, (hub.tenant, experiment.id, device))
        state = session.get(DesiredState, (hub.tenant, device))
        if row is not None and row.generation is None and state is not None:
            row.generation = state.generation


def _waiting(session: Session, hub: Hub, experiment: Experiment, most: int) -> list[ExperimentWindow]:
    """Windows that are not counted yet, in the order in which they came."""
    return list(
        session.scalars(
            select(ExperimentWindow)
            .where(
                ExperimentWindow.tenant_id == hub.tenant,
                ExperimentWindow.experiment_id == experiment.id,
                ExperimentWindow.counted.is_(False),
            )
            .order_by(
                ExperimentWindow.received_at,
                ExperimentWindow.device_id,
                ExperimentWindow.epoch,
                ExperimentWindow.first,
            )
            .limit(most)
        )
    )


def _count(session: Session, hub: Hub, experiment: Experiment) -> Evidence:
    """Take the windows that wait into the evidence."""
    plan = Plan.from_json(experiment.plan)
    evidence = msgspec.msgpack.decode(experiment.evidence, type=Evidence)
    for window in _waiting(session, hub, experiment, MAX_WINDOWS):
        window.counted = True
        row = session.get(ExperimentDevice, (hub.tenant, experiment.id, window.device_id))
        assert row is not None, "its windows are refused otherwise"
        sums = msgspec.msgpack.decode(window.sums, type=Sums)
        measured = msgspec.msgpack.decode(row.measured, type=Measured) if row.measured else Measured()
        before = msgspec.msgpack.decode(row.sums, type=Sums) if row.sums else Sums()
        measured, values = observe(plan, measured, sums, evidence.level)
        evidence.take(plan, values)
        evidence.sums = merge(evidence.sums, sums)
        row.sums, row.measured = msgspec.msgpack.encode(merge(before, sums)), msgspec.msgpack.encode(measured)
    experiment.evidence = msgspec.msgpack.encode(evidence)
    return evidence


def _judge(session: Session, hub: Hub, experiment: Experiment, evidence: Evidence, now: float) -> None:
    """Decide, and carry it out."""
    session.flush()
    decision = decide(Plan.from_json(experiment.plan), evidence, _devices(session, hub, experiment))
    experiment.decision, experiment.reason = decision.verdict, decision.reason
    experiment.result, experiment.updated_at = _shown(decision), now
    if decision.effect is not None and decision.low is not None and decision.high is not None:
        point = [now, decision.n, decision.effect, decision.low, decision.high]
        kept = list(experiment.history)
        if len(kept) >= MAX_POINTS:
            kept = kept[::2]
        experiment.history = [*kept, point] if not kept or kept[-1][1] != decision.n else kept
    if decision.verdict != "continue":
        _end(session, hub, experiment, decision.verdict, decision.reason, now)


def _shown(decision: Decision) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(decision)
    return {name: shown[name] for name in ("effect", "low", "high", "n", "items")}


def _devices(session: Session, hub: Hub, experiment: Experiment) -> Devices:
    plan = Plan.from_json(experiment.plan)
    rows = members.rows(session, hub, experiment.id)
    standings = members.standings(session, hub, experiment, rows)
    arms = Counter(
        "candidate" if _answered(row, plan.role) else "active"
        for row in rows
        if row.measured and arm_of_device(plan, experiment.id, row.device_id) is not None
    )
    return Devices(told=len(rows), failed=sum(found.state == "failed" for found in standings.values()), arms=dict(arms))


def _answered(row: ExperimentDevice, role: str | None) -> bool:
    """Did the candidate answer requests on this device?"""
    arms = msgspec.msgpack.decode(row.sums, type=Sums).arms
    return any(name == role and arm.requests for name, arm in arms.items())


def _failing(session: Session, hub: Hub, experiment: Experiment) -> bool:
    """Has the candidate failed on devices, beyond the guardrail?"""
    devices = _devices(session, hub, experiment)
    return devices.failed > Plan.from_json(experiment.plan).max_failed * devices.told


def _end(session: Session, hub: Hub, experiment: Experiment, decision: str, reason: str, now: float) -> None:
    """Back to the control, everywhere."""
    experiment.state, experiment.decision, experiment.reason = "ended", decision, reason
    experiment.updated_at = experiment.ended_at = now
    session.flush()
    taking = [row.device_id for row in members.rows(session, hub, experiment.id) if row.left_at is None]
    desired.refresh(session, hub, taking, now)


def _control(session: Session, hub: Hub, body: ExperimentIn) -> int:
    """What most of the group runs."""
    assigned = assignments.assigned(session, hub, body.model)
    runs = Counter(assigned[d] for d in groups.members(session, hub, body.group) if d in assigned)
    if not runs:
        where = "no device" if body.group is None else f"no device of group {body.group}"
        raise ExperimentError(f"{where} runs {body.model}; roll a version out first", code="no-devices")
    return runs.most_common(1)[0][0]


def _check_version(session: Session, hub: Hub, model: str, number: int | None) -> None:
    if number is None:
        return
    version = session.get(Version, (hub.tenant, model, number))
    if version is None:
        raise ExperimentError(f"{model}: there is no version {number}; register it", code="unknown-version")
    found = session.get(Model, (hub.tenant, model))
    if found is not None and version.release < found.floor:
        raise ExperimentError(
            f"version {number} of {model} is below the floor, release {found.floor}: devices refuse it; register it "
            "again to get a new release",
            code="below-floor",
        )


def _check_alone(session: Session, hub: Hub, model: str, group: str | None, devices: list[str]) -> None:
    rollout = open_rollout(session, hub, model, group, devices)
    if rollout is not None:
        raise ExperimentError(
            f"rollout {rollout.id} of {model} to version {rollout.to_version} is {rollout.state} on some of these "
            "devices; wait for its end or abort it",
            code="rollout-running",
        )
    other = running_experiment(session, hub, model, group, devices)
    if other is not None:
        raise ExperimentError(
            f"experiment {other.id} of {model} runs on some of these devices; stop it first", code="experiment-running"
        )
