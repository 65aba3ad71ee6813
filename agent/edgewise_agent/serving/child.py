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

from edgewise.wire.control import Role
from edgewise.wire.experiment import Escalate
from edgewise.wire.quality import decided
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
from edgewise_agent.serving.feedback import Feedback
from edgewise_agent.serving.inference import Busy, ServedModel
from edgewise_agent.serving.model import Model, ModelFailure, batching, open_model
from edgewise_agent.serving.oip.api import Api
from edgewise_agent.serving.options import Options
from edgewise_agent.serving.routing.arms import Arms, arms_of
from edgewise_agent.serving.routing.choose import needed
from edgewise_agent.serving.routing.escalation import Ask
from edgewise_agent.serving.routing.router import CannotShare, Strategy, check_same, strategy
from edgewise_agent.serving.server import Server
from edgewise_agent.windows.collector import Collector

if TYPE_CHECKING:
    from edgewise_agent.serving.oip.grpc_server import GrpcServer

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
MAX_INFERENCE_S = 30.0
"""An inference that takes longer hangs: the heartbeat stops, and the supervisor ends this process."""
DRAIN_S = 3.0
"""How long idle connections may stay after ``Drain``: their next answer closes them, with no request lost."""
_TICK_S = 0.1
_OUTBOX = 2048


class Child:
    """One serve child's state. Commands are carried out one after another, on the main thread; others say so."""

    def __init__(self, channel: Channel, listeners: Sequence[socket.socket]) -> None:
        self._channel, self._listeners, self._options = channel, listeners, Options()
        self._loaded = Load(blobs="", models=[])
        self._busy = Busy()
        self._models: dict[str, ServedModel] = {}
        self._others: dict[tuple[str, str], ServedModel] = {}
        self._experiments: dict[str, tuple[Strategy, Arms]] = {}
        self._server: Server | None = None
        self._grpc: GrpcServer | None = None
        self._outbox: queue.Queue[FromChild | None] = queue.Queue(_OUTBOX)
        self._commands: queue.Queue[ToChild] = queue.Queue()
        self._ended = threading.Event()

    def run(self) -> None:
        """Until drained."""
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
                case Configure(models=models):
                    self._configure(models)
                case Drain():
                    break
        if self._server is not None:
            self._server.drain(DRAIN_S)
        if self._grpc is not None:
            self._grpc.drain(DRAIN_S)
        self._ended.set()
        ticker.join()
        for name in self._models:
            self._report(name, last=True)
        self._outbox.put(None)
        writer.join()

    def _load(self, load: Load) -> None:
        """Open the models, one after another."""
        self._loaded, self._options = load, load.options
        runtimes: set[str] = set()
        for wish in load.models:
            try:
                with self._busy:
                    model = self._open(wish.bundle)
            except ModelFailure as error:
                self._say(LoadFailed(model=wish.model, bundle=wish.bundle, code=error.code, reason=str(error)[:1000]))
                continue
            runtimes.add(model.runtime.version)
            feedback = Feedback(wish.model, None if load.answers is None else Path(load.answers))
            self._models[wish.model] = self._serving(model, wish, self._busy, feedback)
            self._load_others(wish)
            self._route(wish)
        self._say(Ready(runtimes=sorted(runtimes), rss=rss()))

    def _open(self, bundle: str) -> Model:
        return batching(open_model(bundle, Path(self._loaded.blobs), self._loaded.threads), self._options)

    def _load_others(self, wish: ServeModel) -> None:
        """Open what runs beside a model. One that fails is told of, and costs the model nothing."""
        active = self._models[wish.model]
        for role, bundle in wish.others.items():
            try:
                with self._busy:
                    model = self._open(bundle)
                check_same(active.model.manifest, model.manifest)
            except (ModelFailure, CannotShare) as error:
                failed = LoadFailed(
                    model=wish.model, bundle=bundle, code=error.code, reason=str(error)[:1000], role=role
                )
                self._say(failed)
                continue
            # a shadow that hangs must not silence the heartbeat
            busy = Busy() if role == "shadow" else self._busy
            self._others[wish.model, role] = self._serving(model, wish, busy, active.feedback, role)

    def _serving(
        self, model: Model, wish: ServeModel, busy: Busy, feedback: Feedback, role: Role = "active"
    ) -> ServedModel:
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
            privacy=self._options.privacy,
        )
        quality = decided(self._options.quality, wish.quality)
        return ServedModel(model, collector, busy, wish.sampling, quality, feedback, role)

    def _route(self, wish: ServeModel) -> None:
        """Share the requests as the policy says, where what it needs is here."""
        served, policy, role = self._models[wish.model], wish.policy, needed(wish.policy)
        other = self._others.get((wish.model, role)) if role is not None else None
        running = self._experiments.pop(wish.model, None)
        if running is not None and running[0].policy == policy:
            self._experiments[wish.model] = running
            return
        if running is not None:
            served.route = None
            running[0].close()
            running[1].end()
        if policy is not None and (role is None or other is not None):
            arms = arms_of(policy, served, other, self._loaded.device)
            arms.begin()
            served.route = chosen = strategy(policy, arms, lambda escalate: self._ask(wish.model, escalate))
            self._experiments[wish.model] = chosen, arms

    def _ask(self, model: str, policy: Escalate) -> Ask:
        """How a server is asked for a model."""
        from edgewise_agent.serving.routing.budget import Budget  # here: http.client and ssl take memory
        from edgewise_agent.serving.routing.remote import Server as Remote

        answers = self._loaded.answers
        budget = Budget(None if answers is None else Path(answers) / f"{model}.budget", policy.bytes_per_day)
        return Remote(policy, self._options.escalate_to, budget, max(1, self._options.running - 1))

    def _serve(self) -> None:
        running = self._options.running * max(1, len(self._models))
        api = Api(self._models, self._options, self._say)
        self._server = Server(api, self._listeners, self._options, running)
        self._server.start()
        if self._options.grpc_port is not None:
            self._serve_grpc(self._options.grpc_port)
        self._say(Listening())

    def _serve_grpc(self, port: int) -> None:
        try:
            from edgewise_agent.serving.oip.grpc_server import GrpcServer  # here: it takes 20 MB

            self._grpc = GrpcServer(self._models, self._options, port)
        except (ImportError, RuntimeError) as error:
            log.error("gRPC is not answered on port %d: %s (pip install 'edgewise-agent[grpc]')", port, error)

    def _configure(self, models: list[ServeModel]) -> None:
        for wish in models:
            served = self._models.get(wish.model)
            if served is not None and served.model.bundle == wish.bundle:
                quality = decided(self._options.quality, wish.quality)
                for one in (served, *(other for (model, _), other in self._others.items() if model == wish.model)):
                    one.configure(wish.window_s, wish.sampling, quality)
                self._route(wish)

    def _tick(self) -> None:
        """Thread: close windows that are over; say that we live."""
        next_beat = 0.0
        while not self._ended.wait(_TICK_S):
            now = time.monotonic()
            for name in list(self._models):
                self._report(name)
            if now >= next_beat and self._busy.longest(now) < MAX_INFERENCE_S:
                next_beat = now + HEARTBEAT_S
                self._say(Heartbeat(rss=rss()))

    def _report(self, name: str, *, last: bool = False) -> None:
        served, running, now, clock = self._models[name], self._experiments.get(name), time.monotonic(), time.time()
        for one in (served, *(other for (model, _), other in list(self._others.items()) if model == name)):
            window = one.collector.poll(now, clock, last=last)
            if window is not None:
                self._say(msgspec.structs.replace(window, duty=one.role, quality=one.checker.take()))
        current = None if running is None else running[1].which
        for closed in served.feedback.poll(current, now, clock, served.collector.window_s, last=last):
            self._say(closed)

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


def main() -> None:
    """Serve until drained or until the channel closes."""
    _die_with_supervisor()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    channel, *listeners = (socket.socket(fileno=int(fd)) for fd in sys.argv[1:])
    Child(Channel(channel), listeners).run()


if __name__ == "__main__":
    main()
