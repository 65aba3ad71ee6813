"""What a device reports of a span of time: numbered, so that the hub takes each number once, and placed in time.

Rules that hold here:
- a message's identity is (device, stream, epoch, first..last). ``epoch`` names one life of the stream's spool, and
  sequences rise by one within it; a device that lost its spool starts a new epoch, never reuses a number;
- a message that stands for several (merged while the hub was away) has all of their numbers, ``first`` to ``last``;
- ``duration`` is monotonic; ``start`` is by the device's clock, which may be wrong: by ``uncertainty`` at most.
"""

from __future__ import annotations

from edgewise.wire.codec import Count, Message, Name


class Span(Message, frozen=True, kw_only=True):
    """Base of what goes through a spool as one span of time."""

    device: Name
    epoch: Count
    first: Count
    last: Count
    start: float
    """Unix seconds at the span's start."""
    duration: float
    """Seconds from there to its end."""
    uncertainty: float | None = None
    """Seconds that ``start`` may be off, either way. None: the device's clock was never held against another."""
