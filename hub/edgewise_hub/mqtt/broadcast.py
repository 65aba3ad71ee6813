"""One blob to many devices: when to cast it, how fast, and when to stop. Pure: no socket, file or clock.

Rules that hold here:
- a blob of ``MIN_CAST_BLOCKS`` or more is cast when enough devices that hear casts ask for a good part of it within
  ``VOTE_WINDOW_S``; those that ask for a gap or two are answered one by one;
- it is sent in rounds. A round goes out when all but the newest ``ROUNDS_AHEAD`` rounds were heard by the devices drawn
  to say so, so that the broker holds a bounded part of it whatever the devices' speed;
- a drawn device that is silent for ``PACE_TIMEOUT_S`` is no longer waited for: one slow device must not hold up all.
  When none of those that asked is left, the cast ends;
- nothing here is promised: each device asks for its gaps afterwards.
"""

from __future__ import annotations

from edgewise.wire.blocks import BLOCK_SIZE, MIN_CAST_BLOCKS, Pace, paces

VOTE_WINDOW_S = 5.0
VOTE_BLOCKS = 4
"""A request for so many blocks counts as a wish for the whole blob."""
ROUND_BLOCKS = 8
ROUNDS_AHEAD = 2
PACE_TIMEOUT_S = 2.0
PACERS = 8
"""About how many devices are drawn to say what they have heard."""
MAX_VOTES = 10_000


class Votes:
    """Who asked for which blobs lately."""

    def __init__(self, cast_from: int) -> None:
        """``cast_from``: so many devices make a cast worth it."""
        self._cast_from = cast_from
        self._votes: dict[str, dict[str, tuple[float, int]]] = {}

    def add(self, digest: str, total: int, device: str, wanted: list[int], now: float) -> bool:
        """A device that hears casts asks for blocks; shall the blob be cast now?"""
        if total < MIN_CAST_BLOCKS * BLOCK_SIZE or len(wanted) < VOTE_BLOCKS:
            return False
        self._forget(now)
        if sum(map(len, self._votes.values())) < MAX_VOTES:
            self._votes.setdefault(digest, {})[device] = (now, wanted[0])
        return len(self._votes.get(digest, {})) >= self._cast_from

    def take(self, digest: str) -> tuple[set[str], int]:
        """(the devices that asked, the lowest block that one of them lacks); they are forgotten."""
        votes = self._votes.pop(digest)
        return set(votes), min(first for _, first in votes.values())

    def _forget(self, now: float) -> None:
        for digest, votes in list(self._votes.items()):
            self._votes[digest] = {d: vote for d, vote in votes.items() if now - vote[0] < VOTE_WINDOW_S}
            if not self._votes[digest]:
                del self._votes[digest]


class Cast:
    """One blob being cast. ``due`` says what to send now; ``heard`` and ``joined`` what came back."""

    def __init__(self, digest: str, total: int, devices: set[str], first: int = 0) -> None:
        """``total``: of the blob, in bytes; ``first``: the block to begin at."""
        self.digest, self.total = digest, total
        self.blocks = -(-total // BLOCK_SIZE)
        self.listeners = set(devices)
        self.next = first
        self._round = 0
        self._salt = 0
        self._waiting: dict[int, set[str]] = {}  # round -> drawn devices that have not said they heard it
        self._sent_at: dict[int, float] = {}

    @property
    def over(self) -> bool:
        """Is everything sent, or nobody left who hears it?"""
        return self.next >= self.blocks or not self.listeners

    def wait_s(self, now: float) -> float:
        """Seconds until ``due`` may have something without anybody having been heard; 0: now."""
        self._drop_silent(now)
        if len(self._waiting) < ROUNDS_AHEAD:
            return 0.0
        return max(0.0, min(self._sent_at[r] for r in self._waiting) + PACE_TIMEOUT_S - now)

    def due(self, now: float) -> tuple[range, Pace] | None:
        """The next round's blocks, and the pace that goes with the last of them; None while it must wait."""
        if self.over or self.wait_s(now) > 0 or self.over:
            return None
        blocks = range(self.next, min(self.next + ROUND_BLOCKS, self.blocks))
        pace, drawn = self._draw()
        self._waiting[self._round] = drawn
        self._sent_at[self._round] = now
        self._round, self.next = self._round + 1, blocks.stop
        return blocks, pace

    def heard(self, device: str, number: int) -> None:
        """A device has handled everything up to the end of this round."""
        for earlier in [r for r in self._waiting if r <= number]:
            self._waiting[earlier].discard(device)
            if not self._waiting[earlier]:
                del self._waiting[earlier], self._sent_at[earlier]

    def joined(self, device: str) -> None:
        """A device that came late hears the rest, and asks for what went before."""
        self.listeners.add(device)

    def _draw(self) -> tuple[Pace, set[str]]:
        """A pace that at least one listener is drawn for. Every device draws alike, from the salt."""
        one_in = max(1, len(self.listeners) // PACERS)
        while True:
            pace = Pace(round=self._round, salt=self._salt, one_in=one_in)
            drawn = {device for device in self.listeners if paces(device, self.digest, pace)}
            if drawn:
                return pace, drawn
            self._salt += 1

    def _drop_silent(self, now: float) -> None:
        """Wait no longer for devices that did not say in time that they heard a round."""
        for number in [r for r, at in self._sent_at.items() if now - at >= PACE_TIMEOUT_S]:
            self.listeners -= self._waiting.pop(number)
            del self._sent_at[number]
