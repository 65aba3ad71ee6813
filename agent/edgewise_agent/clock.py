"""What time it is, and how sure that is: monotonic inside, wall time with an uncertainty outside.

Rules that hold here:
- the hub's acks are a clock: one that says ``at`` was stamped between our sending of what it acknowledges and its
  arrival here, so it is off by half that time at most (Cristian, 1989), and by DRIFT since; no NTP, no RTC is needed;
- else the system's clock counts, if it says that it is synchronized;
- else the time is not known (``uncertainty`` None): a device that was never told stays usable in 1970 or in 2099;
- the newest signed time is a floor: a clock behind it is wrong, whatever it says of itself;
- what is counted inside runs on a clock that goes on in suspend and that nobody sets, so a step moves no window.

What the hub signed is still judged by the system's clock (``trust``): acks are not signed.
"""

from __future__ import annotations

import secrets
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import NamedTuple

DRIFT = 200e-6
"""Seconds that a device's oscillator may gain or lose in one."""
SYNCHRONIZED_S = 1.0
"""How far off a synchronized system's clock is taken to be."""
SYNCHRONIZED = Path("run/systemd/timesync/synchronized")
"""What systemd-timesyncd leaves once it has set the clock since the start."""
BOOT_ID = Path("proc/sys/kernel/random/boot_id")
MAX_WAITING = 64
"""Messages whose ack may set the clock; of more, the oldest do not."""


class Reading(NamedTuple):
    """``at``: Unix seconds. ``uncertainty``: how many it may be off, either way; None: not known."""

    at: float
    uncertainty: float | None


class _Anchor(NamedTuple):
    """The time at one moment of the steady clock."""

    steady: float
    at: float
    uncertainty: float


def steady_clock() -> float:
    """Seconds on a clock that nobody sets and that does not stop in suspend (where there is one)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def boot_tag(root: Path = Path("/")) -> int:
    """32 bits that name this start of the system, since ``steady_clock`` begins anew with each; where the system does
    not say, they name this process."""
    try:
        return zlib.crc32((root / BOOT_ID).read_bytes())
    except OSError:
        return secrets.randbits(32)


class Clock:
    """One device's clock. ``steady`` is what it counts on; ``root`` is where the system's files are."""

    def __init__(
        self,
        steady: Callable[[], float] = steady_clock,
        wall: Callable[[], float] = time.time,
        root: Path = Path("/"),
    ) -> None:
        self.steady, self._wall, self._root = steady, wall, root
        self._floor = 0.0
        self._anchor: _Anchor | None = None
        self._sent: OrderedDict[Hashable, float] = OrderedDict()

    def signed(self, at: float) -> None:
        """The hub signed something at this time, so it is not earlier."""
        self._floor = max(self._floor, at)

    def sent(self, message: Hashable) -> None:
        """A message goes out whose ack will say when the hub had it; sent again, its first time counts."""
        self._sent.setdefault(message, self.steady())
        while len(self._sent) > MAX_WAITING:
            self._sent.popitem(last=False)

    def acknowledged(self, message: Hashable, at: float) -> None:
        """The hub had this message at ``at``, by its clock; 0: it did not say."""
        sent, now = self._sent.pop(message, None), self.steady()
        if sent is None or at <= 0:
            return
        half = (now - sent) / 2
        heard = _Anchor(now, at + half, half)
        held = self._held(now)
        if (
            held is None
            or heard.uncertainty <= held.uncertainty
            or abs(heard.at - held.at) > (heard.uncertainty + held.uncertainty)
        ):  # better than what is held, or the hub's own clock was set
            self._anchor = heard

    def read(self) -> Reading:
        """The best that is known now."""
        wall = self._wall()
        held = self._held(self.steady())
        is_set = wall >= self._floor and (self._root / SYNCHRONIZED).exists()
        if held is not None and not (
            is_set and held.uncertainty > SYNCHRONIZED_S and abs(wall - held.at) <= SYNCHRONIZED_S + held.uncertainty
        ):
            return Reading(held.at, held.uncertainty)
        return Reading(wall, SYNCHRONIZED_S) if is_set else Reading(max(wall, self._floor), None)

    def _held(self, now: float) -> _Anchor | None:
        """What an ack said, carried on to now."""
        if self._anchor is None:
            return None
        since = now - self._anchor.steady
        return _Anchor(now, self._anchor.at + since, self._anchor.uncertainty + DRIFT * since)
