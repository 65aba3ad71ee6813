"""Rollouts acted on: made, moved at each tick, paused, resumed, aborted. What decides is ``advance``.

Rules that hold here:
- a decision, the assignments that follow from it and the desired states made of them are one transaction; they are
  published after it, and by the next tick or start where a crash came between: a tick may be repeated at any point;
- windows are merged outside the write transaction, and a decision is dropped when the rollout changed meanwhile;
- going back is a new generation that names each device's own version of before;
- the floor rises only when a rollout completes, and never above a release that some device is still told to serve;
- a completed rollout goes on for whoever comes later: a device of its target without an assignment gets its version.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from edgewise.errors import EdgewiseError
from edgewise_hub.api.schemas import RolloutIn
from edgewise_hub.fleet import desired, groups
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.registry.releases import AGENT
from edgewise_hub.registry.tables import Model, Version
from edgewise_hub.rollouts import assignments, draw
from edgewise_hub.rollouts.advance import Decision, advance
from edgewise_hub.rollouts.conflicts import open_rollout, running_experiment
from edgewise_hub.rollouts.errors import RolloutError
from edgewise_hub.rollouts.gather import gather, rollout_devices, state_of
from edgewise_hub.rollouts.plan import Plan, make_plan
from edgewise_hub.rollouts.tables import Rollout, RolloutDevice, RolloutEvent

log = logging.getLogger(__name__)


def create(session: Session, hub: Hub, body: RolloutIn, now: float) -> Rollout:
    """Start a rollout. Its first stage is told in this transaction: call ``desired.publish_pending`` after the commit.

    Devices whose profile the version is not compiled for, or that are assigned it already, are left out.
    Raises RolloutError, with a code that it lists.
    """
    gates = body.gates
    if body.model == AGENT:  # a release of the agent has no windows: what it does to devices is whether they confirm it
        gates = gates.model_copy(update={"errors": None, "latency_ratio": None, "mix_distance": None})
    plan = make_plan(body.stages, gates)
    version = session.get(Version, (hub.tenant, body.model, body.version))
    if version is None:
        raise RolloutError(f"{body.model}: there is no version {body.version}; register it", code="unknown-version")
    _check_floor(session, hub, version)
    target = _target(session, hub, body.model, body.version, body.group)
    _check_no_other(session, hub, body, target)
    assigned = assignments.assigned(session, hub, body.model)
    fresh = [device for device in target if assigned.get(device) != body.version]
    if not fresh:
        raise RolloutError(
            f"all {len(target)} devices are assigned version {body.version} of {body.model}", code="already-assigned"
        )
    before = Counter(assigned[device] for device in fresh if device in assigned)
    rollout = Rollout(
        tenant_id=hub.tenant,
        id=secrets.token_hex(8),
        model=body.model,
        from_version=before.most_common(1)[0][0] if before else None,
        to_version=body.version,
        group=body.group,
        plan=plan.to_json(),
        state="running",
        stage=0,
        stage_started_at=now,
        reason="",
        evidence={"gates": [], "installed_at": None},
        created_at=now,
        updated_at=now,
    )
    session.add(rollout)
    places = {device: draw.place(rollout.id, device) for device in fresh}
    rows = [
        _drawn(rollout, device, places[device], stage, assigned.get(device))
        for device, stage in draw.assign(plan.stages, places).items()
    ]
    session.add_all(rows)
    told = assignments.tell(session, hub, rollout, rows, now)
    rollout.reason = f"told {len(told)} of {len(rows)} devices: {_names(told)}"
    _note(session, hub, rollout, "start", now)
    return rollout


def tick(hub: Hub, now: float) -> None:
    """Give newcomers their versions, and move every running rollout. ``now``: Unix seconds."""
    with hub.database.read() as session:
        newcomers = assignments.newcomers(session, hub)
        running = list(
            session.scalars(
                select(Rollout.id)
                .where(Rollout.tenant_id == hub.tenant, Rollout.state == "running")
                .order_by(Rollout.created_at)
            )
        )
    if newcomers:
        with hub.database.write() as session:
            assignments.welcome(session, hub, now)
    for rollout_id in running:
        try:
            _step(hub, rollout_id, now)
        except EdgewiseError:
            log.exception("rollout %s cannot be judged; the others go on", rollout_id)
    desired.publish_pending(hub)


def pause(session: Session, hub: Hub, rollout: Rollout, now: float) -> None:
    """Take no decision until ``resume``; what was told stays so. Raises RolloutError (``rollout-over``)."""
    _check_open(rollout)
    if rollout.state == "running":
        rollout.state, rollout.reason = "paused", "paused by hand"
        _note(session, hub, rollout, "pause", now)


def resume(session: Session, hub: Hub, rollout: Rollout, now: float) -> None:
    """Go on; the present stage gets its deadline anew, and keeps its evidence. Raises RolloutError."""
    _check_open(rollout)
    if rollout.state == "paused":
        rollout.state, rollout.reason, rollout.stage_started_at = "running", "resumed by hand", now
        _note(session, hub, rollout, "resume", now)


def abort(session: Session, hub: Hub, rollout: Rollout, now: float) -> None:
    """Take every device back; call ``desired.publish_pending`` after the commit. Raises RolloutError."""
    _check_open(rollout)
    rollout.state, rollout.reason = "aborted", "aborted by hand"
    assignments.take_back(session, hub, rollout, now)
    _note(session, hub, rollout, "abort", now)


def _step(hub: Hub, rollout_id: str, now: float) -> None:
    """Judge one rollout on a snapshot, then save what follows."""
    with hub.database.read() as session:
        rollout = session.get(Rollout, (hub.tenant, rollout_id))
        if rollout is None or rollout.state != "running":
            return
        rows = rollout_devices(session, hub, rollout_id)
        late = _late(session, hub, rollout, rows)
        decision = advance(state_of(rollout, [*rows, *late]), gather(session, hub, rollout, rows), now)
        seen = (rollout.stage, rollout.stage_started_at)
    if not late and not _is_news(rollout, decision):
        return
    with hub.database.write() as session:
        rollout = session.get(Rollout, (hub.tenant, rollout_id))
        if rollout is None or rollout.state != "running" or (rollout.stage, rollout.stage_started_at) != seen:
            return
        session.add_all(late)
        session.flush()
        _apply(session, hub, rollout, decision, now)
    hub.events.publish("rollout", rollout_id)


def _is_news(rollout: Rollout, decision: Decision) -> bool:
    return decision.verdict != "hold" or (rollout.reason, rollout.evidence) != (decision.reason, _shown(decision))


def _shown(decision: Decision) -> dict[str, Any]:
    """For the row: the readings, and since when the stage is installed."""
    return {"gates": msgspec.to_builtins(decision.gates), "installed_at": decision.installed_at}


def _apply(session: Session, hub: Hub, rollout: Rollout, decision: Decision, now: float) -> None:
    """Carry a decision out: row, event, assignments, desired states."""
    before = rollout.evidence.get("gates", [])
    rollout.reason, rollout.evidence, rollout.updated_at = decision.reason, _shown(decision), now
    if decision.verdict == "hold":
        if _states(before) != _states(rollout.evidence["gates"]):
            _note(session, hub, rollout, "hold", now)
        return
    _note(session, hub, rollout, decision.verdict, now)
    if decision.verdict == "continue":
        rollout.stage, rollout.stage_started_at = decision.stage, now
        rollout.evidence = {**rollout.evidence, "installed_at": None}
        assignments.tell(session, hub, rollout, rollout_devices(session, hub, rollout.id), now)
    elif decision.verdict == "pause":
        rollout.state = "paused"
    elif decision.verdict == "stop":
        rollout.state = "rolled-back"
        assignments.take_back(session, hub, rollout, now)
    else:
        rollout.state = "completed"
        assignments.complete(session, hub, rollout, now)


def _states(readings: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(reading["gate"], reading["state"]) for reading in readings]


def _late(session: Session, hub: Hub, rollout: Rollout, rows: Sequence[RolloutDevice]) -> list[RolloutDevice]:
    """Rows, not saved yet, of devices that came into the target since the rollout began."""
    last = len(Plan.from_json(rollout.plan).stages) - 1
    known = {row.device_id for row in rows}
    joined = [
        d
        for d in assignments.compiled(session, hub, rollout.model, rollout.to_version, rollout.group)
        if d not in known
    ]
    if not joined:
        return []
    assigned = assignments.assigned(session, hub, rollout.model)
    drawn = [(row.draw, row.stage) for row in rows]
    late = []
    for device in joined:
        place = draw.place(rollout.id, device)
        stage = draw.stage_of_late(place, drawn, rollout.stage, last)
        if stage is not None and assigned.get(device) != rollout.to_version:
            late.append(_drawn(rollout, device, place, stage, assigned.get(device)))
    return late


def _drawn(rollout: Rollout, device: str, place: float, stage: int, from_version: int | None) -> RolloutDevice:
    return RolloutDevice(
        tenant_id=rollout.tenant_id,
        rollout_id=rollout.id,
        device_id=device,
        draw=place,
        stage=stage,
        from_version=from_version,
        assigned_at=None,
        generation=None,
    )


def _target(session: Session, hub: Hub, model: str, version: int, group: str | None) -> list[str]:
    """The devices that a rollout would reach. Raises RolloutError: ``no-devices``, ``not-compiled``."""
    target = assignments.compiled(session, hub, model, version, group)
    if target:
        return target
    members = groups.members(session, hub, group)
    if not members:
        where = "no device is enrolled" if group is None else f"group {group} has no device"
        raise RolloutError(f"{where}: expected at least one to roll out to", code="no-devices")
    profiles = session.scalars(
        select(Device.profile).where(Device.tenant_id == hub.tenant, Device.id.in_(members)).distinct()
    )
    raise RolloutError(
        f"version {version} of {model} is not compiled for {', '.join(sorted(profiles))}; compile it first",
        code="not-compiled",
    )


def _check_floor(session: Session, hub: Hub, version: Version) -> None:
    model = session.get(Model, (hub.tenant, version.model))
    if model is not None and version.release < model.floor:
        raise RolloutError(
            f"version {version.version} of {version.model} is below the floor, release {model.floor}: "
            "devices refuse it; register it again to get a new release",
            code="below-floor",
        )


def _check_no_other(session: Session, hub: Hub, body: RolloutIn, target: Sequence[str]) -> None:
    """One open rollout or experiment a model and device."""
    other = open_rollout(session, hub, body.model, body.group, target)
    if other is not None:
        raise RolloutError(
            f"rollout {other.id} of {other.model} to version {other.to_version} is {other.state} on some of these "
            "devices; wait for its end or abort it",
            code="rollout-running",
        )
    experiment = running_experiment(session, hub, body.model, body.group, target)
    if experiment is not None:
        raise RolloutError(
            f"experiment {experiment.id} of {body.model} runs on some of these devices; wait for its end or stop it",
            code="experiment-running",
        )


def _check_open(rollout: Rollout) -> None:
    if rollout.state not in assignments.OPEN:
        raise RolloutError(f"rollout {rollout.id} is {rollout.state} already", code="rollout-over")


def _note(session: Session, hub: Hub, rollout: Rollout, decision: str, now: float) -> None:
    """Add to the rollout's history, and date the row."""
    session.flush()
    newest = session.scalar(
        select(func.max(RolloutEvent.id)).where(
            RolloutEvent.tenant_id == hub.tenant, RolloutEvent.rollout_id == rollout.id
        )
    )
    session.add(
        RolloutEvent(
            tenant_id=hub.tenant,
            id=(newest or 0) + 1,
            rollout_id=rollout.id,
            at=now,
            stage=rollout.stage,
            decision=decision,
            reason=rollout.reason,
            evidence={"gates": rollout.evidence.get("gates", [])},
        )
    )
    rollout.updated_at = now


def _names(rows: Sequence[RolloutDevice]) -> str:
    shown = ", ".join(row.device_id for row in rows[:5])
    return shown + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
