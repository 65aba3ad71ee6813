"""Refused messages: each is counted; the log has one line a kind and code every ten seconds, with how many it means.

A device gone wrong may send thousands a second: the count is exact, the log stays readable.
"""

from __future__ import annotations

import logging
import threading
import time

from edgewise_hub.metrics import REFUSED
from edgewise_hub.mqtt.inbox import Refusal

log = logging.getLogger(__name__)

LOG_EVERY_S = 10.0


class RefusalLog:
    """Counts and logs refusals, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._quiet_until: dict[tuple[str, str], float] = {}
        self._unlogged: dict[tuple[str, str], int] = {}

    def add(self, refusal: Refusal) -> None:
        """Count one refusal."""
        key = (refusal.kind, refusal.code)
        REFUSED.labels(*key).inc()
        now = time.monotonic()
        with self._lock:
            self._unlogged[key] = self._unlogged.get(key, 0) + 1
            if now < self._quiet_until.get(key, 0.0):
                return
            self._quiet_until[key] = now + LOG_EVERY_S
            count = self._unlogged.pop(key)
        log.warning(
            "refused %s of %s: %s: %s (%d since the last line like this)",
            refusal.kind,
            refusal.device,
            refusal.code,
            refusal.reason[:300],
            count,
        )
