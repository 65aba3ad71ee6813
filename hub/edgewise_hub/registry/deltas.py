"""Deltas between blobs: made once for a (base, target) by ``diff``, kept, and found again by their own digest.

Rules that hold here:
- a delta of more than MAX_DELTA_SHARE of its target is not kept, but noted, so that it is not tried again;
- a delta is a blob; ``deltas/`` in the hub's folder holds one small file a pair and one a delta, which may be thrown
  away at any time;
- one is made at a time, in a thread of its own, in memory of about ten times the larger file, at most MAX_BYTES.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgewise.wire.blocks import MAX_DELTA_SHARE
from edgewise_hub.blobs import Blobs
from edgewise_hub.registry.diff import diff

log = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024 * 1024
MAX_WAITING = 64
MAX_FAILED = 10_000
"""Pairs that could not be made (a full disk, a blob that is gone), remembered until a restart."""


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a pair: the delta's blob and size, or (None) that there is none worth having."""

    delta: str | None = None
    size: int = 0


class Deltas:
    """The hub's deltas. ``find`` never waits; what is not there is made in the background."""

    def __init__(self, folder: Path, blobs: Blobs, make: Callable[[bytes, bytes], bytes] = diff) -> None:
        self._folder, self._blobs, self._make = folder, blobs, make
        self._queue: queue.Queue[tuple[str, str] | None] = queue.Queue(MAX_WAITING)
        self._lock = threading.Lock()
        self._being_made: set[tuple[str, str]] = set()
        self._failed: set[tuple[str, str]] = set()
        self._thread = threading.Thread(target=self._run, name="deltas", daemon=True)
        (folder / "pairs").mkdir(parents=True, exist_ok=True)
        (folder / "targets").mkdir(exist_ok=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the delta at hand."""
        while True:
            try:
                self._queue.put_nowait(None)
                break
            except queue.Full:
                self._queue.get_nowait()
        self._thread.join()

    def find(self, base: str, target: str) -> Delta | None:
        """What is known of this pair; None while it is being made."""
        try:
            known = msgspec.json.decode(self._pair(base, target).read_bytes(), type=Delta)
        except FileNotFoundError:
            return self._order(base, target)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            log.exception("the delta %s-%s cannot be read; it is made again", base[:12], target[:12])
            return self._order(base, target)
        if known.delta is not None and known.delta not in self._blobs:
            return self._order(base, target)
        return known

    def target_of(self, delta: str) -> str | None:
        """The blob that this delta makes; None for a blob that is no delta."""
        try:
            return (self._folder / "targets" / delta).read_text()
        except OSError:
            return None

    def _pair(self, base: str, target: str) -> Path:
        return self._folder / "pairs" / f"{target}-{base}"

    def _order(self, base: str, target: str) -> Delta | None:
        pair = (base, target)
        with self._lock:
            if pair in self._being_made:
                return None
            if pair in self._failed:
                return Delta()
            try:
                self._queue.put_nowait(pair)
            except queue.Full:
                return Delta()  # not noted: a later device may find room
            self._being_made.add(pair)
        return None

    def _run(self) -> None:
        while (pair := self._queue.get()) is not None:
            failed = False
            try:
                self._keep(*pair)
            except Exception:  # a pair that cannot be made must not end the thread: its devices fetch the whole
                log.exception("no delta %s-%s", pair[0][:12], pair[1][:12])
                failed = True
            with self._lock:
                self._being_made.discard(pair)
                if failed and len(self._failed) < MAX_FAILED:
                    self._failed.add(pair)

    def _keep(self, base: str, target: str) -> None:
        """Make it and note it. Raises BlobError, OSError."""
        made = Delta()
        paths = self._blobs.path(base), self._blobs.path(target)
        if max(path.stat().st_size for path in paths) <= MAX_BYTES:
            old, new = (path.read_bytes() for path in paths)
            delta = self._make(old, new)
            log.info("delta %s-%s: %d of %d bytes", base[:12], target[:12], len(delta), len(new))
            if len(delta) <= MAX_DELTA_SHARE * len(new):
                made = Delta(delta=self._blobs.put(delta), size=len(delta))
        if made.delta is not None:
            _write(self._folder / "targets" / made.delta, target.encode())
        _write(self._pair(base, target), msgspec.json.encode(made))


def _write(path: Path, data: bytes) -> None:
    """Replace a file whole; one that a crash keeps from being there is made again."""
    temporary = path.with_name(path.name + f".{threading.get_ident()}.new")
    temporary.write_bytes(data)
    temporary.replace(path)
