"""What the agent tells whoever started it, in systemd's words (sd_notify): ready, alive, stopping.

It goes to ``edgewise_agent.launch`` where that started us, else to systemd, else nowhere.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

LAUNCH_FD_VARIABLE = "EDGEWISE_AGENT_LAUNCH_FD"
"""Set by ``edgewise_agent.launch`` for the agent that it starts: the descriptor of the socket to it. Not for owners."""
ALIVE_S = 5.0
"""Seconds between two signs of life."""


class Notifier:
    """Says so, and never fails: nobody listening is no error."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket: socket.socket | None = None
        self._alive_at = float("-inf")
        self.launched = LAUNCH_FD_VARIABLE in environment
        try:
            if self.launched:
                self._socket = socket.socket(fileno=int(environment[LAUNCH_FD_VARIABLE]))
            elif environment.get("NOTIFY_SOCKET"):
                path = environment["NOTIFY_SOCKET"]
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.connect("\0" + path[1:] if path.startswith("@") else path)
        except (OSError, ValueError):
            self._socket = None
        if self._socket is not None:
            self._socket.setblocking(False)
            os.set_inheritable(self._socket.fileno(), False)

    def ready(self) -> None:
        """It works: the store is open, and the connection is on its way."""
        self._send("READY=1")

    def alive(self, now: float) -> bool:
        """The loop turns; ``now`` is monotonic seconds. False when the launcher that started us is gone."""
        if now - self._alive_at < ALIVE_S:
            return True
        self._alive_at = now
        return self._send("WATCHDOG=1") or not self.launched

    def stopping(self) -> None:
        """It ends by its own wish."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> bool:
        """Is somebody there?"""
        if self._socket is None:
            return False
        try:
            self._socket.send(state.encode())
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True
