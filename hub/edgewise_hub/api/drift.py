"""Drift and alerts: what was judged of each group, and what is open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise_hub.api.auth import HubDep
from edgewise_hub.api.pages import Cursor, Limit, page
from edgewise_hub.api.schemas import AlertOut, CalibrationQuote, DeviceHistoryOut, DriftGroup, JudgementOut, Page
from edgewise_hub.fleet.tables import Membership
from edgewise_hub.monitoring import calibrations
from edgewise_hub.monitoring.alerts import DRIFT
from edgewise_hub.monitoring.tables import Alert, Judgement
from edgewise_hub.registry.tables import Model

router = APIRouter()

DEVICES = 12
"""Devices of a group whose history is shown."""
LONG = frozenset({"devices", "columns", "clusters", "changed", "prior"})


@router.get("/drift")
def list_drift(
    hub: HubDep,
    model: Annotated[str | None, Query(max_length=64)] = None,
    group: Annotated[str | None, Query(max_length=64)] = None,
    history: Annotated[int, Query(ge=0, le=1000)] = 0,
) -> list[DriftGroup]:
    """Each group of devices and each model: the newest judgement, and the last ``history`` ones, oldest first."""
    with hub.database.read() as session:
        models = select(Model.name).where(Model.tenant_id == hub.tenant).order_by(Model.name)
        groups = (
            select(Membership.group).where(Membership.tenant_id == hub.tenant).distinct().order_by(Membership.group)
        )
        if model is not None:
            models = models.where(Model.name == model)
        if group is not None:
            groups = groups.where(Membership.group == group)
        names = list(session.scalars(groups))
        return [_drift(session, hub.tenant, m, g, history) for m in session.scalars(models).all() for g in names]


@router.get("/alerts")
def list_alerts(hub: HubDep, open: bool | None = None, cursor: Cursor = None, limit: Limit = 50) -> Page[AlertOut]:
    """Alerts, newest first: all, or only those that are open (true) or closed (false)."""
    chosen = select(Alert).where(Alert.tenant_id == hub.tenant)
    if open is not None:
        chosen = chosen.where(Alert.closed_at.is_(None) if open else Alert.closed_at.is_not(None))
    with hub.database.read() as session:
        rows, following = page(session, chosen, [Alert.opened_at, Alert.id], cursor, limit)
        models = {row.model for row in rows if row.kind == DRIFT}
        quotes = {name: calibrations.quote(session, hub, name) for name in models}
    items = []
    for row in rows:
        found = AlertOut.model_validate(row, from_attributes=True)
        quoted = quotes.get(row.model) if row.kind == DRIFT else None
        calibration = None if quoted is None else CalibrationQuote.model_validate(quoted)
        items.append(found.model_copy(update={"calibration": calibration}))
    return Page(items=items, next=following)


def _drift(session: Session, tenant: str, model: str, group: str, history: int) -> DriftGroup:
    rows = session.scalars(
        select(Judgement)
        .where(Judgement.tenant_id == tenant, Judgement.model == model, Judgement.group == group)
        .order_by(Judgement.span_end.desc())
        .limit(max(history, 1))
    ).all()
    judgements = [judgement_out(row, brief=row is not rows[0]) for row in reversed(rows)]
    return DriftGroup(
        model=model,
        group=group,
        current=judgements[-1] if judgements else None,
        history=judgements if history else [],
        devices=_devices(rows) if history else [],
    )


def _devices(newest_first: Sequence[Judgement]) -> list[DeviceHistoryOut]:
    """The devices with most evidence in the newest judgement, back to where the history begins."""
    found = []
    for now in (newest_first[0].details.get("devices", []) if newest_first else [])[:DEVICES]:
        points = [
            (row.at, each["score"])
            for row in reversed(newest_first)
            for each in row.details.get("devices", [])
            if each["device"] == now["device"]
        ]
        found.append(
            DeviceHistoryOut(
                device=now["device"],
                at=[at for at, _ in points],
                score=[score for _, score in points],
                limit=now["limit"],
                named=now["named"],
            )
        )
    return found


def judgement_out(row: Judgement, *, brief: bool = False) -> JudgementOut:
    """A judgement as the API shows it: the row's columns over its details; ``brief``: without devices and what changed,
    which are most of it."""
    columns = {
        name: getattr(row, name)
        for name in ("model", "group", "at", "span_start", "span_end", "n", "verdict", "p_value", "alpha")
    }
    details = {name: value for name, value in row.details.items() if not (brief and name in LONG)}
    return JudgementOut.model_validate({**details, **columns})
