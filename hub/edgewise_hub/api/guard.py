"""What holds for every request before anything reads it: who it is addressed to, how large it is, how it is answered.

Rules that hold here:
- a request names this hub in ``Host``, else 421: a web page that points its own name at 127.0.0.1 (DNS rebinding) gets
  nothing;
- one that changes something comes from no other page (``Origin``), else 403;
- a body has at most MAX_BODY bytes, else 413, wherever it is not a blob, which is streamed under its own bound;
- every answer forbids the browser what the console does not need.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgewise_hub.api.auth import SAFE_METHODS
from edgewise_hub.api.errors import problem

MAX_BODY = 1 << 20
BLOBS = "/api/v1/blobs/"
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def own_hosts(host: str, port: int) -> frozenset[str]:
    """The values of ``Host`` that name a hub on ``host`` and ``port``."""
    names = {*LOOPBACK_NAMES, f"[{host}]" if ":" in host else host}
    return frozenset({f"{name}:{port}" for name in names} | (names if port == 80 else set()))


class Guard:
    """The outermost ASGI middleware. ``hosts``: see ``own_hosts``."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        request = Headers(scope=scope)
        refusal = self._refusal(scope, request)
        if refusal is not None:
            await problem(*refusal)(scope, receive, send_guarded)
        elif scope["path"].startswith(BLOBS):
            await self._app(scope, receive, send_guarded)
        else:
            await self._app(scope, _bounded(receive), send_guarded)

    def _refusal(self, scope: Scope, request: Headers) -> tuple[int, str, str] | None:
        """(status, code, detail) of a request that goes no further."""
        if request.get("host", "").lower() not in self._hosts:
            return 421, "wrong-host", f"this hub answers to {', '.join(sorted(self._hosts))} only"
        origin = request.get("origin")
        if scope["method"] not in SAFE_METHODS and origin is not None and urlsplit(origin).netloc not in self._hosts:
            return 403, "wrong-origin", "a page of another origin may change nothing here"
        length = request.get("content-length", "0")
        if not scope["path"].startswith(BLOBS) and (not length.isdigit() or int(length) > MAX_BODY):
            return 413, "too-large", f"a body has at most {MAX_BODY} bytes"
        return None


def _bounded(receive: Receive) -> Receive:
    """Count a body that did not say how long it is."""
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            raise HTTPException(413, f"a body has at most {MAX_BODY} bytes")
        return message

    return bounded
