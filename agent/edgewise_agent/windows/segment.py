"""A file of the spool: one message as it is, or several with an index before them. Pure.

``FIRST-LAST.msg`` is one message that has these numbers. ``FIRST-LAST.seg`` holds several that have them together: the
length of the index (4 bytes, big-endian), the index (MessagePack, [[last, size], ...]), and the messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from edgewise.errors import EdgewiseError

HEAD = 4
MAX_INDEX = 64 * 1024
_Index = list[tuple[int, int]]


class SegmentDamaged(EdgewiseError):
    """A file of the spool that is not what was written."""

    code = "spool-damaged"


@dataclass(slots=True)
class Entry:
    """One message: its numbers, and where in its file it lies."""

    first: int
    last: int
    size: int
    offset: int = 0

    @property
    def width(self) -> int:
        """How many numbers it has."""
        return self.last - self.first + 1


def name(entries: Sequence[Entry]) -> str:
    """The name of the file that holds these."""
    return f"{entries[0].first:015d}-{entries[-1].last:015d}.{'msg' if len(entries) == 1 else 'seg'}"


def parse(name: str) -> tuple[int, int] | None:
    """FIRST and LAST of a file's name; None for a file that is none of the spool's."""
    stem, _, suffix = name.rpartition(".")
    first, _, last = stem.partition("-")
    if suffix not in ("msg", "seg") or not (first.isdecimal() and last.isdecimal()):
        return None
    return (int(first), int(last)) if 1 <= int(first) <= int(last) else None


def encode(first: int, messages: Sequence[tuple[int, bytes]]) -> tuple[list[Entry], bytes]:
    """The entries and bytes of one file; ``messages``: each one's last number and its bytes, in order."""
    index = msgspec.msgpack.encode([(last, len(data)) for last, data in messages])
    offset = HEAD + len(index) if len(messages) > 1 else 0
    entries = []
    for last, data in messages:
        entries.append(Entry(first, last, len(data), offset))
        first, offset = last + 1, offset + len(data)
    head = len(index).to_bytes(HEAD, "big") + index if len(messages) > 1 else b""
    return entries, head + b"".join(data for _, data in messages)


def index_size(head: bytes) -> int:
    """How long the index is that follows a segment's first HEAD bytes. Raises SegmentDamaged."""
    size = int.from_bytes(head, "big")
    if len(head) != HEAD or size > MAX_INDEX:
        raise SegmentDamaged(f"a segment's index: expected at most {MAX_INDEX} bytes, got {size}")
    return size


def read_index(first: int, last: int, index: bytes, size: int) -> list[Entry]:
    """The entries of a segment of ``size`` bytes named FIRST-LAST. Raises SegmentDamaged."""
    try:
        found = msgspec.msgpack.decode(index, type=_Index)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SegmentDamaged(f"a segment's index: {error}") from error
    ends = [first - 1, *(end for end, _ in found)]
    whole = HEAD + len(index) + sum(length for _, length in found) == size
    ascending = all(before < after for before, after in pairwise(ends))
    if not found or not whole or not ascending or ends[-1] != last or min(length for _, length in found) < 0:
        raise SegmentDamaged(f"a segment of {first}..{last}: its index does not fit it")
    entries, offset = [], HEAD + len(index)
    for (before, end), (_, length) in zip(pairwise(ends), found, strict=True):
        entries.append(Entry(before + 1, end, length, offset))
        offset += length
    return entries
