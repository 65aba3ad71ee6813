"""One blob on its way: which blocks are missing, when to ask, what to refuse. Pure: no socket, file or clock.

Rules that hold here:
- at most ``WINDOW_BYTES`` are asked for and not here yet; a new request goes out when half of them came;
- a block that does not come is asked for again: after a time learned from those that did (RFC 6298), doubled each time
  nothing helped, at most ``MAX_TIMEOUT_S``. A new connection asks at once: a lost last block must not hang;
- while the blob's cast is heard nothing is asked; when it ends, or is silent, the gaps are, after a wait that is spread
  over the devices. A cast that was promised and is not heard is not waited for a second time;
- a block that was not asked for (and is of no cast), came twice, is out of range, or is not of the size that the
  manifest promised, is refused and changes nothing;
- the hub's "no" (an error in a block) waits for the longest timer, and after ``MAX_ERRORS`` of them the download fails;
- so does one that trickles: slower than ``FLOOR_BYTES_S`` over ``FLOOR_WINDOW_S``, with no silence in between (an
  endless-data attack keeps an update out by sending a little of it for ever; silence is a network that is not there).
"""

from __future__ import annotations

from collections.abc import Iterable

from edgewise.errors import EdgewiseError
from edgewise.wire.blocks import BLOCK_SIZE, CASTING, MAX_BLOCKS_ASKED, Block, BlockRequest, bitmap

WINDOW_BYTES = 1024 * 1024
FIRST_TIMEOUT_S = 3.0
MIN_TIMEOUT_S = 1.0
MAX_TIMEOUT_S = 30.0
MAX_ERRORS = 5
CAST_SILENCE_S = 1.5
"""A cast that was silent for so long is over, for this device."""
GAP_SPREAD_S = 1.0
"""Over how long the devices of one cast spread their first requests for gaps."""
FLOOR_BYTES_S = 512.0
FLOOR_WINDOW_S = 900.0
SILENCE_S = 300.0


class BlockRefused(EdgewiseError):
    """A block that is not what was asked for; counted, and otherwise ignored."""

    code = "block-refused"


class DownloadFailed(EdgewiseError):
    """This blob cannot be had; ``code`` is the hub's own, or ``too-slow``."""

    code = "download-failed"


class RoundTrip:
    """How long to wait for an answer: mean and deviation of those that came (RFC 6298, with its gains)."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self._deviation = 0.0
        self._doubled = 1

    @property
    def timeout(self) -> float:
        """Seconds after which a block counts as lost."""
        base = FIRST_TIMEOUT_S if self._mean is None else max(MIN_TIMEOUT_S, self._mean + 4 * self._deviation)
        return min(base * self._doubled, MAX_TIMEOUT_S)

    def measured(self, seconds: float) -> None:
        """A block came so long after it was first asked for."""
        if self._mean is None:
            self._mean, self._deviation = seconds, seconds / 2
        else:
            self._deviation += (abs(seconds - self._mean) - self._deviation) / 4
            self._mean += (seconds - self._mean) / 8
        self._doubled = 1

    def lost(self) -> None:
        """Nothing came in time."""
        if self.timeout < MAX_TIMEOUT_S:
            self._doubled *= 2


class Floor:
    """Is a transfer so slow that somebody must be holding it back?"""

    def __init__(self) -> None:
        self._since = self._last = float("-inf")
        self._bytes = 0

    def too_slow(self, size: int, now: float) -> bool:
        """``size`` bytes came. Judges each ``FLOOR_WINDOW_S``; a silence of ``SILENCE_S`` begins anew."""
        if now - self._last > SILENCE_S:
            self._since, self._bytes = now, 0
        self._last = now
        self._bytes += size
        taken = now - self._since
        if taken < FLOOR_WINDOW_S:
            return False
        slow = self._bytes < FLOOR_BYTES_S * taken
        self._since, self._bytes = now, 0
        return slow


class Download:
    """State of one blob's download. ``have``: block numbers that are here."""

    def __init__(
        self,
        digest: str,
        size: int,
        have: Iterable[int] = (),
        block_size: int = BLOCK_SIZE,
        spread: float = 0.0,
    ) -> None:
        """``spread``: a number in [0, 1) of this device's own, for waits that devices must not share."""
        self.digest, self.size, self.block_size = digest, size, block_size
        self.blocks = -(-size // block_size)
        self.have = set(have)
        self._casting_until: float | None = None
        self._spread = spread
        self._window = max(1, WINDOW_BYTES // block_size)
        self._asked: dict[int, float] = {}  # block -> when
        self._again: set[int] = set()  # asked for more than once: their time says nothing (Karn)
        self._next = 0  # every block below is here
        self._round_trip = RoundTrip()
        self._floor = Floor()
        self._not_before = 0.0
        self._errors = 0
        self._heard_cast = True  # until one was promised and nothing came

    @property
    def done(self) -> bool:
        """Is every block here?"""
        return len(self.have) == self.blocks

    @property
    def bytes_here(self) -> int:
        """How many bytes are here, counting every block as whole but the last."""
        short = self.blocks * self.block_size - self.size if self.blocks - 1 in self.have else 0
        return len(self.have) * self.block_size - short

    def request(self, now: float, room: int | None = None, hears: bool = False) -> BlockRequest | None:
        """The request to send now, or None. ``now``: monotonic seconds; ``room``: blocks that the limits allow now;
        ``hears``: is the blob's cast subscribed to?"""
        if self.done or now < self._not_before or self._waits_for_cast(now):
            return None
        self._drop_lost(now)
        if len(self._asked) > self._window // 2:
            return None
        most = min(self._window - len(self._asked), self._window if room is None else room)
        wanted = self._missing(most)
        if not wanted:
            return None
        self._asked.update(dict.fromkeys(wanted, now))
        base, bits = bitmap(wanted)
        return BlockRequest(
            digest=self.digest,
            block_size=self.block_size,
            base=base,
            bitmap=bits,
            cast=hears and self._heard_cast and self.block_size == BLOCK_SIZE,
        )

    def reconnected(self, now: float) -> None:
        """What was asked for over the old connection may never come: ask again at once."""
        self._asked.clear()
        self._round_trip = RoundTrip()
        self._not_before, self._casting_until = now, None
        self._errors, self._heard_cast = 0, True

    def receive(self, block: Block, now: float, cast: bool = False) -> bool:
        """Is this block to be written? The caller writes it, then calls ``wrote``. ``cast``: it came on the cast topic.

        Raises BlockRefused, and DownloadFailed when the hub has said no too often or the blob only trickles.
        """
        if block.digest != self.digest:
            raise BlockRefused(f"block of {block.digest[:12]}: expected {self.digest[:12]}")
        if block.error is not None:
            self._error(block.error, now)
            return False
        if block.total != self.size:
            raise BlockRefused(f"blob {self.digest[:12]}: expected {self.size} bytes in all, got {block.total}")
        expected = min(self.block_size, self.size - block.index * self.block_size)
        if block.index >= self.blocks or len(block.data) != expected:
            raise BlockRefused(f"block {block.index}: expected {max(0, expected)} bytes, got {len(block.data)}")
        if cast:
            self._heard(block.index, now)
            if block.index in self.have:
                return False
        elif block.index in self.have or (block.index not in self._asked and self._casting_until is None):
            raise BlockRefused(f"blob {self.digest[:12]}: block {block.index} was not asked for, or came twice")
        if self._floor.too_slow(len(block.data), now):
            raise DownloadFailed(
                f"blob {self.digest[:12]}: slower than {FLOOR_BYTES_S:.0f} bytes/s over {FLOOR_WINDOW_S:.0f} s; "
                "is somebody holding the transfer back?",
                code="too-slow",
            )
        return True

    def wrote(self, index: int, now: float) -> None:
        """The block is in the partial file."""
        asked_at = self._asked.pop(index, None)
        if asked_at is not None and index not in self._again and self._casting_until is None:
            self._round_trip.measured(now - asked_at)
        self._again.discard(index)
        self.have.add(index)
        self._errors = 0

    def _missing(self, most: int) -> list[int]:
        """Up to ``most`` blocks that are neither here nor asked for, within one request's reach of the first."""
        while self._next in self.have:
            self._next += 1
        wanted: list[int] = []
        for index in range(self._next, self.blocks):
            if len(wanted) >= most or (wanted and index - wanted[0] >= MAX_BLOCKS_ASKED):
                break
            if index not in self.have and index not in self._asked:
                wanted.append(index)
        return wanted

    def _drop_lost(self, now: float) -> None:
        """Forget what was asked for too long ago, so that it is asked for again."""
        before = now - self._round_trip.timeout
        lost = [index for index, at in self._asked.items() if at <= before]
        if lost:
            for index in lost:
                del self._asked[index]
            self._again.update(lost)
            self._round_trip.lost()

    def _waits_for_cast(self, now: float) -> bool:
        if self._casting_until is None:
            return False
        if now < self._casting_until:
            return True
        self._casting_until = None
        return False

    def _heard(self, index: int, now: float) -> None:
        """A block of the cast came: wait for the next one; after the last one, only as long as this device's spread."""
        self._heard_cast = True
        last = index == self.blocks - 1
        self._casting_until = now + (self._spread * GAP_SPREAD_S if last else CAST_SILENCE_S + self._spread)

    def _error(self, error: str, now: float) -> None:
        """The hub's "no"."""
        self._asked.clear()
        if error == CASTING:
            self._casting_until = now + CAST_SILENCE_S + self._spread
            self._heard_cast = False
            return
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            raise DownloadFailed(f"blob {self.digest[:12]}: the hub says {error}", code=error)
        self._not_before = now + MAX_TIMEOUT_S
