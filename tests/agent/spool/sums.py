"""The smallest messages that merge exactly: a key, and a bag of things that happened."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import count

import msgspec

PAD = 40


class Sums:
    """A ``Merging`` whose messages hold distinct things, so that each is seen to arrive once; ``most`` in a message."""

    def __init__(self, most: int = 10**9) -> None:
        self._things, self._most = count(1), most
        self.happened: dict[int, str] = {}
        """Thing -> its key, of all that were made."""

    def one(self, key: str) -> Callable[[int, int], bytes]:
        """A message of one new thing, for ``Spool.add``."""
        thing = next(self._things)
        self.happened[thing] = key

        def build(epoch: int, number: int) -> bytes:
            return msgspec.msgpack.encode(
                {"epoch": epoch, "first": number, "last": number, "key": key, "things": [thing], "pad": "x" * PAD}
            )

        return build

    def key(self, data: bytes) -> Hashable:
        found: dict[str, str] = msgspec.msgpack.decode(data)
        return found.get("key")

    def merge(self, older: bytes, newer: bytes) -> bytes | None:
        a, b = msgspec.msgpack.decode(older), msgspec.msgpack.decode(newer)
        assert a["key"] == b["key"]
        things = a["things"] + b["things"]
        return msgspec.msgpack.encode({**a, "things": things}) if len(things) <= self._most else None
