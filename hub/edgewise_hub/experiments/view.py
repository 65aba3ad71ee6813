"""An experiment as the API shows it. Where its split is broken, what was measured is withheld."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from sqlalchemy.orm import Session

from edgewise.sketch import LatencySketch
from edgewise.wire.experiment import Arm, Sums
from edgewise_hub.api.schemas import (
    ExperimentArm,
    ExperimentDetail,
    ExperimentDeviceOut,
    ExperimentEscalated,
    ExperimentOut,
    ExperimentPoint,
)
from edgewise_hub.experiments import members
from edgewise_hub.experiments.evidence import Evidence
from edgewise_hub.experiments.observe import Measured, arm_of
from edgewise_hub.experiments.plan import Plan
from edgewise_hub.experiments.tables import Experiment, ExperimentDevice
from edgewise_hub.hub import Hub


def summary(session: Session, hub: Hub, experiment: Experiment) -> ExperimentOut:
    """Without its arms, devices and history."""
    return ExperimentOut.model_validate(_summary(session, hub, experiment, _rows(session, hub, experiment)))


def detail(session: Session, hub: Hub, experiment: Experiment) -> ExperimentDetail:
    """The whole."""
    rows = _rows(session, hub, experiment)
    sums = msgspec.msgpack.decode(experiment.evidence, type=Evidence).sums
    standings = members.standings(session, hub, experiment, rows)
    history = [] if experiment.decision == "broken" else experiment.history
    return ExperimentDetail.model_validate(
        {
            **_summary(session, hub, experiment, rows),
            "arms": [_arm(role, arm_of(sums, role), version) for role, version in _roles(experiment).items()],
            "compared": sums.compared.compared,
            "agreed": sums.compared.agreed,
            "dropped": sums.compared.dropped,
            "ties": sums.ties,
            "escalated": ExperimentEscalated(**msgspec.to_builtins(sums.escalated)),
            "devices": [_device(row, standings[row.device_id]) for row in rows],
            "history": [
                ExperimentPoint(at=at, n=n, effect=effect, low=low, high=high) for at, n, effect, low, high in history
            ],
        }
    )


def _rows(session: Session, hub: Hub, experiment: Experiment) -> list[ExperimentDevice]:
    return members.rows(session, hub, experiment.id)


def _summary(session: Session, hub: Hub, experiment: Experiment, rows: list[ExperimentDevice]) -> dict[str, Any]:
    plan = Plan.from_json(experiment.plan)
    running = experiment.state == "running"
    return {
        "id": experiment.id,
        "model": experiment.model,
        "kind": experiment.kind,
        "policy": {name: value for name, value in experiment.plan["policy"].items() if name not in _OURS},
        "group": experiment.group,
        "control": experiment.control,
        "candidate": experiment.candidate,
        "metric": plan.metric,
        "margin": plan.margin,
        "min_samples": plan.min_samples,
        "alpha": plan.alpha,
        "state": experiment.state,
        "decision": experiment.decision,
        "reason": experiment.reason,
        "effect": experiment.result.get("effect"),
        "low": experiment.result.get("low"),
        "high": experiment.result.get("high"),
        "n": experiment.result.get("n", 0),
        "items": experiment.result.get("items", {}),
        "devices_total": len(rows),
        "devices_left_out": members.now(session, hub, experiment).left_out if running else 0,
        "rollout": experiment.rollout_id,
        "created_at": experiment.created_at,
        "updated_at": experiment.updated_at,
        "ended_at": experiment.ended_at,
    }


_OURS = ("experiment", "salt")


def _roles(experiment: Experiment) -> dict[str, int | None]:
    """Role on the wire -> version, the control first."""
    role = Plan.from_json(experiment.plan).role
    return {"active": experiment.control} | ({} if role is None else {role: experiment.candidate})


def _arm(role: str, arm: Arm, version: int | None) -> ExperimentArm:
    latency = LatencySketch()
    for bin, count in arm.latency.items():
        latency.counts[bin] += count
    return ExperimentArm.model_validate(
        {
            "role": "control" if role == "active" else role,
            "version": version,
            "requests": arm.requests,
            "errors": arm.errors,
            "labelled": arm.labelled,
            "correct": arm.correct,
            "clicks": arm.clicks,
            "wins": arm.wins,
            "accuracy": arm.correct / arm.labelled if arm.labelled else None,
            "latency_p50_ms": _ms(latency, 0.5),
            "latency_p95_ms": _ms(latency, 0.95),
        }
    )


def _ms(latency: LatencySketch, q: float) -> float | None:
    return float(np.round(latency.quantile(q) * 1000, 3)) if latency.n else None


def _device(row: ExperimentDevice, standing: members.Standing) -> ExperimentDeviceOut:
    sums = msgspec.msgpack.decode(row.sums, type=Sums) if row.sums else Sums()
    measured = msgspec.msgpack.decode(row.measured, type=Measured) if row.measured else Measured()
    return ExperimentDeviceOut(
        device=row.device_id,
        state=standing.state,
        reason=standing.reason,
        joined_at=row.joined_at,
        requests=sum(arm.requests for arm in sums.arms.values()),
        values=measured.metric_blocks,
    )
