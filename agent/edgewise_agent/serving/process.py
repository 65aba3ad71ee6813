"""A serve child, seen from its supervisor: started, spoken to, watched, stopped.

Two threads a child only move what it says (channel) and writes (stderr) to the agent's queue and log.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from edgewise.errors import EdgewiseError
from edgewise_agent.serving.channel import Channel, ChannelError, Drain, FromChild, Load, ToChild

log = logging.getLogger(__name__)

MAX_TAIL = 1500
"""Characters of a log tail: with its reason it fits a progress message, whatever JSON makes of the characters."""
_TAIL_LINES = 30


class StartFailed(EdgewiseError):
    """The system gives no process (memory, process limit); it is tried again."""

    code = "start-failed"


class Serving(Protocol):
    """What serves, as its supervisor sees it: a process of its own, or ``idle``. ``bundles``: place -> bundle."""

    bundles: dict[str, str]

    @property
    def pid(self) -> int:
        """Process id."""

    def send(self, message: ToChild) -> None:
        """Tell it something."""

    def drain(self) -> None:
        """Ask it to finish and leave."""

    def kill(self) -> None:
        """End it now."""

    def ended(self) -> str:
        """How it ended, in words, once it has said None."""

    def tail(self, secrets: tuple[str, ...] = ()) -> str:
        """The last lines of its log, without secrets."""


class ServeProcess:
    """One serve child. ``bundles``: place -> bundle that it was started for.

    Raises StartFailed. ``said`` is called on a thread with each message, and last with None when the child is gone.
    """

    def __init__(
        self,
        load: Load,
        listeners: Sequence[socket.socket],
        said: Callable[[Serving, FromChild | None], None],
    ) -> None:
        self.bundles = {model.model: model.bundle for model in load.models}
        self.bundles |= {f"{model.model}/{role}": b for model in load.models for role, b in model.others.items()}
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        ours, theirs = socket.socketpair()
        with theirs:
            fds = (theirs.fileno(), *(listener.fileno() for listener in listeners))
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "edgewise_agent.serving.child", *map(str, fds)],
                    pass_fds=fds,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # a Ctrl-C is for the supervisor, which then drains the child
                    env=dict(os.environ, ORT_DISABLE_TELEMETRY="1", OPENBLAS_NUM_THREADS="1"),
                )
            except OSError as error:
                ours.close()
                raise StartFailed(f"a serve child cannot be started: {error}") from error
        self._channel = Channel(ours)
        self._errors = threading.Thread(target=self._read_errors, name="serve-child-stderr", daemon=True)
        self._errors.start()
        threading.Thread(target=self._read, args=(said,), name="serve-child", daemon=True).start()
        self.send(load)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, message: ToChild) -> None:
        """Tell it something; one that is gone will be seen by its reader."""
        self._channel.send(message)

    def drain(self) -> None:
        """Ask it to finish and exit."""
        self.send(Drain())

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def ended(self) -> str:
        """How it ended, in words; waits for its end, which its closed channel has announced."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._errors.join(timeout=1)
        self._channel.close()
        return f"ended with {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"

    def tail(self, secrets: tuple[str, ...] = ()) -> str:
        """The last lines that it wrote to stderr, without secrets, bounded."""
        text = "\n".join(self._tail)
        for secret in secrets:
            text = text.replace(secret, "***")
        return text[-MAX_TAIL:]

    def _read(self, said: Callable[[Serving, FromChild | None], None]) -> None:
        decoder = msgspec.msgpack.Decoder(FromChild)
        try:
            while (message := self._channel.receive(decoder)) is not None:
                said(self, message)
        except ChannelError as error:
            log.error("serve child: %s", error)
            self._process.kill()
        said(self, None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            while raw := stream.readline(4096):
                line = raw.decode(errors="replace").rstrip()
                if line:
                    self._tail.append(line[:500])
                    log.warning("serve child %d: %s", self.pid, line[:500])
