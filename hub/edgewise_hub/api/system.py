"""The hub itself: what it is, whether it is well, and signing in to the console."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import Integer, cast, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from edgewise import __version__
from edgewise_hub import metrics
from edgewise_hub.api import auth
from edgewise_hub.api.auth import CookieDep, HubDep
from edgewise_hub.api.errors import ApiError, problem
from edgewise_hub.api.schemas import SessionOut, SignIn, SignInCodeOut, System
from edgewise_hub.api.tables import ConsoleSession
from edgewise_hub.fleet.tables import Device
from edgewise_hub.monitoring.tables import WindowRow

router = APIRouter(tags=["system"])
public = APIRouter(tags=["system"])
outside = APIRouter(include_in_schema=False)


@router.get("/system")
def get_system(hub: HubDep) -> System:
    """What this hub is; windows and their bytes are those that are kept, blob bytes those sent since its start."""
    devices = select(func.count(), func.coalesce(func.sum(cast(Device.online, Integer)), 0)).where(
        Device.tenant_id == hub.tenant, Device.revoked_at.is_(None)
    )
    windows = select(func.count(), func.coalesce(func.sum(WindowRow.size), 0)).where(WindowRow.tenant_id == hub.tenant)
    with hub.database.read() as session:
        enrolled, online = session.execute(devices).one()
        count, size = session.execute(windows).one()
    return System(
        version=__version__,
        tenant=hub.tenant,
        started_at=hub.started_at,
        broker_connected=hub.broker_connected(),
        devices=enrolled,
        devices_online=online,
        windows=count,
        window_bytes=size,
        blob_bytes_sent=hub.blob_bytes_sent,
    )


@router.post("/sign-in-codes", status_code=201, dependencies=[Depends(auth.require_bearer)])
def create_sign_in_code(hub: HubDep) -> SignInCodeOut:
    """A one-time code for the console; asked for with an API token only."""
    with hub.database.write() as session:
        code = auth.create_code(session, time.time())
    return SignInCodeOut(code=code, expires_in=auth.CODE_TTL_S)


@public.post("/session")
def sign_in(body: SignIn, request: Request, response: Response, hub: HubDep) -> SessionOut:
    """Exchange a one-time code for a session: an HttpOnly cookie, and the CSRF token in the answer."""
    limit: auth.TryLimit = request.app.state.sign_in_limit
    limit.spend(time.monotonic())
    with hub.database.write() as session:
        signed_in = auth.exchange_code(session, hub.tenant, body.code, time.time())
    response.set_cookie(
        auth.COOKIE, signed_in.cookie, max_age=int(auth.SESSION_TTL_S), path="/", httponly=True, samesite="strict"
    )
    return SessionOut(csrf=signed_in.csrf, expires_at=signed_in.expires_at)


@router.get("/session")
def get_session(hub: HubDep, cookie: CookieDep) -> SessionOut:
    """The session of this cookie, for a page that was loaded again."""
    if cookie is None:
        raise ApiError("there is no session: sign in", status=401, code="unauthorized")
    row = auth.find_session(hub, cookie, time.time())
    return SessionOut(csrf=auth.csrf_of(cookie), expires_at=row.expires_at)


@router.delete("/session", status_code=204)
def sign_out(response: Response, hub: HubDep, cookie: CookieDep) -> None:
    """End the session of this cookie."""
    if cookie is not None:
        with hub.database.write() as session:
            row = session.get(ConsoleSession, (hub.tenant, auth.sha256(cookie)))
            if row is not None:
                session.delete(row)
    response.delete_cookie(auth.COOKIE, path="/", httponly=True, samesite="strict")


@outside.get("/metrics")
def get_metrics(hub: HubDep) -> Response:
    """Prometheus metrics: counts only, no names of devices."""
    return Response(metrics.render(hub), media_type="text/plain; version=0.0.4; charset=utf-8")


@outside.get("/healthz")
def get_health() -> dict[str, Any]:
    """The process answers."""
    return {"status": "ok"}


@outside.get("/readyz")
def get_readiness(hub: HubDep) -> Response:
    """The hub can work: its database answers and its broker is connected."""
    try:
        with hub.database.read() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return problem(503, "not-ready", "the database does not answer")
    if not hub.broker_connected():
        return problem(503, "not-ready", "the broker is not connected")
    return Response('{"status":"ok"}', media_type="application/json")
