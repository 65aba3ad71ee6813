"""What was answered, by name, so that a label or a click that comes later finds it: a bounded map in a file.

Rules that hold here:
- the file has its full size from the start, and every byte of it is reserved: it never grows, and never runs out of
  disk; a name lies in one of the eight places of its set, and the newest takes the place of the oldest there;
- it outlives the process, and two processes may use it at once (a child that leaves, its successor): a record counts
  only with its checksum, so what two wrote at once, or a power cut tore, is forgotten and never misread;
- nothing depends on it: it is not flushed, the one file of the device that ``store.disk`` does not write, and a file
  that cannot be used is begun anew, or in memory.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Collection, Iterator
from hashlib import blake2b
from pathlib import Path

log = logging.getLogger(__name__)

SUFFIXES = (".answers", ".drafts", ".json", ".budget")
"""Of the files of one model in the folder: answers, drafts of rankings, who answered, what was spent on a server."""
WAYS = 8
KEY, SUM = 16, 4
_HEAD = struct.Struct("<8sII16x")
_MAGIC = b"ewanswr1"


class Answers:
    """Name -> ``size`` bytes. For several threads."""

    def __init__(self, path: Path | None, items: int, size: int) -> None:
        """``items``: how many are remembered at most; ``path``: None for memory alone."""
        self._record = KEY + size + SUM
        self._set = 8 + WAYS * self._record
        self._sets = max(1, items // WAYS)
        head = _HEAD.pack(_MAGIC, size, self._sets)
        self._map = _open(path, head, _HEAD.size + self._sets * self._set)
        self._lock = threading.Lock()

    def put(self, name: str, payload: bytes) -> None:
        """Remember; a name that is used again means the later one."""
        self.put_key(key_of(name), payload)

    def get(self, name: str) -> bytes | None:
        """What was remembered, if it still is."""
        return self.get_key(key_of(name))

    def put_key(self, key: bytes, payload: bytes) -> None:
        """As ``put``, by the key of a name."""
        record = key + payload
        record += zlib.crc32(record).to_bytes(SUM, "little")
        with self._lock:
            base = self._base(key)
            at = self._find(base, key)
            if at is None:
                turn = self._map[base]
                self._map[base] = (turn + 1) & 0xFF
                at = base + 8 + turn % WAYS * self._record
            self._map[at : at + self._record] = record

    def get_key(self, key: bytes) -> bytes | None:
        """As ``get``, by the key of a name."""
        with self._lock:
            at = self._find(self._base(key), key)
            return None if at is None else self._payload(at)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Everything that is remembered: (key of a name, payload)."""
        for number in range(self._sets):
            for way in range(WAYS):
                at = _HEAD.size + number * self._set + 8 + way * self._record
                payload = self._payload(at)
                if payload is not None:
                    yield self._map[at : at + KEY], payload

    def _base(self, key: bytes) -> int:
        return _HEAD.size + int.from_bytes(key[:4], "little") % self._sets * self._set

    def _find(self, base: int, key: bytes) -> int | None:
        begin, end = base + 8, base + self._set
        while (at := self._map.find(key, begin, end)) >= 0:
            if (at - base - 8) % self._record == 0:
                return at
            begin = at + 1
        return None

    def _payload(self, at: int) -> bytes | None:
        record = self._map[at : at + self._record]
        sound = zlib.crc32(record[:-SUM]) == int.from_bytes(record[-SUM:], "little")
        return record[KEY:-SUM] if sound and any(record) else None


def key_of(name: str) -> bytes:
    """What a name is kept by."""
    return blake2b(name.encode(), digest_size=KEY).digest()


def forget(folder: Path, kept: Collection[str]) -> None:
    """Remove what is remembered of models that are not ``kept``. Raises OSError."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix in SUFFIXES and path.stem not in kept:
            path.unlink(missing_ok=True)


def _open(path: Path | None, head: bytes, size: int) -> mmap.mmap:
    """The file's bytes, or so many in memory. Reserved: a write to a map that the disk has no room for kills."""
    if path is not None:
        try:
            return _file(path, head, size)
        except OSError as error:
            log.warning("%s: %s; answers are remembered in memory", path, error.strerror)
    return mmap.mmap(-1, size)


def _file(path: Path, head: bytes, size: int) -> mmap.mmap:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        if file.read(len(head)) == head and os.fstat(file.fileno()).st_size == size:
            os.posix_fallocate(file.fileno(), 0, size)
            return mmap.mmap(file.fileno(), size)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        os.pwrite(descriptor, head, 0)
        fresh.replace(path)
        return mmap.mmap(descriptor, size)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
