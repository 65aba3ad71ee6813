"""HTTP/1.1 messages, read and written. Pure: bytes in, a head or a refusal out; the sockets are ``server``'s.

Rules that hold here:
- strict, so that nobody can read a message in two ways: CRLF alone ends a line, no folded lines, no space before a
  colon, no header twice that says where the body ends, a body by ``Content-Length`` alone (else 411);
- bounded: ``MAX_HEAD`` bytes, ``MAX_HEADERS`` lines;
- a request whose ``Host`` or ``Origin`` is not this machine's is refused: no web page may reach a model, neither by a
  name of its own for 127.0.0.1 nor by sending blindly.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

import msgspec

from edgewise.errors import EdgewiseError

Body = bytes | bytearray | memoryview

MAX_HEAD = 16 * 1024
MAX_HEADERS = 64
END = b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = "application/json"

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.([01])\Z")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\Z")
_DIGITS = re.compile(rb"[0-9]{1,15}\Z")
_ONCE = {b"content-length", b"host", b"transfer-encoding", b"inference-header-content-length", b"content-encoding"}
_LOCAL = {"127.0.0.1", "localhost", "[::1]"}
_WINDOW = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class HttpError(EdgewiseError):
    """An answer that is not 2xx. ``close``: what follows on the connection cannot be told from the body."""

    code = "http"

    def __init__(
        self, status: int, message: str, headers: Mapping[str, str] | None = None, *, close: bool = False
    ) -> None:
        super().__init__(message)
        self.status, self.headers, self.close = status, dict(headers or {}), close


@dataclass(frozen=True)
class Head:
    """A request without its body. Header names are lower case; ``path`` is decoded, one part each, without a query.
    Requests may share one: nobody changes its headers."""

    method: str
    path: tuple[str, ...]
    headers: dict[bytes, bytes]
    length: int
    keep_alive: bool

    def number(self, name: bytes) -> int | None:
        """A header that holds a number; None where it is not there. Raises HttpError 400."""
        value = self.headers.get(name)
        if value is None:
            return None
        if not _DIGITS.match(value):
            raise HttpError(400, f"{name.decode()}: expected a number, got {value[:40]!r}")
        return int(value)


@dataclass(frozen=True)
class Answer:
    """What goes back: ``parts`` are sent one after another, as they are."""

    status: int
    parts: list[Body] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


@lru_cache(maxsize=16)
def parse_head(data: bytes) -> Head:
    """A request's head, without the blank line that ends it. Raises HttpError, which closes the connection.

    The last ones are remembered: a client that keeps asking says the same again, but for its body.
    """
    lines = data.split(b"\r\n")
    if len(lines) > MAX_HEADERS + 1:
        raise HttpError(431, f"expected at most {MAX_HEADERS} headers, got {len(lines) - 1}", close=True)
    request = _REQUEST_LINE.match(lines[0])
    if request is None:
        raise HttpError(400, f"expected 'METHOD /path HTTP/1.1', got {lines[0][:100]!r}", close=True)
    headers: dict[bytes, bytes] = {}
    for line in lines[1:]:
        found = _HEADER.match(line)
        if found is None:
            raise HttpError(400, f"expected a header 'name: value', got {line[:100]!r}", close=True)
        name = found[1].lower()
        if name in headers and name in _ONCE:
            raise HttpError(400, f"expected {name.decode()} once", close=True)
        headers[name] = found[2]
    method, version = request[1].decode(), request[3]
    return Head(method, _path(request[2]), headers, _length(headers), _keep_alive(headers, version))


def refuse_strangers(head: Head) -> None:
    """Raises HttpError 403 unless the request was meant for this machine, by a program on it."""
    host = head.headers.get(b"host", b"").decode("latin-1")
    if _name(host) not in _LOCAL:
        raise HttpError(403, f"host {host[:100]!r}: expected 127.0.0.1 or localhost")
    origin = head.headers.get(b"origin")
    if origin is not None:
        try:
            netloc = urlsplit(origin.decode("latin-1")).netloc
        except ValueError:
            netloc = ""
        if _name(netloc) not in _LOCAL:
            raise HttpError(403, f"origin {origin[:100]!r}: expected a page of 127.0.0.1 or localhost")


def decompress(head: Head, body: memoryview, bound: int) -> memoryview:
    """The body without its ``Content-Encoding``. Raises HttpError 400, 413 or 415."""
    encoding = head.headers.get(b"content-encoding", b"identity").lower()
    if encoding == b"identity":
        return body
    if encoding not in _WINDOW:
        raise HttpError(415, f"content-encoding {encoding[:40]!r}: expected gzip, deflate or identity")
    inflate = zlib.decompressobj(_WINDOW[encoding])
    try:
        data = inflate.decompress(body, bound + 1)
    except zlib.error as error:
        raise HttpError(400, f"content-encoding {encoding.decode()}: {error}") from error
    if len(data) > bound:
        raise HttpError(413, f"expected at most {bound} bytes after decompression")
    if not inflate.eof or inflate.unused_data:
        raise HttpError(400, f"content-encoding {encoding.decode()}: expected one whole stream")
    return memoryview(data)


def json_answer(status: int, content: object, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON."""
    return Answer(status, [msgspec.json.encode(content)], {"content-type": JSON, **(headers or {})})


def error_answer(error: HttpError) -> Answer:
    """As the Open Inference Protocol wants errors."""
    return json_answer(error.status, {"error": str(error)}, error.headers)


def encode(answer: Answer, *, close: bool, without_body: bool = False) -> list[Body]:
    """The bytes of an answer, in parts. ``without_body``: to a HEAD request."""
    lines = [_STATUS_LINES[answer.status]]
    lines += [f"{name}: {value}\r\n" for name, value in answer.headers.items()]
    if answer.status != 204:
        lines.append(f"content-length: {sum(map(len, answer.parts))}\r\n")
    if close:
        lines.append("connection: close\r\n")
    lines.append("\r\n")
    head = "".join(lines).encode("latin-1")
    return [head] if without_body else [head, *answer.parts]


def _path(target: bytes) -> tuple[str, ...]:
    path = target.partition(b"?")[0].decode()
    return tuple(unquote(part) for part in path.split("/") if part)


def _length(headers: dict[bytes, bytes]) -> int:
    if b"transfer-encoding" in headers:
        raise HttpError(411, "expected a body with Content-Length, got Transfer-Encoding", close=True)
    value = headers.get(b"content-length", b"0")
    if not _DIGITS.match(value):
        raise HttpError(400, f"content-length: expected a number of bytes, got {value[:40]!r}", close=True)
    return int(value)


def _keep_alive(headers: dict[bytes, bytes], version: bytes) -> bool:
    wish = headers.get(b"connection", b"").lower()
    return b"close" not in wish if version == b"1" else b"keep-alive" in wish


def _name(host: str) -> str:
    """A host without its port."""
    return host if host.endswith("]") else host.rpartition(":")[0] or host
