"""Who answers while the device has no model: a thread of the supervisor, so that an idle device runs one process.

It speaks as a serve child does, and leaves as one when the first model is there. Health, metadata and "no such model"
are all that it answers: a body is never read as an inference, and no model's code is in this process.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Callable, Sequence

from edgewise_agent.serving.channel import Drain, FromChild, Heartbeat, Listening, Ready, Serve, ToChild
from edgewise_agent.serving.oip.api import Api
from edgewise_agent.serving.options import Options
from edgewise_agent.serving.process import Serving
from edgewise_agent.serving.server import Server

HEARTBEAT_S = 1.0
DRAIN_S = 3.0
"""How long idle connections may stay, as in a serve child."""


class IdleServer:
    """``said`` is called on a thread with each message, and last with None when it has left."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        options: Options,
        said: Callable[[Serving, FromChild | None], None],
    ) -> None:
        self.bundles: dict[str, str] = {}
        self._listeners, self._options = listeners, options
        self._commands: queue.Queue[ToChild] = queue.Queue()
        threading.Thread(target=self._run, args=(said,), name="serve-idle", daemon=True).start()

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    def send(self, message: ToChild) -> None:
        """Tell it something."""
        self._commands.put(message)

    def drain(self) -> None:
        """Ask it to finish."""
        self.send(Drain())

    def kill(self) -> None:
        """It ends by itself: there is no model in it that could hang."""

    def ended(self) -> str:
        """How it ended, in words."""
        return "left"

    def tail(self, secrets: tuple[str, ...] = ()) -> str:
        """It writes to the supervisor's log."""
        return ""

    def _run(self, said: Callable[[Serving, FromChild | None], None]) -> None:
        """Thread: its life, as a serve child's."""
        said(self, Ready(runtimes=[]))
        server: Server | None = None
        while True:
            try:
                command = self._commands.get(timeout=HEARTBEAT_S)
            except queue.Empty:
                said(self, Heartbeat(rss=0))  # the supervisor's own memory is counted already
                continue
            if isinstance(command, Drain):
                break
            if isinstance(command, Serve):
                api = Api({}, self._options, lambda taken: None)
                server = Server(api, self._listeners, self._options, 1)
                server.start()
                said(self, Listening())
        if server is not None:
            server.drain(DRAIN_S)
        said(self, None)
