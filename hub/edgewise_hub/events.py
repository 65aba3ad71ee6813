"""Live changes inside one hub process: published after the commit, read by server-sent events.

An event is a hint ("rollout 7f3 changed"), never the truth: a reader that missed one asks the API again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import NamedTuple

MAX_WAITING = 1000


class Event(NamedTuple):
    """``kind``: device, rollout, experiment, judgement, alert, job, training-run, sample-request. ``id``: of the thing
    changed."""

    kind: str
    id: str


def _asleep() -> None:
    """A subscriber that looks into its queue by itself."""


class Events:
    """Publish from any thread; each subscriber has a bounded queue, and one that is full loses its oldest event."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: dict[queue.Queue[Event], Callable[[], None]] = {}

    def publish(self, kind: str, identifier: str) -> None:
        """Tell every subscriber."""
        with self._lock:
            subscribers = list(self._subscribers.items())
        for subscriber, wake in subscribers:
            while True:
                try:
                    subscriber.put_nowait(Event(kind, identifier))
                    break
                except queue.Full:
                    try:
                        subscriber.get_nowait()
                    except queue.Empty:
                        pass
            wake()

    def subscribe(self, wake: Callable[[], None] = _asleep) -> queue.Queue[Event]:
        """A new subscriber's queue; hand it to ``unsubscribe`` when done. ``wake`` is called after each event, from the
        publisher's thread, and must neither block nor raise."""
        subscriber: queue.Queue[Event] = queue.Queue(MAX_WAITING)
        with self._lock:
            self._subscribers[subscriber] = wake
        return subscriber

    def unsubscribe(self, subscriber: queue.Queue[Event]) -> None:
        """Forget a subscriber."""
        with self._lock:
            self._subscribers.pop(subscriber, None)
