"""Live changes inside one hub process: published after the commit, read by server-sent events.

An event is a hint ("rollout 7f3 changed"), never the truth: a reader that missed one asks the API again.
"""

from __future__ import annotations

import queue
import threading
from typing import NamedTuple

MAX_WAITING = 1000


class Event(NamedTuple):
    """``kind``: device, rollout, judgement, alert, job, training-run, sample-request. ``id``: of the thing changed."""

    kind: str
    id: str


class Events:
    """Publish from any thread; each subscriber has a bounded queue, and one that is full loses its oldest event."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: set[queue.Queue[Event]] = set()

    def publish(self, kind: str, identifier: str) -> None:
        """Tell every subscriber."""
        with self._lock:
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            while True:
                try:
                    subscriber.put_nowait(Event(kind, identifier))
                    break
                except queue.Full:
                    try:
                        subscriber.get_nowait()
                    except queue.Empty:
                        pass

    def subscribe(self) -> queue.Queue[Event]:
        """A new subscriber's queue; hand it to ``unsubscribe`` when done."""
        subscriber: queue.Queue[Event] = queue.Queue(MAX_WAITING)
        with self._lock:
            self._subscribers.add(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: queue.Queue[Event]) -> None:
        """Forget a subscriber."""
        with self._lock:
            self._subscribers.discard(subscriber)
