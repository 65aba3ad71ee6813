"""How many bytes went to a server today, on disk, so that a restart does not forget. Days are those of UTC."""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import threading
from pathlib import Path

log = logging.getLogger(__name__)

DAY_S = 86_400
_STATE = struct.Struct("<qq")


class Budget:
    """``per_day`` bytes. For several threads, and for two processes. A disk that fails gives none."""

    def __init__(self, path: Path | None, per_day: int) -> None:
        """``path``: None: only while this process lives."""
        self._path, self._per_day = path, per_day
        self._kept = _STATE.pack(0, 0)
        self._lock = threading.Lock()

    def take(self, count: int, clock: float, *, over: bool = False) -> bool:
        """Spend bytes now (Unix seconds), if so many are left; ``over``: they are spent already, left or not."""
        try:
            with self._lock:
                if self._path is not None:
                    return self._on_disk(self._path, count, clock, over)
                self._kept, done = self._spend(self._kept, count, clock, over)
                return done
        except OSError as error:
            log.warning("%s: %s; nothing is escalated", self._path, error.strerror)
            return False

    def _on_disk(self, path: Path, count: int, clock: float, over: bool) -> bool:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            state, done = self._spend(os.pread(file, _STATE.size, 0), count, clock, over)
            os.pwrite(file, state, 0)
            return done
        finally:
            os.close(file)

    def _spend(self, state: bytes, count: int, clock: float, over: bool) -> tuple[bytes, bool]:
        day, spent = _STATE.unpack(state) if len(state) == _STATE.size else (0, 0)
        today = int(clock // DAY_S)
        if today > day:  # a clock that goes back gives no new budget
            day, spent = today, 0
        done = over or spent + count <= self._per_day
        return _STATE.pack(day, spent + count if done else spent), done
