"""What every handler of inbound messages sees: a message in, messages out after the commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from edgewise.wire.topics import Topic


@dataclass(frozen=True)
class Inbound:
    """A message from a device. ``topic.device`` is who sent it: the broker's access rules vouch for that."""

    topic: Topic
    payload: bytes
    received_at: float


@dataclass(frozen=True)
class Outbound:
    """A message to publish after the commit."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True)
class Refusal:
    """A message that was not taken: counted, logged, and added to the device's ``refused``. ``code`` is stable."""

    device: str
    kind: str
    code: str
    reason: str


@dataclass
class Outcome:
    """What a handler's batch led to. Carried out by the inbox once the transaction has committed."""

    publish: list[Outbound] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


Handler = Callable[[Session, list[Inbound]], Outcome]
"""Takes all waiting messages of one topic kind, in order, inside one write transaction. Raises only when the whole
batch must be tried again: one bad message is a Refusal, never an exception."""
