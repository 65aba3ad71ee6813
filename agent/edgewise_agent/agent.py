"""The supervisor: one loop that waits for an event or a timer, then observes, reconciles, acts and reports.

It holds the connection, the store, the spools and the way back; runtimes and HTTP are in the serve child (without
a model there is none: ``serving/idle.py`` answers). Only this loop's thread touches any state. It must stay light: no
numpy, no runtime is imported here.

It is past 400 lines since every event of the device comes together here; what each means is decided elsewhere.
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edgewise import decoding
from edgewise.bundle import digest, unseal
from edgewise.errors import EdgewiseError
from edgewise.wire import topics
from edgewise.wire.blocks import Block, DeltaOffer
from edgewise.wire.codec import decode_json, decode_msgpack, encode_json
from edgewise.wire.control import Desired, Duty, Failure, Progress, Reported, SampleRequest
from edgewise.wire.experiment import STREAM_EXPERIMENT
from edgewise.wire.health import STREAM_HEALTH
from edgewise.wire.windows import STREAM_SAMPLES, STREAM_WINDOWS, Ack
from edgewise_agent import __version__, limits, trust
from edgewise_agent.actions import Actions
from edgewise_agent.clock import Clock, boot_tag
from edgewise_agent.connection import Connection
from edgewise_agent.download import BlockRefused
from edgewise_agent.events import ChildSaid, Connected, Disconnected, Event, Inbound
from edgewise_agent.facts import Fact, device_facts, rss
from edgewise_agent.health import energy
from edgewise_agent.health.meter import HealthClosed, Meter
from edgewise_agent.identity import Identity, verifier
from edgewise_agent.notify import Notifier
from edgewise_agent.reconcile import reconcile
from edgewise_agent.report import build
from edgewise_agent.serving.allowance import allowance
from edgewise_agent.serving.channel import (
    ExperimentClosed,
    FromChild,
    Listening,
    LoadFailed,
    SampleTaken,
    WindowClosed,
)
from edgewise_agent.serving.children import Children
from edgewise_agent.serving.options import Options
from edgewise_agent.serving.process import Serving
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import Disk, DiskError
from edgewise_agent.store.installs import Installs
from edgewise_agent.transfer import Transfer
from edgewise_agent.update import AGENT, slots
from edgewise_agent.update.own import DEFAULT_TRIAL_S, OwnUpdate, decide
from edgewise_agent.update.wheels import BadWheel
from edgewise_agent.windows import merging, privacy
from edgewise_agent.windows.consent import SampleKeeper
from edgewise_agent.windows.message import message_of
from edgewise_agent.windows.spool import IN_FLIGHT, Spool
from edgewise_agent.windows.times import Mark, placed

log = logging.getLogger(__name__)

MAX_EVENTS = 1024
STREAMS = {
    STREAM_WINDOWS: merging.WINDOWS,
    STREAM_EXPERIMENT: merging.EXPERIMENTS,
    STREAM_HEALTH: merging.HEALTH,
    STREAM_SAMPLES: None,
}
"""What goes through a spool, and how it is merged there."""
WINDOW_S = 60.0
"""Of a device's health, while no model has windows."""
TICK_S = 0.25
FACTS_S = 30.0
REPORT_S = 1.0
STOP_S = 20.0
RETRY_S = 5.0
_BATCH = 32  # events handled between two looks at everything else
_ROUNDS = 16  # actions that change something, in one look


class Agent:
    """One device's supervisor. ``announce`` is called with a JSON-able line when serving begins to listen."""

    def __init__(
        self,
        data: Path,
        identity: Identity,
        disk: Disk,
        listeners: Sequence[socket.socket],
        announce: Callable[[dict[str, str | int]], None],
        options: Options | None = None,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``listeners`` listen, the first on a port of 127.0.0.1; ``now`` is monotonic, ``clock`` Unix seconds.

        Raises EdgewiseError when what is on disk cannot be used.
        """
        self._data, self._identity, self._disk, self._announce = data, identity, disk, announce
        self._now, self._clock = now, clock
        self.events: queue.Queue[Event] = queue.Queue(MAX_EVENTS)
        self._url = f"http://127.0.0.1:{listeners[0].getsockname()[1]}"
        blobs = BlobStore(disk, data / "blobs" / "sha256")
        self._spools = {s: Spool(disk, data / "spool" / s, _epoch, m) for s, m in STREAMS.items()}
        self._samples = SampleKeeper(disk, data, identity.device, self._spools[STREAM_SAMPLES])
        self._samples.refresh()
        self._privacy = privacy.Keeper(disk, data, (options or Options()).privacy)
        installs = Installs(disk, data / "duties.json", blobs)
        children = Children(
            blobs.folder,
            listeners,
            self._child_said,
            options,
            identity.device,
            data / "answers",
            allowance(identity.profile, options or Options()),
        )
        self._actions = Actions(identity, blobs, installs, children, self._publish_progress, self._sampling)
        self._verify = verifier(identity.keys)
        self._time, self._boot = Clock(wall=clock), boot_tag()
        self._load_trust()
        self._connection = Connection(identity, disk, data / "session", self.events)
        self._transfer = Transfer(
            self._connection, identity.tenant, identity.device, limits.of_owner(os.environ), self._now()
        )
        self._limit()
        self._notify = Notifier(os.environ)
        self._own = OwnUpdate(disk, data, blobs)
        self._healthy_since: float | None = None
        self._exit = 0
        self._meter = Meter(self._now(), lambda: disk.free(data), self._rss)
        self._rejected: Failure | None = None
        self._refused = self._lost = 0
        self._facts: dict[str, Fact] = device_facts()
        self._facts_at = self._reported_at = self._consent_at = float("-inf")
        self._reported: Reported | None = None
        self._settle_at = 0.0
        self._postponed: bytes | None = None  # a desired state that the disk would not keep
        self._sampled: dict[str, bool] = {}
        self._busy = self._stopping = False

    def run(self) -> int:
        """Until ``request_stop``; returns the exit status: ``slots.RESTART`` asks for another release of the agent."""
        decoding.ready()
        self._connection.start()
        self._notify.ready()
        while not self._stopping:
            self._wait()
            self._look()
            if not self._notify.alive(self._now()):
                log.error("the launcher is gone")
                self._stopping = True
        self._notify.stopping()
        self._stop()
        return self._exit

    def request_stop(self) -> None:
        """Stop soon; safe to call from a signal handler."""
        self._stopping = True

    # Events

    def _wait(self) -> None:
        """Handle what comes, up to a batch, or nothing for one tick."""
        timeout = 0.0 if self._busy else TICK_S
        for _ in range(_BATCH):
            try:
                event = self.events.get(timeout=timeout) if timeout else self.events.get_nowait()
            except queue.Empty:
                return
            self._handle(event)
            timeout = 0.0

    def _handle(self, event: Event) -> None:
        try:
            match event:
                case Connected():
                    log.info("connected to the hub")
                    self._reported = None
                    self._actions.reconnected(self._now())
                    for spool in self._spools.values():
                        spool.rewind(self._now())
                case Disconnected(reason):
                    log.warning("connection lost: %s", reason)
                case Inbound("desired", _, payload):
                    if payload:
                        self._desired(payload)
                case Inbound("ack", stream, payload):
                    ack = decode_json(payload, Ack)
                    if stream in self._spools and ack.stream == stream:
                        self._time.acknowledged((stream, ack.epoch, ack.sequence), ack.at)
                        self._spools[stream].ack(ack.epoch, ack.sequence, self._now())
                case Inbound("blob", "block", payload):
                    self._actions.block(decode_msgpack(payload, Block), self._now())
                case Inbound("blob", "offer", payload):
                    self._actions.offer(decode_msgpack(payload, DeltaOffer), self._now())
                case Inbound("cast", _, payload):
                    self._cast(decode_msgpack(payload, Block))
                case ChildSaid(child, message):
                    self._child(child, message)
        except BlockRefused as error:
            self._refused += 1
            log.info("refused: %s", error)
        except DiskError as error:
            self._hold(error)
        except EdgewiseError as error:
            self._refused += 1
            log.warning("refused: %s: %s", error.code, error)

    def _cast(self, block: Block) -> None:
        """A block that all who want it are sent. Its pace is answered whether or not the block was news."""
        try:
            self._actions.block(block, self._now(), cast=True)
        finally:
            self._transfer.paced(block)

    def _limit(self) -> None:
        """What the desired state says of downloads."""
        if self._actions.desired is not None:
            self._transfer.limit(self._actions.desired.transfer, self._now())

    def _child_said(self, child: Serving, message: FromChild | None) -> None:
        """On a child's reader thread; waits while the queue is full, which slows the child down."""
        self.events.put(ChildSaid(child, message))

    def _child(self, process: Serving, message: FromChild | None) -> None:
        children, now = self._actions.children, self._now()
        if message is None:
            gone = children.gone(process)
            if gone is not None:
                self._actions.child_gone(*gone, now)
            return
        found = children.role(process)
        children.heard(process, message, now)
        match message:
            case LoadFailed() if found is not None and found[0] != "leaving":
                self._actions.load_failed(found[1], found[0] == "candidate", message)
            case Listening() if found is not None:
                self._listening(process)
            case WindowClosed():
                metered = energy.metered(message, self._meter.watts(now, message.duration))
                self._keep(STREAM_WINDOWS, self._privacy.passed(metered))
            case ExperimentClosed():
                self._keep(STREAM_EXPERIMENT, message)
            case SampleTaken():
                self._samples.take(message, self._sample_request(message.model), now)

    def _listening(self, process: Serving) -> None:
        line: dict[str, str | int] = {
            "event": "listening",
            "url": self._url,
            "device": self._identity.device,
            "pid": os.getpid(),
            "serve_pid": process.pid,
        }
        self._facts_at = float("-inf")
        self._disk.replace(self._data / "run.json", msgspec.json.encode(line))
        self._announce(line)

    def _keep(self, stream: str, closed: WindowClosed | ExperimentClosed | HealthClosed) -> None:
        try:
            message = message_of(self._identity.device, closed, self._time.read(), self._mark())
            self._spools[stream].add(message)
        except EdgewiseError as error:
            self._lost += 1
            log.error("a window is lost: %s", error)

    def _mark(self) -> Mark:
        return Mark(self._boot, self._time.steady())

    # Desired state

    def _load_trust(self) -> None:
        """What was accepted before the restart stays in force, with or without a hub."""
        state = trust.read_state(self._data)
        if state is None:
            return
        self._actions.desired = unseal(state.envelope, Desired, self._verify) if state.envelope else None
        self._actions.trust = state
        self._time.signed(state.signed_time)

    def _desired(self, envelope: bytes) -> None:
        identity, actions = self._identity, self._actions
        try:
            desired, state = trust.accept(
                envelope,
                tenant=identity.tenant,
                device=identity.device,
                profile=identity.profile,
                verify=self._verify,
                state=actions.trust,
                clock=self._clock(),
            )
        except EdgewiseError as error:
            self._reject(envelope, error)
            return
        self._rejected = None
        if state is actions.trust:
            return
        self._postponed = envelope
        self._disk.replace(self._data / trust.STATE_FILE, msgspec.json.encode(state))
        self._postponed = None
        actions.desired, actions.trust = desired, state
        self._time.signed(state.signed_time)
        actions.collect_due = True
        self._limit()
        log.info("generation %d accepted", desired.generation)
        actions.configure()

    def _reject(self, envelope: bytes, error: EdgewiseError) -> None:
        """Nothing changes; the hub is told, with the sha256 of what was refused in the place of a bundle."""
        log.warning("desired state refused: %s: %s", error.code, error)
        self._refused += 1
        if error.code == "same-generation":
            return
        desired = error.desired if isinstance(error, trust.Refused) else None
        generation = desired.generation if desired is not None else self._actions.generation
        self._rejected = Failure(
            bundle=digest(envelope), generation=generation, code=error.code, reason=str(error)[:800]
        )
        for model, wish in (desired.models if desired is not None else {}).items():
            for duty in wish.duties.values():
                self._publish_progress(
                    Progress(
                        device=self._identity.device,
                        generation=generation,
                        model=model,
                        bundle=duty.bundle,
                        step="rejected",
                        code=error.code,
                        reason=str(error)[:800],
                    )
                )

    def _sample_request(self, model: str) -> SampleRequest | None:
        desired = self._actions.desired
        return desired.models[model].samples if desired is not None and model in desired.models else None

    def _sampling(self, model: str) -> bool:
        return self._samples.wanted(model, self._sample_request(model))

    # Everything that is due

    def _look(self) -> None:
        """Watch the children, reconcile, ask for blocks, send what is spooled, report."""
        now = self._now()
        try:
            self._actions.children.check(now)
            self._consent(now)
            if now >= self._settle_at:
                if self._postponed is not None:
                    self._desired(self._postponed)
                self._settle()
                self._update(now)
            self._busy = self._actions.transfer(self._transfer, now, time.localtime(self._clock()))
            self._health(now)
            self._send(now)
            self._report(now)
        except EdgewiseError as error:  # the disk or the system refuses: nothing has changed, and it is tried again
            self._hold(error)

    def _settle(self) -> None:
        """Reconcile until nothing new is to be done."""
        for _ in range(_ROUNDS):
            actions = reconcile(self._actions.desired, self._actions.observe(self._clock()), self._now())
            if not actions:
                self._actions.collect()
                return
            for action in actions:
                self._actions.carry_out(action, self._now())

    def _update(self, now: float) -> None:
        """The agent's own release: stage it, or leave it, and ask to be restarted; or confirm the one that runs."""
        own, actions = self._own, self._actions
        if own.slots.failed is not None:
            failed = own.slots.failed
            actions.fail(AGENT, failed.bundle, failed.code, failed.reason)
            own.failure_told()
        serving = actions.children.serving
        healthy = self._connection.connected and serving is not None and serving.served_since is not None
        self._healthy_since = (self._healthy_since or now) if healthy else None
        wish = own.wish(actions.desired)
        trial_s = actions.desired.models[AGENT].trial_s if actions.desired and wish else DEFAULT_TRIAL_S
        failed_here = wish is not None and actions.installs.duties.failed(AGENT, wish.bundle, actions.generation)
        in_force = actions.desired is not None and trust.may_act(actions.desired, actions.trust, self._clock())
        step = decide(
            own.slots,
            own.running if self._notify.launched else None,
            wish if in_force else None,
            whole=wish is not None and wish.bundle in actions.whole(),
            failed=failed_here,
            taken_back=in_force and wish is None,
            healthy_s=0.0 if self._healthy_since is None else now - self._healthy_since,
            trial_s=trial_s,
        )
        if step == "confirm":
            release = own.confirm()
            if release is not None:
                actions.progress(AGENT, release.bundle, "confirmed")
        elif wish is not None and step == "refuse":
            reason = "the agent was not started by edgewise_agent.launch (see edgewise-agent unit): update it by hand"
            actions.fail(AGENT, wish.bundle, "not-launched", reason)
        elif wish is not None and step == "stage":
            self._stage(wish, trial_s)
        elif step == "leave":
            own.leave()
            self._restart()

    def _stage(self, wish: Duty, trial_s: float) -> None:
        manifest = self._actions.installs.manifest(wish.bundle)
        if manifest is None:
            return
        try:
            self._own.stage(wish, manifest, trial_s)
        except BadWheel as error:
            self._actions.fail(AGENT, wish.bundle, error.code, str(error))
            return
        self._actions.progress(AGENT, wish.bundle, "trial")
        self._restart()

    def _restart(self) -> None:
        """Ask the launcher to start what ``slots.json`` now says."""
        self._exit, self._stopping = slots.RESTART, True

    def _hold(self, error: EdgewiseError) -> None:
        log.error("%s: %s", error.code, error)
        self._settle_at = self._now() + RETRY_S

    def _consent(self, now: float) -> None:
        """Each second: the owner's consent, and whether the serve children shall keep inputs."""
        if now - self._consent_at < 1.0:
            return
        self._consent_at = now
        self._samples.refresh()
        self._samples.poll(now)
        models = self._actions.desired.models if self._actions.desired else {}
        sampled = {model: self._sampling(model) for model in models}
        if sampled != self._sampled:
            self._sampled = sampled
            self._actions.configure()

    def _health(self, now: float) -> None:
        """How the device is, a span as long as its models' shortest window."""
        models = self._actions.desired.models.values() if self._actions.desired else ()
        closed = self._meter.poll(now, min((model.window_s for model in models), default=WINDOW_S))
        if closed is not None:
            self._keep(STREAM_HEALTH, closed)

    def _rss(self) -> int:
        """Resident bytes of the supervisor and its serve child."""
        serving = self._actions.children.serving
        return rss() + (serving.rss if serving else 0)

    def _send(self, now: float) -> None:
        if not self._connection.connected:
            return
        topic_of = {
            STREAM_WINDOWS: topics.windows,
            STREAM_EXPERIMENT: topics.windows,
            STREAM_HEALTH: topics.windows,
            STREAM_SAMPLES: topics.sample,
        }
        is_known = self._time.read().uncertainty is not None
        for stream, spool in self._spools.items():
            topic = topic_of[stream](self._identity.tenant, self._identity.device, stream)
            while (
                outgoing := spool.next(now, IN_FLIGHT if is_known else 1)
            ) is not None:  # the first ack says the time
                self._time.sent((stream, spool.epoch, outgoing.entry.last))
                if not self._connection.publish(topic, placed(outgoing.data, self._mark(), self._time.read())):
                    break
                spool.sent(outgoing, now)

    def _report(self, now: float) -> None:
        """Publish ``reported`` when it changed, at most once a second."""
        if not self._connection.connected or now - self._reported_at < REPORT_S:
            return
        if now - self._facts_at >= FACTS_S:
            self._facts_at = now
            self._measure()
        actions = self._actions
        reported = build(
            identity=self._identity,
            agent=__version__,
            desired=actions.desired,
            generation=actions.generation,
            duties=self._own.reported(actions.installs.duties),
            whole=actions.whole(),
            running={**actions.running(), **self._own.running_bundle()},
            rejected=self._rejected,
            consent=self._samples.report(),
            facts=self._facts,
        )
        if reported != self._reported:
            payload = encode_json(msgspec.structs.replace(reported, at=self._clock()))
            if self._publish(topics.reported, payload, retain=True):
                self._reported, self._reported_at = reported, now

    def _measure(self) -> None:
        serving = self._actions.children.serving
        self._facts.update(
            url=self._url,
            rss_mb=round(rss() / 2**20, 1),
            serve_rss_mb=round((serving.rss if serving else 0) / 2**20, 1),
            runtime=", ".join(serving.runtimes) if serving else "",
            spool_windows=len(self._spools[STREAM_WINDOWS]),
            spool_samples=len(self._spools[STREAM_SAMPLES]),
            spool_dropped=sum(spool.dropped for spool in self._spools.values()),
            spool_merged=sum(spool.merged for spool in self._spools.values()),
            windows_lost=self._lost,
            refused_messages=self._refused + self._connection.dropped,
            **self._privacy.facts(),
        )

    # Publishing

    def _publish(self, topic: Callable[[str, str], str], payload: bytes, *, retain: bool = False) -> bool:
        return self._connection.publish(topic(self._identity.tenant, self._identity.device), payload, retain=retain)

    def _publish_progress(self, progress: Progress) -> None:
        """Without a connection it is not sent: ``reported`` says it all once there is one."""
        topic = topics.progress(self._identity.tenant, self._identity.device, progress.generation)
        self._connection.publish(topic, encode_json(progress))

    def _stop(self) -> None:
        """Let the children leave, keep their last windows, say goodbye."""
        log.info("stopping")
        self._actions.stop(self._now())
        deadline = self._now() + STOP_S
        while self._actions.children.leaving and self._now() < deadline:
            self._actions.children.check(self._now())
            self._wait()
        try:
            self._samples.poll(self._now(), last=True)
            self._send(self._now())
        except DiskError as error:
            log.error("while stopping: %s", error)
        self._disk.unlink(self._data / "run.json")
        self._connection.stop()


def _epoch() -> int:
    """52 random bits, whatever the clock says: no two lives of a spool share a number."""
    return secrets.randbits(52)
