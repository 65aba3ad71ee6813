"""Rollouts: start one, look at it, hold it, take it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise_hub.api.auth import HubDep
from edgewise_hub.api.changes import changed
from edgewise_hub.api.errors import not_found
from edgewise_hub.api.pages import Cursor, Limit, page
from edgewise_hub.api.schemas import NameStr, Page, RolloutDetail, RolloutIn, RolloutOut
from edgewise_hub.hub import Hub
from edgewise_hub.rollouts import controller, view
from edgewise_hub.rollouts.tables import Rollout

router = APIRouter(tags=["rollouts"])

State = Literal["running", "paused", "completed", "rolled-back", "aborted"]


@router.post("/rollouts", status_code=201)
def create_rollout(body: RolloutIn, hub: HubDep) -> RolloutDetail:
    """Start a rollout; its first stage is told at once."""

    def create(session: Session, now: float) -> Rollout:
        return controller.create(session, hub, body, now)

    return _change(hub, create)


@router.get("/rollouts")
def list_rollouts(
    hub: HubDep,
    model: NameStr | None = None,
    state: State | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[RolloutOut]:
    """Rollouts, newest first, of one ``model`` or in one ``state``."""
    rows = select(Rollout).where(Rollout.tenant_id == hub.tenant)
    if model is not None:
        rows = rows.where(Rollout.model == model)
    if state is not None:
        rows = rows.where(Rollout.state == state)
    with hub.database.read() as session:
        found, after = page(session, rows, (Rollout.created_at, Rollout.id), cursor, limit)
        return Page(items=[view.summary(session, hub, rollout) for rollout in found], next=after)


@router.get("/rollouts/{rollout_id}")
def get_rollout(rollout_id: str, hub: HubDep) -> RolloutDetail:
    """One rollout with its devices and history."""
    with hub.database.read() as session:
        return view.detail(session, hub, _find(session, hub, rollout_id))


@router.post("/rollouts/{rollout_id}/pause")
def pause_rollout(rollout_id: str, hub: HubDep) -> RolloutDetail:
    """Hold it: no further device is told, none is taken back."""
    return _by_hand(hub, rollout_id, controller.pause)


@router.post("/rollouts/{rollout_id}/resume")
def resume_rollout(rollout_id: str, hub: HubDep) -> RolloutDetail:
    """Go on with the present stage, its deadline begun anew."""
    return _by_hand(hub, rollout_id, controller.resume)


@router.post("/rollouts/{rollout_id}/abort")
def abort_rollout(rollout_id: str, hub: HubDep) -> RolloutDetail:
    """Take every device back to what it served before."""
    return _by_hand(hub, rollout_id, controller.abort)


def _by_hand(hub: Hub, rollout_id: str, act: Callable[[Session, Hub, Rollout, float], None]) -> RolloutDetail:
    def change(session: Session, now: float) -> Rollout:
        rollout = _find(session, hub, rollout_id)
        act(session, hub, rollout, now)
        return rollout

    return _change(hub, change)


def _change(hub: Hub, change: Callable[[Session, float], Rollout]) -> RolloutDetail:
    return changed(hub, change, view.detail, lambda shown: ("rollout", shown.id))


def _find(session: Session, hub: Hub, rollout_id: str) -> Rollout:
    rollout = session.get(Rollout, (hub.tenant, rollout_id))
    if rollout is None:
        raise not_found("rollout", rollout_id)
    return rollout
