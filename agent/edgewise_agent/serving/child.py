"""The serve child: ``python -m edgewise_agent.serving.child CHANNEL_FD LISTEN_FD``, started by the supervisor alone.

Its life: load and smoke-test what it is told (``Ready``), accept when told (``Listening``), report windows and a
heartbeat each second, and on ``Drain`` accept no more, answer what is in flight, give the last windows away and exit.
When the channel closes it exits at once.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import uvicorn

from edgewise_agent.facts import rss
from edgewise_agent.serving.channel import (
    Channel,
    Configure,
    Drain,
    FromChild,
    Heartbeat,
    Listening,
    Load,
    LoadFailed,
    Ready,
    Serve,
    ServeModel,
    ToChild,
)
from edgewise_agent.serving.http import App
from edgewise_agent.serving.inference import Busy, ServedModel
from edgewise_agent.serving.model import ModelFailure, open_model
from edgewise_agent.windows.collector import Collector

log = logging.getLogger(__name__)

POOL_THREADS = 2
HEARTBEAT_S = 1.0
MAX_INFERENCE_S = 30.0
"""An inference that takes longer hangs: the heartbeat stops, and the supervisor ends this process."""
DRAIN_S = 3.0
"""How long idle connections may stay after ``Drain``: their next answer closes them, with no request lost."""
ACCEPT_TURNS = 8
"""Turns of the event loop in which an accepted connection is surely known to its server (asyncio takes three)."""
_TICK_S = 0.1
_OUTBOX = 2048


class Child:
    """One serve child's state. Everything here runs on the event loop, but where it says otherwise."""

    def __init__(self, channel: Channel, listener: socket.socket) -> None:
        self._channel, self._listener = channel, listener
        self._busy = Busy()
        self._pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="inference")
        self._models: dict[str, ServedModel] = {}
        self._app = App(self._models, self._pool, self._say)
        self._outbox: queue.Queue[FromChild | None] = queue.Queue(_OUTBOX)
        self._commands: asyncio.Queue[ToChild] = asyncio.Queue()
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until drained."""
        loop = asyncio.get_running_loop()
        writer = threading.Thread(target=self._write, name="channel-writer", daemon=True)
        writer.start()
        threading.Thread(target=self._read, args=(loop,), name="channel-reader", daemon=True).start()
        ticking = asyncio.create_task(self._tick())
        while True:
            match await self._commands.get():
                case Load() as load:
                    await loop.run_in_executor(None, self._load, load)
                case Serve():
                    await self._serve()
                case Configure(models=models):
                    self._configure(models)
                case Drain():
                    break
        await self._drain()
        ticking.cancel()
        for served in self._models.values():
            self._report(served, last=True)
        self._outbox.put(None)
        await loop.run_in_executor(None, writer.join)

    def _load(self, load: Load) -> None:
        """Open the models, one after another; on a thread, so that the heartbeat goes on."""
        runtimes: set[str] = set()
        for wish in load.models:
            try:
                with self._busy:
                    model = open_model(wish.bundle, Path(load.blobs))
            except ModelFailure as error:
                self._say(LoadFailed(model=wish.model, bundle=wish.bundle, code=error.code, reason=str(error)[:1000]))
                continue
            collector = Collector(
                model=model.manifest.model,
                version=model.manifest.version,
                bundle=model.bundle,
                spec=model.spec,
                spec_digest=model.spec_digest,
                projection=model.projection,
                window_s=wish.window_s,
                now=time.monotonic(),
                clock=time.time(),
            )
            runtimes.add(model.runtime.version)
            self._models[wish.model] = ServedModel(model, collector, self._busy, wish.sampling)
        self._say(Ready(runtimes=sorted(runtimes)))

    async def _serve(self) -> None:
        config = uvicorn.Config(
            self._app,
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(0.005)
        if self._server.started:
            self._say(Listening())

    async def _drain(self) -> None:
        if self._server is None or self._serving is None:
            return
        self._app.draining = True
        # Not close() at once: asyncio attaches an accepted connection in a later task, and drops it, request and all,
        # if its server is closed by then. So accept no more, let those tasks and connection_made run, then close.
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)
        for server in self._server.servers:
            server.close()
        deadline = time.monotonic() + DRAIN_S
        while self._server.server_state.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self._server.should_exit = True
        await self._serving

    def _configure(self, models: list[ServeModel]) -> None:
        for wish in models:
            served = self._models.get(wish.model)
            if served is not None and served.model.bundle == wish.bundle:
                served.configure(wish.window_s, wish.sampling)

    async def _tick(self) -> None:
        """Close windows that are over; say that we live."""
        next_beat = 0.0
        while True:
            now = time.monotonic()
            for served in list(self._models.values()):
                self._report(served)
            if now >= next_beat and self._busy.longest(now) < MAX_INFERENCE_S:
                next_beat = now + HEARTBEAT_S
                self._say(Heartbeat(rss=rss()))
            await asyncio.sleep(_TICK_S)

    def _report(self, served: ServedModel, *, last: bool = False) -> None:
        window = served.collector.poll(time.monotonic(), time.time(), last=last)
        if window is not None:
            self._say(window)

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

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Thread: the channel into the event loop. A closed channel ends the process, whatever else it is doing."""
        decoder = msgspec.msgpack.Decoder(ToChild)
        while (message := self._channel.receive(decoder)) is not None:
            loop.call_soon_threadsafe(self._commands.put_nowait, message)
        os._exit(0)


def _die_with_supervisor() -> None:
    """Linux: be killed when the supervisor dies, even where native code hangs and no thread sees the channel close."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> None:
    """Serve until drained or until the channel closes."""
    _die_with_supervisor()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    channel, listener = socket.socket(fileno=int(sys.argv[1])), socket.socket(fileno=int(sys.argv[2]))
    asyncio.run(Child(Channel(channel), listener).run())


if __name__ == "__main__":
    main()
