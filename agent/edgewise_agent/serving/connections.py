"""One client's connection, as ``server`` keeps it between two events: plain state, changed by whoever has it."""

from __future__ import annotations

import socket

from edgewise_agent.serving.http import Body, Head, HttpError


class Connection:
    """One client. ``body`` is filled up to ``got``; ``out`` is what it has not taken yet."""

    __slots__ = ("body", "buffer", "closing", "deadline", "got", "head", "lingering", "out", "refusal", "sock")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock, self.deadline = sock, deadline
        self.buffer = b""
        self.head: Head | None = None
        self.body = memoryview(b"")
        self.got = 0
        self.out: list[Body] = []
        self.refusal: HttpError | None = None
        """What it is told, whatever it asks."""
        self.closing = False
        self.lingering = 0
        """Bytes that are still read and forgotten; 0 while the connection lives."""
