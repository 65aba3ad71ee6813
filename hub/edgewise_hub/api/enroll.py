"""Join tokens, and the one request that needs no API token: a device asking for its identity."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from edgewise.wire.codec import encode_json
from edgewise.wire.enrollment import SIGNATURE_HEADER, EnrollRequest
from edgewise_hub.api.auth import HubDep
from edgewise_hub.api.errors import ApiError, not_found
from edgewise_hub.api.pages import Cursor, Limit, page
from edgewise_hub.api.schemas import JoinTokenIn, JoinTokenOut, Page
from edgewise_hub.fleet import enrollment
from edgewise_hub.fleet.tables import JoinToken
from edgewise_hub.hub import Hub

router = APIRouter(tags=["fleet"])
public = APIRouter(tags=["fleet"])


@public.post(
    "/enroll",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/EnrollResponse"}}}}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/EnrollRequest"}}},
        },
        "parameters": [{"name": SIGNATURE_HEADER, "in": "header", "required": True, "schema": {"type": "string"}}],
    },
)
async def enroll_device(request: Request, hub: HubDep) -> Response:
    """A device asks for its identity with a join token, its body signed by its own key. Asking again gives the same
    identity with a new password."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > EnrollRequest.bound:
            raise ApiError(f"enrollment: at most {EnrollRequest.bound} bytes", status=413, code="too-large")
    answer = await run_in_threadpool(_enroll, hub, body, request.headers.get(SIGNATURE_HEADER))
    return Response(answer, media_type="application/json")


def _enroll(hub: Hub, body: bytes, signature: str | None) -> bytes:
    try:
        return encode_json(enrollment.enroll(hub, body, signature, time.time()))
    except enrollment.EnrollmentError as error:
        raise ApiError(str(error), status=error.status, code=error.code) from error


@router.post("/join-tokens", status_code=201)
def create_join_token(body: JoinTokenIn, hub: HubDep) -> JoinTokenOut:
    """Make a join token; it is shown this once."""
    with hub.database.write() as session:
        made = enrollment.create_join_token(session, hub, body.groups, body.uses, body.expires_in, time.time())
    return _out(made.row, made.token)


@router.get("/join-tokens")
def list_join_tokens(hub: HubDep, cursor: Cursor = None, limit: Limit = 100) -> Page[JoinTokenOut]:
    """Join tokens, newest first; ``token`` is empty, since only its hash is kept."""
    rows = select(JoinToken).where(JoinToken.tenant_id == hub.tenant)
    with hub.database.read() as session:
        found, after = page(session, rows, (JoinToken.created_at, JoinToken.id), cursor, limit)
    return Page(items=[_out(row) for row in found], next=after)


@router.delete("/join-tokens/{token_id}", status_code=204)
def delete_join_token(token_id: str, hub: HubDep) -> None:
    """Let no further device join with this token."""
    with hub.database.write() as session:
        row = session.get(JoinToken, (hub.tenant, token_id))
        if row is None:
            raise not_found("join token", token_id)
        session.delete(row)


def _out(row: JoinToken, token: str = "") -> JoinTokenOut:
    return JoinTokenOut(id=row.id, token=token, groups=row.groups, uses=row.uses_left, expires_at=row.expires_at)
