"""Triggers: when drift harms a group and enough labelled samples of it are there, train and roll out.

Rules that hold here (``should_fire``, pure):
- a trigger fires once for each alert;
- a sample counts once: only those that came after the last run on the same sample request began;
- one at a time: not while a run of the model is unfinished, or its rollout is still on its way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from edgewise.errors import EdgewiseError
from edgewise_hub.api import schemas
from edgewise_hub.hub import Hub
from edgewise_hub.learning import options, runs
from edgewise_hub.learning.tables import SampleRequestRow, SampleRow, TrainingRun, Trigger
from edgewise_hub.monitoring import alerts
from edgewise_hub.monitoring.tables import Alert
from edgewise_hub.rollouts.tables import Rollout

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rule:
    """What a trigger asks for. ``verdicts``: those of an alert that it answers."""

    min_samples: int
    verdicts: frozenset[str]


@dataclass(frozen=True)
class Drift:
    """An open drift alert."""

    alert: str
    group: str
    verdict: str


@dataclass(frozen=True)
class Collected:
    """Labelled samples of an open sample request that no run has begun with yet."""

    request: str
    group: str
    labelled: int


@dataclass(frozen=True)
class Past:
    """A run of the model. ``alert``: the one it answered, if any. ``busy``: it, or its rollout, goes on."""

    alert: str | None
    busy: bool


@dataclass(frozen=True)
class Firing:
    """Train on ``request`` in answer to ``alert``. ``reason`` is one sentence."""

    alert: str
    request: str
    group: str
    reason: str


def should_fire(
    rule: Rule, drifts: Iterable[Drift], collected: Iterable[Collected], past: Iterable[Past]
) -> Firing | None:
    """The first alert to be answered now, in the order given, or None."""
    past = list(past)
    if any(run.busy for run in past):
        return None
    answered = {run.alert for run in past}
    enough = [one for one in collected if one.labelled >= rule.min_samples]
    for drift in drifts:
        if drift.verdict not in rule.verdicts or drift.alert in answered:
            continue
        for one in enough:
            if one.group == drift.group:
                reason = (
                    f"{'harmful drift' if drift.verdict == 'harmful' else 'drift'} in {drift.group}, and "
                    f"{one.labelled} labelled samples of it have come ({rule.min_samples} asked for)"
                )
                return Firing(drift.alert, one.request, one.group, reason)
    return None


def tick(hub: Hub, now: float) -> None:
    """Fire what is to be fired. A trigger that cannot start its run is logged, and tried again while it should fire."""
    with hub.database.read() as session:
        due = [trigger.id for trigger in _enabled(session, hub) if _decide(session, hub, trigger) is not None]
    for identifier in due:
        try:
            with hub.database.write() as session:
                run = _fire(session, hub, session.get_one(Trigger, (hub.tenant, identifier)), now)
        except EdgewiseError as error:
            log.warning("trigger %s: no training run: %s", identifier, error)
            continue
        if run is not None:
            hub.events.publish("training-run", run)


def _fire(session: Session, hub: Hub, trigger: Trigger, now: float) -> str | None:
    """Decide again, now with the write lock held, and create the run; returns its id."""
    firing = _decide(session, hub, trigger)
    if firing is None:
        return None
    body = schemas.TrainingRunIn(
        model=trigger.model,
        strategy="rehearsal",
        config={**trigger.config, "alert": firing.alert},
        parent_version=runs.serving_version(session, hub, trigger.model, firing.group),
        sample_request=firing.request,
        profiles=trigger.profiles,
        rollout=schemas.RolloutPlanIn.model_validate(trigger.rollout) if trigger.rollout else None,
        note=f"trigger: {firing.reason}"[:500],
    )
    run = runs.create(session, hub, body, now, trigger)
    run.reason = firing.reason
    trigger.fired_at = now
    return run.id


def _decide(session: Session, hub: Hub, trigger: Trigger) -> Firing | None:
    """``should_fire`` on what the rows say."""
    found = session.scalars(
        select(Alert)
        .where(
            Alert.tenant_id == hub.tenant,
            Alert.kind == alerts.DRIFT,
            Alert.model == trigger.model,
            Alert.closed_at.is_(None),
            Alert.group.is_not(None),
        )
        .order_by(Alert.opened_at, Alert.id)
    ).all()
    if not found:
        return None
    ours, _ = options.read(trigger.config)
    rule = Rule(trigger.min_samples, frozenset({"harmful", "drift"} if ours.any_drift else {"harmful"}))
    drifts = [Drift(alert.id, alert.group or "", str(alert.details.get("verdict"))) for alert in found]
    return should_fire(rule, drifts, _collected(session, hub, trigger.model), _past(session, hub, trigger.model))


def _enabled(session: Session, hub: Hub) -> list[Trigger]:
    rows = select(Trigger).where(Trigger.tenant_id == hub.tenant, Trigger.enabled.is_(True))
    return list(session.scalars(rows.order_by(Trigger.created_at, Trigger.id)))


def _collected(session: Session, hub: Hub, model: str) -> list[Collected]:
    last_run = (
        select(func.coalesce(func.max(TrainingRun.created_at), 0.0))
        .where(TrainingRun.tenant_id == hub.tenant, TrainingRun.sample_request_id == SampleRequestRow.id)
        .correlate(SampleRequestRow)
        .scalar_subquery()
    )
    rows = session.execute(
        select(SampleRequestRow.id, SampleRequestRow.group, func.count())
        .join(
            SampleRow,
            (SampleRow.tenant_id == SampleRequestRow.tenant_id) & (SampleRow.request_id == SampleRequestRow.id),
        )
        .where(
            SampleRequestRow.tenant_id == hub.tenant,
            SampleRequestRow.model == model,
            SampleRequestRow.state == "open",
            SampleRow.label.is_not(None),
            SampleRow.received_at > last_run,
        )
        .group_by(SampleRequestRow.id, SampleRequestRow.group)
        .order_by(SampleRequestRow.id)
    )
    return [Collected(request, group, count) for request, group, count in rows]


def _past(session: Session, hub: Hub, model: str) -> list[Past]:
    rows = session.execute(
        select(TrainingRun.config, TrainingRun.state, Rollout.state)
        .join(
            Rollout,
            (Rollout.tenant_id == TrainingRun.tenant_id) & (Rollout.id == TrainingRun.rollout_id),
            isouter=True,
        )
        .where(TrainingRun.tenant_id == hub.tenant, TrainingRun.model == model)
    )
    return [
        Past(config.get("alert"), state in runs.UNFINISHED or rollout in ("running", "paused"))
        for config, state, rollout in rows
    ]
