"""One blob on its way: which blocks are missing, when to ask, what to refuse. Pure: no socket, file or clock.

Rules that hold here:
- at most ``WINDOW`` blocks are on their way; a new request goes out when half of them are here;
- the timer asks again for what did not come (3 s, doubling to 30 s, back to 3 s with every block that does), and a
  new connection asks at once: a lost last block must not hang;
- a block that was not asked for, or is not of the size that the manifest promised, is refused and changes nothing;
- the hub's "no" (an error in a block) waits for the longest timer, and after ``MAX_ERRORS`` of them the download fails.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgewise.errors import EdgewiseError
from edgewise.wire.blocks import BLOCK_SIZE, MAX_BLOCKS_ASKED, Block, BlockRequest, bitmap

WINDOW = 16
FIRST_TIMEOUT_S = 3.0
MAX_TIMEOUT_S = 30.0
MAX_ERRORS = 5


class BlockRefused(EdgewiseError):
    """A block that is not what was asked for; counted, and otherwise ignored."""

    code = "block-refused"


class DownloadFailed(EdgewiseError):
    """The hub will not give this blob; ``code`` is the hub's own."""

    code = "download-failed"


class Download:
    """State of one blob's download. ``have``: block numbers that are here."""

    def __init__(self, digest: str, size: int, have: Iterable[int] = (), block_size: int = BLOCK_SIZE) -> None:
        self.digest, self.size, self.block_size = digest, size, block_size
        self.blocks = -(-size // block_size)
        self.have = set(have)
        self._asked: set[int] = set()
        self._next = 0  # every block below is here
        self._timeout = FIRST_TIMEOUT_S
        self._ask_again_at = 0.0
        self._errors = 0

    @property
    def done(self) -> bool:
        """Is every block here?"""
        return len(self.have) == self.blocks

    @property
    def bytes_here(self) -> int:
        """How many bytes are here, counting every block as whole but the last."""
        short = self.blocks * self.block_size - self.size if self.blocks - 1 in self.have else 0
        return len(self.have) * self.block_size - short

    def request(self, now: float) -> BlockRequest | None:
        """The request to send now, or None. ``now``: monotonic seconds."""
        if self.done:
            return None
        if now >= self._ask_again_at and self._asked:
            self._asked.clear()
            self._timeout = min(self._timeout * 2, MAX_TIMEOUT_S)
        if len(self._asked) > WINDOW // 2 or (now < self._ask_again_at and self._errors):
            return None
        while self._next in self.have:
            self._next += 1
        wanted: list[int] = []
        for index in range(self._next, self.blocks):
            if len(self._asked) + len(wanted) >= WINDOW or (wanted and index - wanted[0] >= MAX_BLOCKS_ASKED):
                break
            if index not in self.have and index not in self._asked:
                wanted.append(index)
        if not wanted:
            return None
        self._asked.update(wanted)
        self._ask_again_at = now + self._timeout
        base, bits = bitmap(wanted)
        return BlockRequest(digest=self.digest, block_size=self.block_size, base=base, bitmap=bits)

    def reconnected(self, now: float) -> None:
        """What was asked for over the old connection may never come: ask again at once."""
        self._asked.clear()
        self._timeout = FIRST_TIMEOUT_S
        self._ask_again_at = now
        self._errors = 0

    def receive(self, block: Block, now: float) -> bool:
        """Is this block to be written? The caller writes it, then calls ``wrote``.

        Raises BlockRefused, and DownloadFailed when the hub has said no too often.
        """
        if block.digest != self.digest:
            raise BlockRefused(f"block of {block.digest[:12]}: expected {self.digest[:12]}")
        if block.error is not None:
            self._errors += 1
            if self._errors >= MAX_ERRORS:
                raise DownloadFailed(f"blob {self.digest[:12]}: the hub says {block.error}", code=block.error)
            self._asked.clear()
            self._ask_again_at = now + MAX_TIMEOUT_S
            return False
        if block.total != self.size:
            raise BlockRefused(f"blob {self.digest[:12]}: expected {self.size} bytes in all, got {block.total}")
        if block.index not in self._asked:
            raise BlockRefused(f"blob {self.digest[:12]}: block {block.index} was not asked for")
        expected = min(self.block_size, self.size - block.index * self.block_size)
        if len(block.data) != expected:
            raise BlockRefused(f"block {block.index}: expected {expected} bytes, got {len(block.data)}")
        return True

    def wrote(self, index: int, now: float) -> None:
        """The block is in the partial file."""
        self._asked.discard(index)
        self.have.add(index)
        self._errors = 0
        self._timeout = FIRST_TIMEOUT_S
        self._ask_again_at = now + self._timeout
