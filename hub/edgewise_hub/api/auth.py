"""Who may use the API: a bearer token, or the console's cookie with its CSRF token.

Rules that hold here:
- secrets are random, and the database keeps only their sha256;
- a cookie alone changes nothing: every unsafe request also needs ``X-CSRF-Token``, which no other site can read;
- a one-time code is typed by hand, so it is short: it holds five minutes, works once, and guesses are limited overall.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import deque
from typing import Annotated, NamedTuple

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import delete
from sqlalchemy.orm import Session

from edgewise_hub.api.errors import ApiError
from edgewise_hub.api.tables import ApiToken, ConsoleSession, SignInCode
from edgewise_hub.hub import Hub

COOKIE = "edgewise_session"
CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

CODE_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
CODE_LENGTH = 8
CODE_TTL_S = 300.0
SESSION_TTL_S = 12 * 3600.0
MAX_TRIES_A_MINUTE = 10

_bearer = HTTPBearer(auto_error=False, description="An API token")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="The console's session")


def get_hub(request: Request) -> Hub:
    """The hub that this application serves."""
    hub = request.app.state.hub
    assert isinstance(hub, Hub)
    return hub


HubDep = Annotated[Hub, Depends(get_hub)]
BearerDep = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
CookieDep = Annotated[str | None, Depends(_cookie)]


def sha256(secret: str) -> str:
    """What the database keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def require_bearer(hub: HubDep, bearer: BearerDep) -> None:
    """Let through who shows an API token. Raises ApiError (401)."""
    if bearer is None or not _is_token(hub, bearer.credentials):
        raise _unauthorized("expected 'Authorization: Bearer TOKEN' with a token of this hub")


def require_access(request: Request, hub: HubDep, bearer: BearerDep, cookie: CookieDep) -> None:
    """Let through an API token, or a console session (with its CSRF token where something changes).

    Raises ApiError: 401 ``unauthorized``, 403 ``bad-csrf``.
    """
    if bearer is not None or cookie is None:
        return require_bearer(hub, bearer)
    session = find_session(hub, cookie, time.time())
    if request.method not in SAFE_METHODS:
        given = sha256(request.headers.get(CSRF_HEADER, ""))
        if not hmac.compare_digest(given, session.csrf_sha256):
            raise ApiError(f"expected the session's token in {CSRF_HEADER}", status=403, code="bad-csrf")
    return None


def create_token(session: Session, name: str, now: float) -> str:
    """A new API token, shown this once."""
    token = f"ew_{secrets.token_urlsafe(32)}"
    session.add(ApiToken(sha256=sha256(token), name=name, created_at=now))
    return token


def create_code(session: Session, now: float) -> str:
    """A one-time sign-in code; expired ones are forgotten."""
    session.execute(delete(SignInCode).where(SignInCode.expires_at < now))
    code = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
    session.add(SignInCode(sha256=sha256(code), expires_at=now + CODE_TTL_S))
    return code


class SignedIn(NamedTuple):
    """A new console session's secrets: the cookie and the CSRF token."""

    cookie: str
    csrf: str
    expires_at: float


def exchange_code(session: Session, tenant: str, typed: str, now: float) -> SignedIn:
    """Spend a code for a console session. Raises ApiError (401, ``bad-code``)."""
    code = typed.upper().replace("-", "").replace(" ", "")
    row = session.get(SignInCode, (tenant, sha256(code)))
    if row is None or row.expires_at < now:
        raise ApiError("this code is not valid (any more): run 'edgewise hub open'", status=401, code="bad-code")
    session.delete(row)
    session.execute(delete(ConsoleSession).where(ConsoleSession.expires_at < now))
    signed_in = SignedIn(secrets.token_urlsafe(32), "", now + SESSION_TTL_S)
    signed_in = signed_in._replace(csrf=csrf_of(signed_in.cookie))
    session.add(
        ConsoleSession(
            sha256=sha256(signed_in.cookie),
            csrf_sha256=sha256(signed_in.csrf),
            expires_at=signed_in.expires_at,
            created_at=now,
        )
    )
    return signed_in


def csrf_of(cookie: str) -> str:
    """The session's CSRF token: a one-way function of its secret, so that a reloaded page can be told it again."""
    return hmac.new(cookie.encode(), b"edgewise csrf", hashlib.sha256).hexdigest()


def find_session(hub: Hub, cookie: str, now: float) -> ConsoleSession:
    """The console session of a cookie. Raises ApiError (401)."""
    with hub.database.read() as session:
        row = session.get(ConsoleSession, (hub.tenant, sha256(cookie)))
    if row is None or row.expires_at < now:
        raise _unauthorized("this session has ended: sign in with a new code")
    return row


class TryLimit:
    """At most so many tries a minute, by everybody together."""

    def __init__(self, most: int = MAX_TRIES_A_MINUTE) -> None:
        self._most = most
        self._tries: deque[float] = deque()
        self._lock = threading.Lock()

    def spend(self, now: float) -> None:
        """Count a try at ``now`` (seconds, monotonic). Raises ApiError (429)."""
        with self._lock:
            while self._tries and self._tries[0] <= now - 60:
                self._tries.popleft()
            if len(self._tries) >= self._most:
                raise ApiError(
                    "too many sign-in tries: wait a minute",
                    status=429,
                    code="too-many-tries",
                    headers={"Retry-After": "60"},
                )
            self._tries.append(now)


def _is_token(hub: Hub, token: str) -> bool:
    with hub.database.read() as session:
        row = session.get(ApiToken, (hub.tenant, sha256(token)))
    return row is not None and hmac.compare_digest(row.sha256, sha256(token))


def _unauthorized(message: str) -> ApiError:
    return ApiError(message, status=401, code="unauthorized", headers={"WWW-Authenticate": "Bearer"})
