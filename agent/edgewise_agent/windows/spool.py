"""What is still to be received by the hub, on disk: one file a message, trimmed by ``ack`` alone.

``cursor.json`` holds the epoch (one life of this spool) and what is acknowledged; ``FIRST-LAST.msg`` hold the messages.

Rules that hold here:
- a sequence number is never used twice within an epoch: the next one follows the highest of the files and the ack,
  and the ack is durable in the cursor before a file goes;
- a message is kept until the hub acknowledged it: a broker's PUBACK means nothing. Without progress, and on every new
  connection, sending begins again after the last ack; the hub knows each message by its number;
- an ack of another epoch is ignored; one that is ahead of every number given means that numbers were lost, so a new
  epoch begins;
- full: the oldest message that surely was never sent gives way, and the next one's range grows over its number, so
  that the hub sees no hole. What may have been sent stays as it is; when nothing else is left, the new one is not
  taken. Both are counted (``dropped``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgewise.wire.codec import Count
from edgewise_agent.store.disk import TEMPORARY, Disk, DiskError, read

MAX_FILES = 20_000
MAX_BYTES = 64 * 1024 * 1024
IN_FLIGHT = 8
RESEND_S = 10.0
_MAX_MESSAGE = 128 * 1024


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``cursor.json``."""

    epoch: Count
    acked: Count = 0


@dataclass(frozen=True)
class Entry:
    """One message on disk."""

    first: int
    last: int
    size: int

    @property
    def name(self) -> str:
        """Its file's name."""
        return f"{self.first:015d}-{self.last:015d}.msg"


class Outgoing(NamedTuple):
    """A message to publish."""

    entry: Entry
    data: bytes


class Spool:
    """One stream's spool. ``new_epoch`` gives a number that no earlier life of this device's spool had."""

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        new_epoch: Callable[[], int],
        *,
        max_files: int = MAX_FILES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._disk, self._folder, self._new_epoch = disk, folder, new_epoch
        self._max_files, self._max_bytes = max_files, max_bytes
        disk.folder(folder)
        self.dropped = 0
        self._cursor = self._load_cursor()
        self._entries = self._load_entries()
        self._bytes = sum(entry.size for entry in self._entries)
        self._given = max(self._cursor.acked, self._entries[-1].last if self._entries else 0)
        self._ever_sent = self._given  # whether the life before sent them is not known: they count as sent
        self._sent = self._cursor.acked
        self._progress_at = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def epoch(self) -> int:
        """The present epoch."""
        return self._cursor.epoch

    def add(self, build: Callable[[int, int], bytes]) -> bool:
        """Keep a message; ``build(epoch, sequence)`` encodes it. False when there was no room. Raises DiskError."""
        data = build(self.epoch, self._given + 1)
        full = len(self._entries) >= self._max_files or self._bytes + len(data) > self._max_bytes
        if full and not any(entry.last > self._ever_sent for entry in self._entries):
            self.dropped += 1
            return False
        self._append(Entry(self._given + 1, self._given + 1, len(data)), data)
        while len(self._entries) > self._max_files or self._bytes > self._max_bytes:
            if not self._give_way():
                break
        return True

    def next(self, now: float) -> Outgoing | None:
        """The message to publish now, in order; at most IN_FLIGHT are beyond the ack. Raises DiskError."""
        if self._sent > self._cursor.acked and now - self._progress_at >= RESEND_S:
            self.rewind()
        for entry in islice(self._entries, IN_FLIGHT):
            if entry.last > self._sent:
                return Outgoing(entry, self._read(entry))
        return None

    def sent(self, outgoing: Outgoing, now: float) -> None:
        """It was handed to the network."""
        self._sent = outgoing.entry.last
        self._ever_sent = max(self._ever_sent, self._sent)
        self._progress_at = now

    def rewind(self) -> None:
        """A new connection: what is not acknowledged is sent again."""
        self._sent = self._cursor.acked

    def ack(self, epoch: int, sequence: int, now: float) -> None:
        """Everything of ``epoch`` up to ``sequence`` is in the hub's database. Raises DiskError."""
        if epoch != self._cursor.epoch or sequence <= self._cursor.acked:
            return
        ahead = sequence > self._given
        self._save(Cursor(epoch=self._new_epoch()) if ahead else Cursor(epoch=epoch, acked=sequence))
        gone: list[Entry] = []
        while self._entries and (ahead or self._entries[0].last <= sequence):
            gone.append(self._entries.popleft())
        self._bytes -= sum(entry.size for entry in gone)
        if ahead:
            self._given = self._ever_sent = self._sent = 0
        self._sent = max(self._sent, self._cursor.acked)
        self._progress_at = now
        self._disk.unlink(*(self._folder / entry.name for entry in gone))

    def rewrite(self, change: Callable[[bytes], bytes]) -> None:
        """Replace the content of every message that is kept; the numbers stay. Raises DiskError."""
        for index, entry in enumerate(self._entries):
            changed = change(self._read(entry))
            self._disk.replace(self._folder / entry.name, changed)
            self._entries[index] = Entry(entry.first, entry.last, len(changed))
        self._bytes = sum(entry.size for entry in self._entries)

    def _read(self, entry: Entry) -> bytes:
        data = read(self._folder / entry.name, _MAX_MESSAGE)
        if data is None:
            raise DiskError(f"{self._folder / entry.name}: is gone; something else removed it")
        return data

    def _append(self, entry: Entry, data: bytes) -> None:
        self._disk.replace(self._folder / entry.name, data)
        self._entries.append(entry)
        self._bytes += len(data)
        self._given = entry.last

    def _give_way(self) -> bool:
        """Drop the oldest message never sent: first the next one's grown twin, then the two old files."""
        index = next((i for i, entry in enumerate(self._entries) if entry.last > self._ever_sent), None)
        if index is None or index + 1 >= len(self._entries):
            return False
        oldest, following = self._entries[index], self._entries[index + 1]
        content = msgspec.msgpack.decode(self._read(following))
        content["first"] = oldest.first
        grown = msgspec.msgpack.encode(content)
        entry = Entry(oldest.first, following.last, len(grown))
        self._disk.replace(self._folder / entry.name, grown)
        del self._entries[index]
        self._entries[index] = entry
        self._bytes += entry.size - oldest.size - following.size
        self.dropped += 1
        self._disk.unlink(self._folder / oldest.name, self._folder / following.name)
        return True

    def _save(self, cursor: Cursor) -> None:
        self._disk.replace(self._folder / "cursor.json", msgspec.json.encode(cursor))
        self._cursor = cursor

    def _load_cursor(self) -> Cursor:
        data = read(self._folder / "cursor.json", 1024)
        try:
            if data is not None:
                return msgspec.json.decode(data, type=Cursor)
        except msgspec.DecodeError:
            pass  # damaged: as if there were none
        # Messages of a life whose number is lost would never be acknowledged, and under a new one might count twice.
        orphans = list(self._folder.glob("*.msg"))
        self.dropped += len(orphans)
        self._disk.unlink(*orphans)
        cursor = Cursor(epoch=self._new_epoch())
        self._disk.replace(self._folder / "cursor.json", msgspec.json.encode(cursor))
        return cursor

    def _load_entries(self) -> deque[Entry]:
        """Files beyond the ack, in order; those that a power cut left behind (acknowledged, or inside a wider) go."""
        entries: list[Entry] = []
        self._disk.unlink(*self._folder.glob(f"*{TEMPORARY}"))
        for path in self._folder.glob("*.msg"):
            first, _, last = path.stem.partition("-")
            entries.append(Entry(int(first), int(last), path.stat().st_size))
        entries.sort(key=lambda entry: (entry.first, -entry.last))
        kept: deque[Entry] = deque()
        reached = self._cursor.acked
        for entry in entries:
            if entry.last <= reached:
                self._disk.unlink(self._folder / entry.name)
            else:
                kept.append(entry)
                reached = entry.last
        return kept
