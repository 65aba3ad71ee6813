"""How many requests of one model run, how many wait, and that no more than that are taken.

A thread never waits here: a job that may not run yet is kept, and whoever leaves takes the next one along.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Literal, TypeVar

Job = TypeVar("Job")


class Gate(Generic[Job]):
    """At most ``running`` jobs at once and ``waiting`` behind them, first come, first served. For several threads."""

    def __init__(self, running: int, waiting: int, *, together: bool = False) -> None:
        """``together``: a job waits for others as it runs (a batch), so that each needs a thread of its own."""
        self._together = together
        self._free, self._room = running, waiting
        self._waiting: deque[Job] = deque()
        self._seconds = float("inf")  # until one has run
        self._lock = threading.Lock()

    def takes(self, seconds: float) -> bool:
        """Does a job take longer than this, or wait for others?"""
        return self._together or self._seconds > seconds

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, job: Job) -> Literal["run", "wait", "full"]:
        """``run``: the caller runs it, and calls ``leave`` afterwards. ``wait``: it is kept. ``full``: it is not."""
        with self._lock:
            if self._free:
                self._free -= 1
                return "run"
            if len(self._waiting) >= self._room:
                return "full"
            self._waiting.append(job)
            return "wait"

    def leave(self, seconds: float) -> Job | None:
        """A job is done: the next one, which the caller runs now; None when nobody waits, and the place is free."""
        with self._lock:
            self._seconds = seconds if self._seconds == float("inf") else 0.9 * self._seconds + 0.1 * seconds
            if self._waiting:
                return self._waiting.popleft()
            self._free += 1
            return None
