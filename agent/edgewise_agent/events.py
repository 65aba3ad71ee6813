"""What the agent's loop waits for. Threads (the network's, one a serve child) only put events into its queue."""

from __future__ import annotations

from dataclasses import dataclass

from edgewise_agent.serving.channel import FromChild
from edgewise_agent.serving.process import Serving


@dataclass(frozen=True)
class Connected:
    """The broker took us; retained messages follow."""


@dataclass(frozen=True)
class Disconnected:
    """The connection is gone; the network's thread is trying again."""

    reason: str


@dataclass(frozen=True)
class Inbound:
    """A message from the hub. ``kind``: desired, ack or blob; ``rest`` is what follows in its topic."""

    kind: str
    rest: str
    payload: bytes


@dataclass(frozen=True)
class ChildSaid:
    """A serve child's message; None: its channel is closed and it is gone."""

    child: Serving
    message: FromChild | None


Event = Connected | Disconnected | Inbound | ChildSaid
