"""What is still to be received by the hub, on disk, trimmed by ``ack`` alone.

``cursor.json`` holds the epoch (one life of this spool), what is acknowledged, and up to where numbers may have been
offered to the network; ``*.msg`` and ``*.seg`` hold the messages (``segment``).

Rules that hold here:
- a sequence number is never used twice within an epoch: the next one follows the highest of the files and the ack,
  and the ack is durable in the cursor before a file goes;
- a message is kept until the hub acknowledged it: a broker's PUBACK means nothing. Without progress (after a jittered
  wait, three times as long each time), and on every new connection, sending begins again after the last ack; the hub
  knows each message by its number;
- an ack of another epoch is ignored; one that is ahead of every number given means that numbers were lost, so a new
  epoch begins;
- a number is durable in the cursor as offered before its message goes out. What may have been offered never changes;
- full: messages never offered are merged (``pyramid`` says which, ``merging`` how) and numbered anew within the numbers
  that they had together, so that the hub sees no hole: a file replaces those whose numbers it has, and whatever a power
  cut leaves of them lies within it, and goes. One file is made at a time, when room is needed: no add takes long.
  Where nothing makes room, the new message is not taken, and counted (``dropped``);
- a message that the disk lost goes out as its numbers alone, which the hub passes over and counts, as is here.
"""

from __future__ import annotations

import logging
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from edgewise.wire.codec import Count
from edgewise_agent.jitter import Draw, decorrelated
from edgewise_agent.store.disk import TEMPORARY, Disk, DiskError, read, read_at
from edgewise_agent.windows import pyramid, segment
from edgewise_agent.windows.segment import Entry, SegmentDamaged

log = logging.getLogger(__name__)

MAX_MESSAGES = 20_000
MAX_BYTES = 64 * 1024 * 1024
IN_FLIGHT = 8
RESEND_S = 10.0
MAX_RESEND_S = 120.0
SPREAD_S = 5.0
"""With more to send than fits in flight, a new connection waits up to so long: a fleet comes back all at once."""
_AHEAD = 16  # numbers offered in one go: a message needs no cursor of its own
_KEPT = 0.75  # of the messages, by one plan
_SEGMENT = 256  # messages, and
_SEGMENT_BYTES = 256 * 1024  # bytes, at which a file takes no more


class Merging(Protocol):
    """How messages of one stream become one."""

    def key(self, data: bytes) -> Hashable:
        """What may be merged has the same; None: it may not."""

    def merge(self, older: bytes, newer: bytes) -> bytes | None:
        """Two messages of one key as one, whatever its numbers; None where they are too much for one."""


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``cursor.json``. ``offered`` None: a life before this field, which may have offered all."""

    epoch: Count
    acked: Count = 0
    offered: Count | None = None


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """Of a message, its identity; by itself, one that was lost."""

    schema: int = 1
    epoch: Count
    first: Count
    last: Count


@dataclass(slots=True)
class File:
    """One file: ``entries`` are its messages beyond the ack, ``size`` is all of its bytes."""

    path: Path
    entries: list[Entry]
    size: int
    keys: list[Hashable] | None = None
    """Each entry's key, once it is known."""

    @property
    def first(self) -> int:
        """The lowest number beyond the ack."""
        return self.entries[0].first


class Outgoing(NamedTuple):
    """A message to publish."""

    entry: Entry
    data: bytes


class Merge(NamedTuple):
    """Files that shall become one, and which of their entries, counted through, become one message."""

    files: list[File]
    groups: list[pyramid.Group]


class Spool:
    """One stream's spool. ``new_epoch`` gives a number that no earlier life of this device's spool had."""

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        new_epoch: Callable[[], int],
        merging: Merging | None = None,
        *,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
        draw: Draw = random.uniform,
    ) -> None:
        """Without ``merging``, a full spool takes no more."""
        self._disk, self._folder, self._new_epoch, self._merging = disk, folder, new_epoch, merging
        self._max_messages, self._max_bytes, self._draw = max_messages, max_bytes, draw
        disk.folder(folder)
        self.dropped = self.merged = 0
        self._cursor = self._load_cursor()
        self._files = self._load_files()
        self._count = sum(len(file.entries) for file in self._files)
        self._bytes = sum(file.size for file in self._files)
        self._given = max(self._cursor.acked, self._files[-1].entries[-1].last if self._files else 0)
        self._offered = self._given if self._cursor.offered is None else self._cursor.offered
        self._sent = self._cursor.acked
        self._wait_until = self._progress_at = 0.0
        self._resend_s = RESEND_S
        self._merges: deque[Merge] = deque()
        self._is_packed = False  # merging made no room, and nothing has gone since
        self._lost: set[int] = set()

    def __len__(self) -> int:
        return self._count

    @property
    def epoch(self) -> int:
        """The present epoch."""
        return self._cursor.epoch

    def add(self, build: Callable[[int, int], bytes]) -> bool:
        """Keep a message; ``build(epoch, sequence)`` encodes it. False when there was no room. Raises DiskError."""
        number = self._given + 1
        data = build(self.epoch, number)
        while self._is_full(len(data)) and not self._is_packed:
            self._is_packed = not self._make_room()
        if self._is_full(len(data)):
            self.dropped += 1
            return False
        file = self._write(number, [(number, data)])
        file.keys = [self._merging.key(data)] if self._merging is not None else None
        self._files.append(file)
        self._count += 1
        self._bytes += file.size
        self._given = number
        return True

    def next(self, now: float, at_once: int = IN_FLIGHT) -> Outgoing | None:
        """The message to publish now, in order; at most ``at_once`` are beyond the ack. Raises DiskError."""
        if now < self._wait_until:
            return None
        if self._sent > self._cursor.acked and now - self._progress_at >= self._resend_s:
            self._sent = self._cursor.acked
            self._resend_s = decorrelated(self._resend_s, self._draw, RESEND_S, MAX_RESEND_S)
        for file, entry in islice(self._waiting(), at_once):
            if entry.last > self._sent:
                if entry.last > self._offered:
                    self._save(Cursor(epoch=self.epoch, acked=self._cursor.acked, offered=entry.last + _AHEAD))
                return Outgoing(entry, self._content(file, entry))
        return None

    def sent(self, outgoing: Outgoing, now: float) -> None:
        """It was handed to the network."""
        self._sent = outgoing.entry.last
        self._progress_at = now

    def rewind(self, now: float) -> None:
        """A new connection: what is not acknowledged is sent again."""
        self._sent = self._cursor.acked
        self._wait_until = now + self._draw(0.0, SPREAD_S) if self._count > IN_FLIGHT else now

    def ack(self, epoch: int, sequence: int, now: float) -> None:
        """Everything of ``epoch`` up to ``sequence`` is in the hub's database. Raises DiskError."""
        if epoch != self.epoch or sequence <= self._cursor.acked:
            return
        ahead = sequence > self._given
        if ahead:
            self._save(Cursor(epoch=self._new_epoch(), offered=0))
        else:
            self._save(Cursor(epoch=epoch, acked=sequence, offered=max(self._offered, sequence + _AHEAD)))
        gone = [file for file in self._files if ahead or file.entries[-1].last <= sequence]
        del self._files[: len(gone)]
        if self._files:
            self._files[0].entries = [entry for entry in self._files[0].entries if entry.last > sequence]
        self._count = sum(len(file.entries) for file in self._files)
        self._bytes -= sum(file.size for file in gone)
        if ahead:
            self._given = self._sent = 0
            self._merges.clear()
        self._sent = max(self._sent, self._cursor.acked)
        self._progress_at, self._resend_s, self._is_packed = now, RESEND_S, False
        self._lost = {first for first in self._lost if first > self._cursor.acked and not ahead}
        self._disk.unlink(*(file.path for file in gone))

    def rewrite(self, change: Callable[[bytes], bytes]) -> None:
        """Replace what ``change`` changes of the messages that are kept; the numbers stay. For a spool that does not
        merge: each of its files holds one message, and so is the old one or the new one. Raises DiskError."""
        for index, file in enumerate(self._files):
            (entry,) = file.entries
            before = self._content(file, entry)
            after = change(before)
            if after != before:
                self._files[index] = self._write(entry.first, [(entry.last, after)])
        self._bytes = sum(file.size for file in self._files)

    # Making room

    def _is_full(self, size: int) -> bool:
        return self._count >= self._max_messages or self._bytes + size > self._max_bytes

    def _make_room(self) -> bool:
        """Merge what the plan has next; False when nothing can be merged any more. Raises DiskError."""
        while True:
            if not self._merges and not self._plan():
                return False
            merge = self._merges.popleft()
            if merge.files[0].first > self._offered:
                self._merge(merge)
                return True

    def _plan(self) -> bool:
        """Plan the next merges of what was never offered; False where there are none."""
        if self._merging is None:
            return False
        begin = bisect_left(self._files, self._offered + 1, key=lambda file: file.first)
        chunks: list[list[File]] = []
        count = size = 0
        for file in self._files[begin:]:
            if not chunks or count + len(file.entries) > _SEGMENT or size + file.size > _SEGMENT_BYTES:
                chunks.append([])
                count = size = 0
            chunks[-1].append(file)
            count, size = count + len(file.entries), size + file.size
        items = [[item for file in chunk for item in self._items(file, self._merging)] for chunk in chunks]
        planned = pyramid.plan(items, int(sum(map(len, items)) * _KEPT))
        if planned is None:
            return False
        self._merges.extend(
            Merge(chunk, groups)
            for chunk, groups, found in zip(chunks, planned, items, strict=True)
            if len(groups) < len(found)
        )
        return True

    def _items(self, file: File, merging: Merging) -> list[pyramid.Item]:
        if file.keys is None:
            file.keys = [merging.key(self._content(file, entry)) for entry in file.entries]
        return [pyramid.Item(key, entry.width) for key, entry in zip(file.keys, file.entries, strict=True)]

    def _merge(self, merge: Merge) -> None:
        """One file in the place of several; its messages have their numbers together, in the order of the groups."""
        parts = [
            (entry.width, self._content(file, entry), key)
            for file in merge.files
            for entry, key in zip(file.entries, file.keys or [], strict=True)
        ]
        last = merge.files[0].first - 1
        messages: list[tuple[int, bytes]] = []
        keys: list[Hashable] = []
        for group in merge.groups:
            for width, data, is_whole in self._merged([parts[index][:2] for index in group]):
                messages.append((last + width, _numbered(data, self.epoch, last + 1, last + width)))
                keys.append(None if is_whole else parts[group[0]][2])
                last += width
        file = self._write(merge.files[0].first, messages)
        file.keys = keys
        begin = bisect_left(self._files, merge.files[0].first, key=lambda file: file.first)
        self._files[begin : begin + len(merge.files)] = [file]
        self.merged += len(parts) - len(messages)
        self._count -= len(parts) - len(messages)
        self._bytes += file.size - sum(old.size for old in merge.files)
        self._disk.unlink(*(old.path for old in merge.files if old.path != file.path))

    def _merged(self, parts: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes, bool]]:
        """Messages of one key as one, or as more where they are too much for one: each with its width, and whether it
        takes no more."""
        width, data = parts[0]
        for other_width, other in parts[1:]:
            both = self._merging.merge(data, other) if self._merging is not None else None
            if both is None:
                yield width, data, True
                width, data = other_width, other
            else:
                width, data = width + other_width, both
        yield width, data, False

    # On disk

    def _waiting(self) -> Iterator[tuple[File, Entry]]:
        return ((file, entry) for file in self._files for entry in file.entries)

    def _write(self, first: int, messages: list[tuple[int, bytes]]) -> File:
        entries, data = segment.encode(first, messages)
        file = File(self._folder / segment.name(entries), entries, len(data))
        self._disk.replace(file.path, data)
        return file

    def _content(self, file: File, entry: Entry) -> bytes:
        """A message as it was written; of one that the disk lost, its numbers alone."""
        numbers = Numbers(epoch=self.epoch, first=entry.first, last=entry.last)
        try:
            data = read_at(file.path, entry.offset, entry.size)
            if msgspec.msgpack.decode(data, type=Numbers) == numbers:
                return data
        except (DiskError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.error("a message of the spool is lost: %s", error)
        if entry.first not in self._lost:
            self._lost.add(entry.first)
            self.dropped += 1
        return msgspec.msgpack.encode(numbers)

    def _save(self, cursor: Cursor) -> None:
        self._disk.replace(self._folder / "cursor.json", msgspec.json.encode(cursor))
        self._cursor, self._offered = cursor, cursor.offered or 0

    def _load_cursor(self) -> Cursor:
        data = read(self._folder / "cursor.json", 1024)
        try:
            if data is not None:
                return msgspec.json.decode(data, type=Cursor)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # damaged: as if there were none
        # Messages of a life whose number is lost would never be acknowledged, and under a new one might count twice.
        orphans = [path for path in self._folder.iterdir() if segment.parse(path.name) is not None]
        self.dropped += len(orphans)
        self._disk.unlink(*orphans)
        cursor = Cursor(epoch=self._new_epoch(), offered=0)
        self._disk.replace(self._folder / "cursor.json", msgspec.json.encode(cursor))
        return cursor

    def _load_files(self) -> list[File]:
        """Files beyond the ack, in order; those that a power cut left behind (acknowledged, or within a wider) go."""
        self._disk.unlink(*self._folder.glob(f"*{TEMPORARY}"))
        found = [(numbers, path) for path in self._folder.iterdir() if (numbers := segment.parse(path.name))]
        # A segment that became one message lies beside it under the same numbers: ``.msg`` sorts first.
        found.sort(key=lambda pair: (pair[0][0], -pair[0][1], pair[1].suffix))
        kept: list[File] = []
        reached = self._cursor.acked
        for (first, last), path in found:
            if last <= reached:
                self._disk.unlink(path)
                continue
            entries = [entry for entry in self._entries(path, first, last) if entry.last > reached]
            kept.append(File(path, entries, path.stat().st_size))
            reached = last
        return kept

    def _entries(self, path: Path, first: int, last: int) -> list[Entry]:
        size = path.stat().st_size
        whole = [Entry(first, last, size)]
        if path.suffix == ".msg":
            return whole
        try:
            length = segment.index_size(read_at(path, 0, segment.HEAD))
            return segment.read_index(first, last, read_at(path, segment.HEAD, length), size)
        except (DiskError, SegmentDamaged) as error:
            log.error("%s: %s", path, error)
            return whole  # whose content is not that of a message: its numbers will go out alone


def _numbered(data: bytes, epoch: int, first: int, last: int) -> bytes:
    """The same message with other numbers; they alone where it is damaged."""
    try:
        content = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        content = {"schema": 1}
    return msgspec.msgpack.encode({**content, "epoch": epoch, "first": first, "last": last})
