"""Server-sent events: bytes in, messages out. No socket: who reads one feeds it here.

After the WHATWG HTML standard, section 9.2.6, with a bound: a message over ``MAX_MESSAGE`` bytes is refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from edgewise.errors import WireError

MAX_MESSAGE = 64 * 1024
MAX_RETRY_S = 60.0
_LINE_END = re.compile(rb"\r\n|\n|\r(?!$)")  # a CR at the end may be half of a CRLF: wait for the rest


class SseMessage(NamedTuple):
    """One message: ``event`` is its kind ("message" where the server named none)."""

    event: str
    data: str


class SseDecoder:
    """Feed it what came; it gives the messages that are whole. ``retry_s``: the server's wish for reconnects."""

    def __init__(self) -> None:
        self.retry_s: float | None = None
        self._rest = b""
        self._event = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> list[SseMessage]:
        """The messages that ``data`` completes. Raises WireError (code ``too-large``) past the bound."""
        *lines, self._rest = _LINE_END.split(self._rest + data)
        messages = []
        for line in lines:
            self._size += len(line)
            self._check(self._size)
            if line:
                self._field(line.decode("utf-8", "replace"))
            else:
                if self._data:
                    messages.append(SseMessage(self._event or "message", "\n".join(self._data)))
                self._event, self._data, self._size = "", [], 0
        self._check(self._size + len(self._rest))
        return messages

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "retry" and value.isascii() and value.isdecimal():
            self.retry_s = min(int(value[:9]) / 1000, MAX_RETRY_S)

    @staticmethod
    def _check(size: int) -> None:
        if size > MAX_MESSAGE:
            raise WireError(f"event: at most {MAX_MESSAGE} bytes, got more", code="too-large")
