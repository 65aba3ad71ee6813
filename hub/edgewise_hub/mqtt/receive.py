"""The inbox's runner: one thread drains inbound messages in batches, one write transaction a batch.

Rules that hold here:
- a message is acknowledged to the broker after its batch has committed; publish, events and refusals come after too;
- where a batch fails, its messages are tried one by one, and one that still fails is refused: it blocks nothing;
- where the database cannot be written (a full disk, a lock), the batch waits and is tried again: nothing is lost;
- only messages of enrolled devices reach a handler.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.mqtt.inbox import Handler, Inbound, Outcome, Refusal
from edgewise_hub.mqtt.refusals import RefusalLog

log = logging.getLogger(__name__)

MAX_BATCH = 500
BATCH_S = 0.05
MAX_WAITING = 4000
RETRY_S = 1.0


class Waiting(NamedTuple):
    """A message and how to acknowledge it to the broker; or a refusal that was decided elsewhere."""

    item: Inbound | Refusal
    acknowledge: Callable[[], None]


def _nothing() -> None:
    """A message of QoS 0, or a refusal: nobody waits for it."""


class Receiver:
    """``handlers`` by topic kind; within a batch they run in the mapping's order."""

    def __init__(self, hub: Hub, handlers: Mapping[str, Handler]) -> None:
        self._hub = hub
        self._handlers = dict(handlers)
        self._refusals = RefusalLog()
        self._queue: queue.Queue[Waiting] = queue.Queue(MAX_WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inbox", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch at hand; what waits stays unacknowledged, and the broker sends it again."""
        self._stopping.set()
        self._thread.join()

    def offer(self, item: Inbound | Refusal, acknowledge: Callable[[], None] = _nothing) -> None:
        """Take a message from any thread, at once. A full queue drops it, unacknowledged."""
        try:
            self._queue.put_nowait(Waiting(item, acknowledge))
        except queue.Full:
            device, kind = (
                (item.topic.device, item.topic.kind) if isinstance(item, Inbound) else (item.device, item.kind)
            )
            self._refusals.add(Refusal(device, kind, "overloaded", f"more than {MAX_WAITING} messages wait"))

    def process(self, batch: list[Waiting]) -> None:
        """Handle one batch to its end."""
        items = [waiting.item for waiting in batch]
        try:
            self._commit(items)
        except OperationalError:
            raise
        except Exception:  # whatever a handler did not foresee: find the message, and let the others through
            log.exception("a batch of %d messages failed; trying one by one", len(batch))
            for item in items:
                self._commit_alone(item)
        for waiting in batch:
            waiting.acknowledge()

    def _run(self) -> None:
        batch: list[Waiting] = []
        while not self._stopping.is_set():
            batch = batch or self._take()
            if not batch:
                continue
            try:
                self.process(batch)
                batch = []
            except OperationalError:
                log.exception("the database cannot be written; %d messages wait", len(batch))
                self._stopping.wait(RETRY_S)

    def _take(self) -> list[Waiting]:
        """Up to MAX_BATCH messages, waiting BATCH_S after the first for more."""
        try:
            batch = [self._queue.get(timeout=0.2)]
        except queue.Empty:
            return []
        until = time.monotonic() + BATCH_S
        while len(batch) < MAX_BATCH:
            try:
                batch.append(self._queue.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
        return batch

    def _commit_alone(self, item: Inbound | Refusal) -> None:
        try:
            self._commit([item])
        except OperationalError:
            raise
        except Exception as error:  # this message is the one: refuse it
            if isinstance(item, Refusal):
                raise
            log.exception("a %s message of %s failed", item.topic.kind, item.topic.device)
            reason = f"the hub failed on it: {type(error).__name__}"
            self._commit([Refusal(item.topic.device, item.topic.kind, "handler-failed", reason)])

    def _commit(self, items: list[Inbound | Refusal]) -> None:
        """One write transaction, then what follows from it."""
        with self._hub.database.write() as session:
            outcome = self._handle(session, items)
        for message in outcome.publish:
            self._hub.publish(message)
        for kind, identifier in dict.fromkeys(outcome.events):
            self._hub.events.publish(kind, identifier)
        for refusal in outcome.refusals:
            self._refusals.add(refusal)

    def _handle(self, session: Session, items: list[Inbound | Refusal]) -> Outcome:
        whole = Outcome(refusals=[item for item in items if isinstance(item, Refusal)])
        messages = [item for item in items if isinstance(item, Inbound)]
        enrolled = self._enrolled(session, {message.topic.device for message in messages})
        seen: dict[str, float] = {}
        by_kind: dict[str, list[Inbound]] = {kind: [] for kind in self._handlers}
        for message in messages:
            topic = message.topic
            if topic.tenant != self._hub.tenant or topic.device not in enrolled:
                whole.refusals.append(Refusal(topic.device, topic.kind, "unknown-device", "it is not enrolled here"))
            elif topic.kind not in by_kind:
                whole.refusals.append(Refusal(topic.device, topic.kind, "unknown-kind", "the hub takes no such topic"))
            else:
                by_kind[topic.kind].append(message)
                seen[topic.device] = message.received_at
        for kind, waiting in by_kind.items():
            if waiting:
                outcome = self._handlers[kind](session, waiting)
                whole.publish += outcome.publish
                whole.events += outcome.events
                whole.refusals += outcome.refusals
        self._note(session, seen, Counter(refusal.device for refusal in whole.refusals))
        return whole

    def _enrolled(self, session: Session, devices: set[str]) -> set[str]:
        return set(
            session.scalars(
                select(Device.id).where(
                    Device.tenant_id == self._hub.tenant, Device.id.in_(devices), Device.revoked_at.is_(None)
                )
            )
        )

    def _note(self, session: Session, seen: dict[str, float], refused: Mapping[str, int]) -> None:
        """Each device's ``last_seen`` and ``refused``."""
        session.flush()
        for device in sorted({*seen, *refused}):
            values: dict[object, object] = {}
            if device in seen:
                values[Device.last_seen] = seen[device]
            if device in refused:
                values[Device.refused] = Device.refused + refused[device]
            of_device = (Device.tenant_id == self._hub.tenant, Device.id == device)
            session.execute(
                update(Device).where(*of_device).values(values).execution_options(synchronize_session=False)
            )
