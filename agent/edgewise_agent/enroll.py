"""Enrollment: a join token and the device's own key in, an identity out. HTTPS, or HTTP on this machine alone.

Rules that hold here:
- the device's key is durable before the hub hears of it; the identity is written after, whole;
- asking again with the same key is safe: the hub gives the same identity again;
- no redirect is followed, answers are bounded, and the token is in the signed body alone: never in a URL or a log.
"""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import msgspec

from edgewise.errors import EdgewiseError
from edgewise.wire.codec import decode_json, encode_json
from edgewise.wire.enrollment import SIGNATURE_HEADER, EnrollRequest, EnrollResponse
from edgewise_agent import identity as identities
from edgewise_agent.facts import device_facts
from edgewise_agent.store.disk import Disk

TIMEOUT_S = 30.0
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class EnrollFailed(EdgewiseError):
    """The hub did not enroll this device; the message is one line for whoever typed the command."""

    code = "enroll-failed"


class _Problem(msgspec.Struct):
    """The parts of problem+json (RFC 9457) that are shown."""

    title: str = ""
    detail: str = ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> None:
        """A redirect is an error: the token is for the hub that was named."""


def endpoint(hub: str) -> str:
    """The enrollment URL of a hub. Raises EnrollFailed for an address that a token must not be sent to."""
    try:
        parts = urlsplit(hub)
        host = parts.hostname
    except ValueError as error:
        raise EnrollFailed(f"--hub: {error}") from error
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or parts.username:
        raise EnrollFailed("--hub: expected https://host[:port]")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise EnrollFailed(f"--hub: {host} is another machine: expected https://, as a join token travels there")
    return hub.rstrip("/") + "/api/v1/enroll"


def enroll(disk: Disk, data: Path, *, hub: str, token: str, name: str, profile: str) -> identities.Identity:
    """Enroll this device and save its identity. Raises EdgewiseError with one line that says what to do."""
    url = endpoint(hub)
    disk.folder(data)
    key = identities.device_key(disk, data)
    try:
        request = msgspec.convert(
            {
                "token": token,
                "name": name,
                "profile": profile,
                "public_key": identities.public_key(key),
                "facts": device_facts(),
            },
            EnrollRequest,
        )
    except msgspec.ValidationError as error:
        raise EnrollFailed(f"enroll: {error}") from error
    body = encode_json(request)
    signature = base64.b64encode(key.sign(body)).decode()
    response = decode_json(_post(url, body, signature), EnrollResponse)
    identity = identities.from_response(hub, response)
    if (data / identities.IDENTITY_FILE).exists():
        known = identities.load(data)
        if (known.tenant, known.device, known.keys) != (identity.tenant, identity.device, identity.keys):
            raise EnrollFailed(
                f"{data} belongs to {known.tenant}/{known.device}, the hub says {identity.tenant}/{identity.device} "
                "(or signs with another key); use another --data folder"
            )
    identities.save(disk, data, identity)
    return identity


def _post(url: str, body: bytes, signature: str) -> bytes:
    """POST and return the answer's bytes, bounded."""
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if urlsplit(url).scheme == "http":
        handlers.append(urllib.request.ProxyHandler({}))  # this machine is reached without a proxy
    request = urllib.request.Request(
        url, data=body, headers={"Content-Type": "application/json", SIGNATURE_HEADER: signature}, method="POST"
    )
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S) as response:
            answer: bytes = response.read(EnrollResponse.bound + 1)
            return answer
    except urllib.error.HTTPError as error:
        with error:
            raise EnrollFailed(f"the hub refused: {_detail(error)}") from error
    except (OSError, ValueError) as error:  # URLError is an OSError; a broken answer may be a ValueError
        reason = getattr(error, "reason", error)
        raise EnrollFailed(f"no answer from {url}: {reason}") from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        problem = msgspec.json.decode(error.read(16 * 1024), type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, OSError):
        problem = _Problem()
    line = problem.detail or problem.title or f"HTTP {error.code}"
    return " ".join(line.split())[:500]
