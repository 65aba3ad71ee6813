"""When and how fast this device may download. Pure: time is an argument.

Rules that hold here:
- two sides may limit, the hub (in the desired state) and the owner (``EDGEWISE_AGENT_DOWNLOAD_BYTES_S`` and
  ``EDGEWISE_AGENT_QUIET_HOURS`` where the agent starts); the stricter holds, and quiet hours add up;
- quiet hours are local time; what has begun is held at the next block, and goes on afterwards where it stopped;
- a limit holds what is asked for, never what is served.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from edgewise.errors import EdgewiseError
from edgewise.wire.control import Transfer

RATE_VARIABLE = "EDGEWISE_AGENT_DOWNLOAD_BYTES_S"
"""Bytes a second that downloads may take, 1024 or more; the hub may set a stricter one."""
QUIET_VARIABLE = "EDGEWISE_AGENT_QUIET_HOURS"
"""Local times without downloads, such as ``07:00-22:00``, comma-separated; added to the hub's own."""


class BadLimit(EdgewiseError):
    """A limit in the environment that cannot be read."""

    code = "bad-limit"


class TokenBucket:
    """At most ``rate`` bytes a second, with ``burst`` bytes saved up at most. ``rate`` None: no limit."""

    def __init__(self, rate: int | None, burst: int, now: float) -> None:
        self.rate, self.burst = rate, burst
        self._level, self._at = float(burst), now

    def available(self, now: float) -> int:
        """Bytes that may be taken now; the burst where there is no limit."""
        if self.rate is None:
            return self.burst
        self._level = min(float(self.burst), self._level + max(0.0, now - self._at) * self.rate)
        self._at = max(self._at, now)
        return int(self._level)

    def take(self, count: int, now: float) -> None:
        """Take bytes. More than is there leaves a debt, which is paid off first."""
        if self.rate is not None:
            self.available(now)
            self._level -= count


def is_quiet(quiet: Sequence[str], clock: time.struct_time) -> bool:
    """Is this local time within one of the quiet hours? ``22:00-06:00`` goes over midnight; the end is outside."""
    minute = clock.tm_hour * 60 + clock.tm_min
    for span in quiet:
        begin, end = (int(part[:2]) * 60 + int(part[3:]) for part in span.split("-"))
        if begin <= minute < end if begin <= end else minute >= begin or minute < end:
            return True
    return False


def stricter(first: Transfer, second: Transfer) -> Transfer:
    """Both limits at once."""
    rates = [rate for rate in (first.bytes_s, second.bytes_s) if rate is not None]
    return Transfer(bytes_s=min(rates, default=None), quiet=list(dict.fromkeys([*first.quiet, *second.quiet])))


def of_owner(environment: Mapping[str, str]) -> Transfer:
    """The owner's limits, from the environment. Raises BadLimit."""
    rate, quiet = environment.get(RATE_VARIABLE), environment.get(QUIET_VARIABLE)
    try:
        return msgspec.convert(
            {"bytes_s": int(rate) if rate else None, "quiet": [s.strip() for s in quiet.split(",")] if quiet else []},
            Transfer,
        )
    except (ValueError, msgspec.ValidationError) as error:
        raise BadLimit(
            f"{RATE_VARIABLE}: expected bytes a second (1024 or more); {QUIET_VARIABLE}: expected HH:MM-HH:MM, "
            f"comma-separated: {error}"
        ) from error
