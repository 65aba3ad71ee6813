"""Enrollment: a join token and a device's own key in, an identity out.

Rules that hold here, in this order:
1. the request is of the schema and within its bound, its profile is known, and it is signed by the key that it names;
2. a key that is enrolled under this name gets its identity again, with a new password, if it shows the token that it
   joined with, spent or expired as that may be: it may have lost the first answer. A revoked one gets nothing;
3. else the token must be known, unspent and not expired, and neither name nor key taken by another;
4. the device's row and the token's use are committed together, before the broker account is made: a crash between the
   two is mended by asking again.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise.bundle import digest
from edgewise.errors import EdgewiseError
from edgewise.wire.codec import decode_json
from edgewise.wire.enrollment import EnrollRequest, EnrollResponse
from edgewise_hub.fleet import desired, groups
from edgewise_hub.fleet.tables import Device, JoinToken
from edgewise_hub.hub import Hub


class EnrollmentError(EdgewiseError):
    """A device that may not enroll. ``status`` is HTTP's."""

    def __init__(self, message: str, *, code: str, status: int) -> None:
        super().__init__(message, code=code)
        self.status = status


class NewToken(NamedTuple):
    """A join token's row, and the token itself, shown this once."""

    row: JoinToken
    token: str


def create_join_token(
    session: Session, hub: Hub, group_names: list[str], uses: int, expires_in: float, now: float
) -> NewToken:
    """A token that lets ``uses`` devices join ``group_names`` within ``expires_in`` seconds."""
    token = f"ewj_{secrets.token_urlsafe(24)}"
    row = JoinToken(
        tenant_id=hub.tenant,
        id=secrets.token_hex(8),
        sha256=digest(token.encode()),
        groups=group_names,
        uses_left=uses,
        expires_at=now + expires_in,
        created_at=now,
    )
    session.add(row)
    session.flush()
    return NewToken(row, token)


def enroll(hub: Hub, body: bytes, signature: str | None, now: float) -> EnrollResponse:
    """Enroll a device, or give it its identity again. ``signature``: base64, over ``body``, by the device's key.

    Raises WireError, EnrollmentError, or AccountError when the broker does not make the account.
    """
    request = decode_json(body, EnrollRequest)
    _check_signature(request, body, signature)
    if request.profile not in hub.profiles:
        known = ", ".join(sorted(hub.profiles))
        raise EnrollmentError(
            f"unknown device profile {request.profile!r}: expected one of {known}", code="unknown-profile", status=422
        )
    accounts = hub.accounts
    if accounts is None:
        raise EnrollmentError("the hub has no broker now: try again shortly", code="no-broker", status=503)
    with hub.database.write() as session:
        if not _knows(session, hub, request, now):
            _join(session, hub, request, now)
        desired.refresh(session, hub, [request.name], now)
    username, password = accounts.put(request.name)
    desired.publish_pending(hub)
    hub.events.publish("device", request.name)
    return EnrollResponse(
        tenant=hub.tenant,
        device=request.name,
        profile=request.profile,
        broker_url=hub.broker_url,
        username=username,
        password=password,
        keys=[hub.signer.public],
        time=now,
    )


def _check_signature(request: EnrollRequest, body: bytes, signature: str | None) -> None:
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(request.public_key, validate=True))
        key.verify(base64.b64decode(signature or "", validate=True), body)
    except (InvalidSignature, ValueError, binascii.Error) as error:
        raise EnrollmentError(
            "expected the request's bytes signed by its public_key in the header Edgewise-Signature",
            code="bad-signature",
            status=403,
        ) from error


def _knows(session: Session, hub: Hub, request: EnrollRequest, now: float) -> bool:
    """Is this very device enrolled already? Raises EnrollmentError when it is, and may not have its identity again."""
    device = session.get(Device, (hub.tenant, request.name))
    if device is None:
        return False
    if not hmac.compare_digest(device.public_key, request.public_key):
        raise EnrollmentError(
            f"the name {request.name!r} is taken by another device: choose another", code="name-taken", status=409
        )
    if device.revoked_at is not None:
        raise EnrollmentError(f"device {request.name!r} is revoked", code="revoked", status=403)
    token = session.get(JoinToken, (hub.tenant, device.join_token_id))
    if token is None or not hmac.compare_digest(token.sha256, digest(request.token.encode())):
        _usable(session, hub, request.token, now)
    if device.profile != request.profile:
        raise EnrollmentError(
            f"device {request.name!r} is enrolled as {device.profile}, not {request.profile}",
            code="other-profile",
            status=409,
        )
    return True


def _join(session: Session, hub: Hub, request: EnrollRequest, now: float) -> None:
    token = _usable(session, hub, request.token, now)
    taken = session.scalar(
        select(Device.id).where(Device.tenant_id == hub.tenant, Device.public_key == request.public_key)
    )
    if taken is not None:
        raise EnrollmentError(
            f"this key is enrolled as {taken!r} already: enroll under that name, or with a new key",
            code="key-taken",
            status=409,
        )
    token.uses_left -= 1
    session.add(
        Device(
            tenant_id=hub.tenant,
            id=request.name,
            profile=request.profile,
            public_key=request.public_key,
            join_token_id=token.id,
            enrolled_at=now,
        )
    )
    session.flush()
    groups.replace(session, hub, request.name, token.groups)


def _usable(session: Session, hub: Hub, token: str, now: float) -> JoinToken:
    """The row of a token that may still be used. Raises EnrollmentError; which fault it is, a guesser is not told."""
    hashed = digest(token.encode())
    row = session.scalar(select(JoinToken).where(JoinToken.tenant_id == hub.tenant, JoinToken.sha256 == hashed))
    if row is None or not hmac.compare_digest(row.sha256, hashed) or row.uses_left < 1 or row.expires_at < now:
        raise EnrollmentError(
            "this join token is unknown, used up or expired: make another with 'edgewise hub token'",
            code="bad-token",
            status=403,
        )
    return row
