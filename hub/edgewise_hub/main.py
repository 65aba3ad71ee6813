"""The hub as one process: every part made, started in order, and stopped in the opposite one.

Rules that hold here:
- one hub a data folder (a lock), one port, and nothing is started before both are ours;
- whatever was started is stopped, however far the start came;
- what a crash left between a commit and its publish goes out at the first connection, since everything retained does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import uvicorn
from fastapi import FastAPI
from sqlalchemy import select

from edgewise import decoding
from edgewise.errors import EdgewiseError
from edgewise_hub import migrations
from edgewise_hub.api.app import create_app
from edgewise_hub.api.auth import create_token
from edgewise_hub.api.tables import ApiToken
from edgewise_hub.experiments import controller as experiments_controller
from edgewise_hub.experiments import ingest as experiments
from edgewise_hub.fleet import desired, devices
from edgewise_hub.hub import Hub
from edgewise_hub.jobs.local import LocalExecutor
from edgewise_hub.learning import runs, samples, triggers
from edgewise_hub.monitoring import calibrations, health, ingest, monitor, retention, streams, webhooks
from edgewise_hub.mqtt import retained
from edgewise_hub.mqtt.blocks import BlockSender
from edgewise_hub.mqtt.connection import BrokerAddress, Connection
from edgewise_hub.mqtt.inbox import Handler, Outbound
from edgewise_hub.mqtt.mosquitto import Mosquitto
from edgewise_hub.mqtt.receive import Receiver
from edgewise_hub.registry.deltas import Deltas
from edgewise_hub.rollouts import controller
from edgewise_hub.settings import Settings

log = logging.getLogger(__name__)

GRACE_S = 3

Tick = Callable[[Hub, float], None]
TICKS: tuple[Tick, ...] = (
    controller.tick,
    experiments_controller.tick,
    monitor.tick,
    triggers.tick,
    runs.tick,
    retention.tick,
    calibrations.tick,
    desired.tick,
)


class StartError(EdgewiseError):
    """The hub cannot start: its folder or its port is in use."""

    code = "cannot-start"


class Ready(NamedTuple):
    """The hub answers at ``url``. ``token`` is the operator's, at the first start alone."""

    url: str
    data: Path
    token: str | None


def serve(settings: Settings, ready: Callable[[Ready], None]) -> None:
    """Run the hub in the foreground until SIGTERM or SIGINT; ``ready`` is called once it answers.

    Raises EdgewiseError when it cannot start.
    """
    with ExitStack() as stack:
        os.umask(0o077)  # whatever the hub writes is for its owner alone
        decoding.ready()
        stop = stack.enter_context(_signals())
        stack.enter_context(_lock(settings.data))
        listener = stack.enter_context(_listen(settings.host, settings.port))
        settings = dataclasses.replace(settings, port=listener.getsockname()[1])
        hub = Hub.open(settings)
        stack.callback(hub.database.close)
        migrations.upgrade(hub.database)
        token = _operator_token(hub)
        if settings.webhook_url:
            webhook = webhooks.parse(settings.webhook_url, settings.webhook_secret, loopback=settings.webhook_loopback)
            sender = webhooks.Sender(hub, webhook)
            sender.start()
            stack.callback(sender.stop)
        ticker = Ticker(hub, TICKS)
        start_messaging(stack, hub, ticker)
        executor = LocalExecutor(hub)
        executor.start()
        stack.callback(executor.stop)
        ticker.start()
        stack.callback(ticker.stop)
        server = _Server(create_app(hub), hub, lambda: ready(_announce(stack, settings, token)))
        stop.ends(server)
        server.run(sockets=[listener])


def handlers(hub: Hub) -> dict[str, Handler]:
    """Who takes which kind of message."""
    return {
        "presence": devices.handle_presence,
        "reported": devices.handle_reported,
        "progress": devices.handle_progress,
        "windows": streams.make_handler(hub, streams_of(hub)),
        "sample": samples.make_handler(hub),
    }


def streams_of(hub: Hub) -> list[streams.Stream[Any]]:
    """What devices report by the number, below ``windows/``."""
    return [ingest.stream(hub), experiments.stream(hub), health.stream()]


class Ticker:
    """One thread: every ``tick_s``, and at each connection at once, what follows from time alone."""

    def __init__(self, hub: Hub, ticks: Sequence[Tick]) -> None:
        self._hub = hub
        self._ticks = ticks
        self._wake = threading.Event()
        self._connected = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the tick at hand."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def on_connected(self) -> None:
        """There is a new connection to the broker: publish again what is retained."""
        self._connected.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._connected.is_set():
                self._connected.clear()
                if not self._does(lambda hub, _now: retained.republish(hub), "republish"):
                    self._connected.set()
            for tick in self._ticks:
                self._does(tick, tick.__module__)
            self._wake.wait(self._hub.settings.tick_s)
            self._wake.clear()

    def _does(self, tick: Tick, name: str) -> bool:
        try:
            tick(self._hub, time.time())
        except Exception:  # one part's fault must not stop the others, and the next tick tries again
            log.exception("%s failed; it is tried again", name)
            return False
        return True


def start_messaging(stack: ExitStack, hub: Hub, ticker: Ticker) -> None:
    """The broker (unless there is one), the connection to it, the inbox, the blocks and their deltas."""
    settings = hub.settings
    if settings.broker_url:
        address = BrokerAddress(settings.broker_url)
    else:
        mosquitto = Mosquitto(settings.data / "broker", settings.broker_port)
        stack.callback(mosquitto.stop)
        address = mosquitto.start()
    connection = Connection(address, hub.tenant)

    def publish(message: Outbound) -> None:
        connection.publish(message)

    hub.publish = publish
    hub.broker_connected = connection.connected
    hub.broker_url = address.public
    hub.accounts = connection.accounts
    receiver = Receiver(hub, handlers(hub))
    deltas = Deltas(settings.data / "deltas", hub.blobs)
    blocks = BlockSender(hub, connection.publish, receiver.offer, deltas)
    connection.start(receiver.offer, blocks.offer, ticker.on_connected)
    stack.callback(connection.stop)
    receiver.start()
    stack.callback(receiver.stop)
    deltas.start()
    stack.callback(deltas.stop)
    blocks.start()
    stack.callback(blocks.stop)


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to us, says when it answers, and ends event streams when it stops."""

    def __init__(self, app: FastAPI, hub: Hub, ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        super().__init__(config)
        self._app, self._hub, self._ready = app, hub, ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.streams.close(self._hub)
        await super().shutdown(sockets)


class _Stop:
    """What a signal does: ends the server, or, before there is one, lets it end at once. It never raises, since that
    could be in the middle of starting a process, which nobody would then end."""

    def __init__(self) -> None:
        self._asked = False
        self._server: _Server | None = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._server is not None:
            self._server.should_exit = True

    def ends(self, server: _Server) -> None:
        """Signals are for this server from now on, and the one that may have come already."""
        self._server = server
        server.should_exit = self._asked


@contextmanager
def _signals() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _lock(data: Path) -> Iterator[None]:
    """Make the data folder, readable by its owner alone, and hold it."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (data / "lock").open("w")
    except OSError as error:
        raise StartError(f"data folder {data}: {error.strerror}; choose another with --data") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartError(
                f"data folder {data}: a hub runs on it already; stop it, or choose another with --data", code="in-use"
            ) from error
        yield


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(128)
        except OSError as error:
            raise StartError(
                f"port {port} on {host}: {(error.strerror or str(error)).lower()}; stop what uses it, or choose "
                "another with --port",
                code="port-in-use",
            ) from error
        yield listener


def _operator_token(hub: Hub) -> str | None:
    """Make the operator's token where there is no token at all; it is on disk before the database counts on it."""
    with hub.database.write() as session:
        if session.scalar(select(ApiToken.sha256).where(ApiToken.tenant_id == hub.tenant).limit(1)) is not None:
            return None
        token = create_token(session, "operator", time.time())
        _write_private(hub.settings.data / "operator.token", token)
        return token


def _announce(stack: ExitStack, settings: Settings, token: str | None) -> Ready:
    """Tell this machine's clients where the hub is, for as long as it runs."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{settings.port}"
    place = settings.data / "hub.json"
    _write_private(place, json.dumps({"url": url, "pid": os.getpid()}))
    stack.callback(lambda: place.unlink(missing_ok=True))
    return Ready(url, settings.data, token)


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
