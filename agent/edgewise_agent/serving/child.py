"""The serve child: ``python -m edgewise_agent.serving.child CHANNEL_FD LISTEN_FD...``, started by the supervisor alone.

Its life: load and smoke-test what it is told (``Ready``), accept when told (``Listening``), report windows and a
heartbeat each second, and on ``Drain`` accept no more, answer what is in flight, give the last windows away and exit.
When the channel closes it exits at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgewise import decoding
from edgewise_agent.facts import rss
from edgewise_agent.serving.channel import (
    Channel,
    Configure,
    Drain,
    FromChild,
    Heartbeat,
    Listening,
    Load,
    Ready,
    Serve,
    ToChild,
)
from edgewise_agent.serving.oip.api import Api
from edgewise_agent.serving.options import Options
from edgewise_agent.serving.server import Server

if TYPE_CHECKING:
    from edgewise_agent.serving.inference import ServedModel
    from edgewise_agent.serving.models import Models
    from edgewise_agent.serving.oip.grpc_server import GrpcServer

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
MAX_INFERENCE_S = 30.0
"""An inference that takes longer hangs: the heartbeat stops, and the supervisor ends this process."""
DRAIN_S = 3.0
"""How long idle connections may stay after ``Drain``: their next answer closes them, with no request lost."""
_TICK_S = 0.25
_OUTBOX = 2048


class Child:
    """One serve child's state. Commands are carried out one after another, on the main thread; others say so."""

    def __init__(self, channel: Channel, listeners: Sequence[socket.socket]) -> None:
        self._channel, self._listeners, self._options = channel, listeners, Options()
        self._models: Models | None = None
        self._server: Server | None = None
        self._grpc: GrpcServer | None = None
        self._outbox: queue.Queue[FromChild | None] = queue.Queue(_OUTBOX)
        self._commands: queue.Queue[ToChild] = queue.Queue()
        self._ended = threading.Event()

    def run(self) -> None:
        """Until drained."""
        decoding.ready()
        writer = threading.Thread(target=self._write, name="channel-writer", daemon=True)
        ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)
        reader = threading.Thread(target=self._read, name="channel-reader", daemon=True)
        for thread in (writer, ticker, reader):
            thread.start()
        while True:
            match self._commands.get():
                case Load() as load:
                    self._load(load)
                case Serve():
                    self._serve()
                case Configure(models=models) if self._models is not None:
                    self._models.configure(models)
                case Drain():
                    break
        if self._server is not None:
            self._server.drain(DRAIN_S)
        if self._grpc is not None:
            self._grpc.drain(DRAIN_S)
        self._ended.set()
        ticker.join()
        if self._models is not None:
            self._models.report(last=True)
        self._outbox.put(None)
        writer.join()

    def _load(self, load: Load) -> None:
        self._options = load.options
        runtimes: list[str] = []
        if load.models:
            from edgewise_agent.serving.models import Models  # here: a child without a model stays small

            self._models = Models(load, self._say)
            runtimes = self._models.open()
            _give_back()
        self._say(Ready(runtimes=runtimes, rss=rss()))

    def _serve(self) -> None:
        served = self._models.served if self._models is not None else {}
        running = self._options.running * max(1, len(served))
        api = Api(served, self._options, self._say)
        self._server = Server(api, self._listeners, self._options, running)
        self._server.start()
        if self._options.grpc_port is not None:
            self._serve_grpc(served, self._options.grpc_port)
        self._say(Listening())

    def _serve_grpc(self, served: dict[str, ServedModel], port: int) -> None:
        try:
            from edgewise_agent.serving.oip.grpc_server import GrpcServer  # here: it takes 20 MB

            self._grpc = GrpcServer(served, self._options, port)
        except (ImportError, RuntimeError) as error:
            log.error("gRPC is not answered on port %d: %s (pip install 'edgewise-agent[grpc]')", port, error)

    def _tick(self) -> None:
        """Thread: close windows that are over; say that we live."""
        next_beat = 0.0
        while not self._ended.wait(_TICK_S):
            now = time.monotonic()
            models = self._models
            if models is not None:
                models.report()
            if now >= next_beat and (models is None or models.longest(now) < MAX_INFERENCE_S):
                next_beat = now + HEARTBEAT_S
                self._say(Heartbeat(rss=rss()))

    def _say(self, message: FromChild) -> None:
        """Queue a message for the supervisor; from any thread."""
        try:
            self._outbox.put_nowait(message)
        except queue.Full:
            log.error("the supervisor does not listen: a %s is lost", type(message).__name__)

    def _write(self) -> None:
        """Thread: the outbox into the channel."""
        while (message := self._outbox.get()) is not None:
            self._channel.send(message)

    def _read(self) -> None:
        """Thread: what the supervisor says. A closed channel ends the process, whatever else it is doing."""
        decoder = msgspec.msgpack.Decoder(ToChild)
        while (message := self._channel.receive(decoder)) is not None:
            self._commands.put(message)
        os._exit(0)


def _die_with_supervisor() -> None:
    """Linux: be killed when the supervisor dies, even where native code hangs and no thread sees the channel close; and
    before the supervisor where memory runs out."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("500")


def _give_back() -> None:
    """glibc: the memory that loading left behind, since a model's file was read beside its weights: 14 of 69 MB."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another libc
            ctypes.CDLL(None).malloc_trim(0)


def main() -> None:
    """Serve until drained or until the channel closes."""
    _die_with_supervisor()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    channel, *listeners = (socket.socket(fileno=int(fd)) for fd in sys.argv[1:])
    Child(Channel(channel), listeners).run()


if __name__ == "__main__":
    main()
