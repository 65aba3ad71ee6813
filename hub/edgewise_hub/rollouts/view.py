"""A rollout as the API shows it."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise_hub.api.schemas import (
    GateReading,
    RolloutDetail,
    RolloutDeviceOut,
    RolloutEventOut,
    RolloutOut,
    RolloutStageOut,
)
from edgewise_hub.fleet import groups
from edgewise_hub.hub import Hub
from edgewise_hub.rollouts.devices import Standing, standing
from edgewise_hub.rollouts.gather import bundle_profiles, fleet, rollout_devices
from edgewise_hub.rollouts.plan import Plan
from edgewise_hub.rollouts.tables import Rollout, RolloutDevice, RolloutEvent

TAKEN_BACK = ("rolled-back", "aborted")


def summary(session: Session, hub: Hub, rollout: Rollout) -> RolloutOut:
    """Without its devices and history."""
    rows = rollout_devices(session, hub, rollout.id)
    return _summary(rollout, rows, _standings(session, hub, rollout, rows))


def detail(session: Session, hub: Hub, rollout: Rollout) -> RolloutDetail:
    """With its devices, in the order of the draw, and its history, oldest first."""
    rows = rollout_devices(session, hub, rollout.id)
    standings = _standings(session, hub, rollout, rows)
    in_groups = groups.of_devices(session, hub, [row.device_id for row in rows])
    events = session.scalars(
        select(RolloutEvent)
        .where(RolloutEvent.tenant_id == hub.tenant, RolloutEvent.rollout_id == rollout.id)
        .order_by(RolloutEvent.id)
    )
    return RolloutDetail(
        **dict(_summary(rollout, rows, standings)),
        devices=[
            RolloutDeviceOut(
                device=row.device_id,
                groups=in_groups[row.device_id],
                stage=row.stage,
                draw=row.draw,
                state=standings[row.device_id].state,
                reason=standings[row.device_id].reason,
            )
            for row in rows
        ],
        events=[
            RolloutEventOut.model_validate(
                {
                    "at": event.at,
                    "stage": event.stage,
                    "decision": event.decision,
                    "reason": event.reason,
                    "gates": event.evidence["gates"],
                }
            )
            for event in events
        ],
    )


def _standings(session: Session, hub: Hub, rollout: Rollout, rows: list[RolloutDevice]) -> dict[str, Standing]:
    devices = fleet(session, hub, rows)
    bundles = bundle_profiles(session, hub, rollout.model, {rollout.to_version})
    taken_back = rollout.state in TAKEN_BACK
    return {
        row.device_id: standing(row, devices[row.device_id], rollout.model, bundles, taken_back=taken_back)
        for row in rows
    }


def _summary(rollout: Rollout, rows: list[RolloutDevice], standings: dict[str, Standing]) -> RolloutOut:
    plan = Plan.from_json(rollout.plan)
    running = rollout.state == "running"
    return RolloutOut.model_validate(
        {
            "id": rollout.id,
            "model": rollout.model,
            "from_version": rollout.from_version,
            "to_version": rollout.to_version,
            "group": rollout.group,
            "state": rollout.state,
            "stage": rollout.stage,
            "stages": _stages(rollout, plan, rows),
            "gates": [GateReading.model_validate(reading) for reading in rollout.evidence["gates"]],
            "reason": rollout.reason,
            "deadline_at": rollout.stage_started_at + plan.gates.deadline if running else None,
            "devices_total": len(rows),
            "devices_confirmed": sum(standing.state == "confirmed" for standing in standings.values()),
            "created_at": rollout.created_at,
            "updated_at": rollout.updated_at,
        }
    )


def _stages(rollout: Rollout, plan: Plan, rows: list[RolloutDevice]) -> list[RolloutStageOut]:
    shown = []
    for index, stage in enumerate(plan.stages):
        if rollout.state == "completed" or index < rollout.stage:
            state = "passed"
        elif index > rollout.stage:
            state = "waiting"
        else:
            state = "failed" if rollout.state in TAKEN_BACK else "running"
        reached = sum(row.stage <= index for row in rows)
        shown.append(
            RolloutStageOut.model_validate({"index": index, "title": stage.title, "devices": reached, "state": state})
        )
    return shown
