"""Spans that ended before anybody knew the time: placed once it is known, as they go out. Pure.

Rules that hold here:
- on the device's disk such a message has a ``mark``: at which reading of the steady clock it ended, and of which start
  of the system that clock counts. It never leaves the device;
- it is placed by what is known when it is sent, so nothing is written anew; where the system was started since, nobody
  knows how long ago it was, and its time stays unknown;
- the clock's drift since then adds to the uncertainty.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from edgewise_agent.clock import DRIFT, Reading


class Mark(NamedTuple):
    """A moment of the steady clock. ``boot``: which start of the system it counts from (``clock.boot_tag``)."""

    boot: int
    steady: float


class _Marked(msgspec.Struct):
    mark: Mark | None = None


def mark_of(data: bytes) -> Mark | None:
    """The mark of a message, if it has one."""
    try:
        return msgspec.msgpack.decode(data, type=_Marked).mark
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # what the disk damaged goes out as it is, for the hub to refuse


def marked(data: bytes, mark: Mark | None) -> bytes:
    """The message with this mark, or without any."""
    content = msgspec.msgpack.decode(data)
    content.pop("mark", None)
    return msgspec.msgpack.encode(content if mark is None else {**content, "mark": mark})


def placed(data: bytes, now: Mark, reading: Reading) -> bytes:
    """The message as it goes out ``now``, when the clock says ``reading``: without its mark."""
    mark = mark_of(data)
    if mark is None:
        return data
    try:
        content = msgspec.msgpack.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data
    del content["mark"]
    ended_s, duration = now.steady - mark.steady, content.get("duration")
    if mark.boot == now.boot and ended_s >= 0 and reading.uncertainty is not None and isinstance(duration, float):
        content["start"] = reading.at - ended_s - duration
        content["uncertainty"] = reading.uncertainty + DRIFT * ended_s
    return msgspec.msgpack.encode(content)
