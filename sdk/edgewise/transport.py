"""One HTTP connection to a hub: requests in, structs or a ``HubError`` out. The only file that knows httpx.

Rules that hold here:
- the token goes in a header, to loopback or over https, and nowhere else: no redirect is followed, and loopback
  never goes through a proxy of the environment;
- every wait has a timeout and every answer a bound;
- whatever goes wrong becomes a ``HubError`` that says what to do.
"""

from __future__ import annotations

import ipaddress
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from edgewise.decoding import json_decoder
from edgewise.errors import EdgewiseError, WireError
from edgewise.resources import Event, Page, Resource
from edgewise.sse import SseDecoder

T = TypeVar("T")
R = TypeVar("R", bound=Resource)

API = "/api/v1"
TIMEOUT_S = 30.0
CONNECT_S = 5.0
SILENCE_S = 60.0
"""An event stream that is silent for so long is taken for dead: the hub sends a comment far more often."""
PATIENCE_S = 30.0
"""For so long a wait bears a hub that does not answer: a restart takes seconds."""
RETRY_S = 0.5
MAX_RETRY_S = 30.0
MAX_ANSWER = 64 * 1024 * 1024
PAGE = 200

UNKNOWN_TOKEN = "set EDGEWISE_TOKEN, or give --token-file, to the operator token that the hub wrote into its folder"


class HubError(EdgewiseError):
    """The hub refused, or did not answer. ``code`` is stable, as in the hub's problem+json; ``status`` is HTTP's, or
    None without an answer. This side's own codes: ``no-answer``, ``timeout``, ``bad-answer``, ``bad-url``,
    ``bad-token``, ``bad-name``, ``no-hub``, ``no-token``."""

    def __init__(self, detail: str, *, code: str, status: int | None = None) -> None:
        super().__init__(detail, code=code)
        self.detail = detail
        self.status = status


class _Problem(msgspec.Struct):
    """What is read of RFC 9457 problem details."""

    code: str = ""
    detail: str = ""
    title: str = ""


def segment(name: str | int) -> str:
    """A name as one segment of a path. Raises HubError for one that is empty or would climb."""
    if name in ("", ".", ".."):
        raise HubError(f"expected a name or an id, got {name!r}", code="bad-name")
    return quote(str(name), safe="")


def is_loopback(url: str) -> bool:
    """Does the URL name this very machine?"""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_url(url: str) -> str:
    """The hub's URL without a trailing slash. Raises HubError (code ``bad-url``) for one that no token may go to."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise HubError(f"hub's URL: {error}", code="bad-url") from error
    if parts.username is not None or parts.password is not None:
        raise HubError("hub's URL: expected no user or password in it; " + UNKNOWN_TOKEN, code="bad-url")
    shown = re.split(r"[?#]", url)[0][:200]  # what follows may hold a secret
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise HubError(f"hub's URL: expected such as http://127.0.0.1:8470, got {shown!r}", code="bad-url")
    if parts.scheme == "http" and not is_loopback(url):
        raise HubError(
            f"hub's URL: {shown}: a token goes over https alone, except to this machine; use https", code="bad-url"
        )
    return url.rstrip("/")


class Transport:
    """A hub's API by path. Use it from one thread at a time."""

    def __init__(self, url: str, token: str, *, timeout: float = TIMEOUT_S) -> None:
        self.url = check_url(url)
        if not re.fullmatch(r"[!-~]{1,4096}", token):
            raise HubError("token: expected printable ASCII without spaces; " + UNKNOWN_TOKEN, code="bad-token")
        self._http = httpx.Client(
            base_url=self.url + API,
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=httpx.Timeout(timeout, connect=min(CONNECT_S, timeout)),
            trust_env=not is_loopback(url),
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, path: str, kind: type[T], **params: str | float | bool | None) -> T:
        """Read one document; parameters that are None are left out."""
        return self._decode(self._send("GET", path, params=_given(params)), kind)

    def text(self, path: str) -> str:
        """Read one page."""
        return self._send("GET", path).decode(errors="replace")

    def post(self, path: str, kind: type[T], body: object = None) -> T:
        """Send a body of structs, dicts and lists; read one document."""
        return self._decode(self._send("POST", path, body=body), kind)

    def patch(self, path: str, kind: type[T], body: object) -> T:
        """As ``post``."""
        return self._decode(self._send("PATCH", path, body=body), kind)

    def delete(self, path: str) -> None:
        """Delete one resource."""
        self._send("DELETE", path)

    def list(
        self, path: str, kind: type[R], limit: int | None = None, **params: str | float | bool | None
    ) -> Sequence[R]:
        """All items of a paged list, or the first ``limit``."""
        items: list[R] = []
        cursor: str | None = None
        while limit is None or len(items) < limit:
            wanted = PAGE if limit is None else min(PAGE, limit - len(items))
            page = self.get(path, Page[kind], cursor=cursor, limit=wanted, **params)  # type: ignore[valid-type]
            items += page.items
            if page.next is None:
                break
            if page.next == cursor or not page.items:
                raise HubError(f"{path}: the hub gives the same page again and again", code="bad-answer")
            cursor = page.next
        return items[:limit]

    def has_blob(self, sha256: str) -> bool:
        """Is the blob on the hub?"""
        try:
            self._send("HEAD", f"/blobs/{segment(sha256)}")
        except HubError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def put_blob(self, sha256: str, path: Path) -> None:
        """Stream a file to the hub, which checks its digest."""
        with path.open("rb") as file:
            chunks = iter(lambda: file.read(1 << 18), b"")
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
            self._send("PUT", f"/blobs/{segment(sha256)}", content=chunks, headers=headers)

    def follow(self, read: Callable[[], T], *, every: float, timeout: float | None) -> Iterator[T]:
        """What ``read`` gives: at first, and each time that it changed. It never ends by itself: the reader stops.

        Bears a hub that is away for PATIENCE_S. Raises HubError (code ``timeout``) after ``timeout`` seconds.
        """
        started = answered = time.monotonic()
        last: T | None = None
        while True:
            try:
                now_is = read()
                answered = time.monotonic()
                if now_is != last:
                    last = now_is
                    yield now_is
            except HubError as error:
                if error.status is not None or time.monotonic() - answered > PATIENCE_S:
                    raise
            if timeout is not None and time.monotonic() - started > timeout:
                raise HubError(f"waited {timeout:g} s, and it has not ended; it goes on at the hub", code="timeout")
            time.sleep(every)

    def events(self) -> Iterator[Event]:
        """Live changes, until the caller stops; reconnects, and says ``resync`` when events may have been missed.

        Raises HubError when the first connection fails, or when the hub refuses.
        """
        first = True
        base = delay = RETRY_S
        while True:
            decoder = SseDecoder()
            try:
                with self._http.stream(
                    "GET",
                    "/events",
                    headers={"Accept": "text/event-stream"},
                    timeout=httpx.Timeout(CONNECT_S, read=SILENCE_S),
                ) as response:
                    if not response.is_success:
                        raise self._refusal(response, _read(response))
                    if not first:
                        yield Event(kind="resync", id="")
                    first = False
                    for chunk in response.iter_bytes():
                        for message in decoder.feed(chunk):
                            yield _event(message.event, message.data)
                        base = delay = decoder.retry_s or base
            except httpx.RequestError as error:
                if first:
                    raise self._no_answer(error) from error
            except HubError as error:
                if first or error.status is None or error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
            time.sleep(delay)
            delay = min(MAX_RETRY_S, random.uniform(base, 3 * delay))  # decorrelated jitter

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: object = None,
        content: Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        sent: bytes | Iterator[bytes] | None = content
        if body is not None:
            sent, headers = msgspec.json.encode(body), {"Content-Type": "application/json"}
        try:
            with self._http.stream(method, path, params=params, content=sent, headers=headers) as response:
                answer = _read(response)
        except httpx.RequestError as error:
            raise self._no_answer(error) from error
        if not response.is_success:
            raise self._refusal(response, answer)
        return answer

    def _decode(self, answer: bytes, kind: type[T]) -> T:
        try:
            return json_decoder(kind).decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HubError(
                f"{self.url}: the answer is not one of an Edgewise hub that this build knows: {error}; "
                "check the URL, or update edgewise",
                code="bad-answer",
            ) from error

    def _no_answer(self, error: httpx.RequestError) -> HubError:
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return HubError(f"{self.url}: the hub did not answer in time; see its log, or try again", code="timeout")
        return HubError(
            f"{self.url}: no hub answers ({str(error) or type(error).__name__}); start one with 'edgewise hub up', "
            "or name another with --url or EDGEWISE_URL",
            code="no-answer",
        )

    def _refusal(self, response: httpx.Response, answer: bytes) -> HubError:
        status = response.status_code
        try:
            problem = json_decoder(_Problem).decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            problem = _Problem()
        if status == HTTPStatus.UNAUTHORIZED:
            detail = f"{self.url}: the hub refused the token; {UNKNOWN_TOKEN}"
        else:
            detail = (
                problem.detail or problem.title or f"{self.url}: the hub answered {status} {response.reason_phrase}"
            )
        return HubError(detail, code=problem.code or f"http-{status}", status=status)


def _given(params: dict[str, str | float | bool | None]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _read(response: httpx.Response) -> bytes:
    answer = bytearray()
    for chunk in response.iter_bytes():
        answer += chunk
        if len(answer) > MAX_ANSWER:
            raise HubError(f"the answer is over {MAX_ANSWER} bytes; ask for less", code="bad-answer")
    return bytes(answer)


def _event(kind: str, data: str) -> Event:
    try:
        return Event(kind=kind, id=str(msgspec.json.decode(data, type=dict[str, Any]).get("id", "")))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"event {kind[:40]!r}: expected {{'id': ...}}: {error}") from error
