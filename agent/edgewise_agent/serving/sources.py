"""Who gave the answers that are remembered: install and experiment, by a short key. A small file beside the answers."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import threading
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import msgspec

from edgewise.wire.control import Role
from edgewise_agent.serving.routing.record import Experiment
from edgewise_agent.store.disk import Disk, DiskError, read

log = logging.getLogger(__name__)

KEY = 8
MAX_SOURCES = 16
"""The oldest are forgotten first: their labels are unknown."""
_BOUND = 512 * 1024


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An install in its duty. ``spec``: digest of its sketch spec; ``classes``: as that says."""

    bundle: str
    version: int
    spec: str
    classes: int | None = None
    role: Role = "active"
    experiment: Experiment | None = None


class Sources:
    """For several threads, and for two processes, neither of which loses what the other one wrote."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[bytes, Source] = dict(self._read())

    def add(self, source: Source) -> bytes:
        """Its key."""
        key = _key(source)
        with self._lock:
            known = self._known.pop(key, None)
            self._known[key] = source  # the newest
            if known is None:
                try:
                    self._write()
                except (OSError, DiskError) as error:
                    log.warning("%s: labels of this install are unknown after a restart: %s", self._path, error)
        return key

    def get(self, key: bytes) -> Source | None:
        """Whose key this is; another process may have written it a moment ago."""
        with self._lock:
            if key not in self._known:
                self._known |= dict(self._read())
            return self._known.get(key)

    def _write(self) -> None:
        if self._path is None:
            return
        disk = Disk()
        disk.folder(self._path.parent)
        with _alone(self._path.parent / "lock"):
            theirs = {key: source for key, source in self._read() if key not in self._known}
            both = theirs | self._known
            self._known = dict(list(both.items())[-MAX_SOURCES:])
            disk.replace(self._path, msgspec.json.encode(list(self._known.values())))

    def _read(self) -> Iterator[tuple[bytes, Source]]:
        try:
            data = None if self._path is None else read(self._path, _BOUND)
            found = [] if data is None else msgspec.json.decode(data, type=list[Source])
        except (DiskError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("%s: %s; it is begun anew", self._path, error)
            return
        for source in found:
            yield _key(source), source


def _key(source: Source) -> bytes:
    return blake2b(msgspec.msgpack.encode(source, order="sorted"), digest_size=KEY).digest()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
