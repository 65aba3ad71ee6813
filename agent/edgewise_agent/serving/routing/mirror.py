"""A shadow's thread: it runs what was answered already, at a low priority, and drops what is too much."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

WAITING = 16
"""Requests that wait for the shadow; a bound on the memory that their inputs take."""
NICE = 15


class Mirror:
    """Runs jobs on a thread of its own, one after another. A job that hangs holds up the shadow alone."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, job: Callable[[], None]) -> bool:
        """Run it soon; False where too many wait, and it never runs."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """Run no more; what waits is let go."""
        while True:
            try:
                self._jobs.put_nowait(None)
                return
            except queue.Full:
                try:
                    self._jobs.get_nowait()
                except queue.Empty:
                    pass  # the thread took it just now

    def _run(self) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # whatever a shadow does, it must not end the mirror, nor be unseen
                log.exception("the shadow failed")
