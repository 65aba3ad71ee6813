"""How far each device's stream is committed, and the acks that say so. Used by ``streams`` and for samples.

Rules that hold here:
- a stream's numbers begin at 1 in each epoch; the ack is the highest number up to which *everything* was handled, so a
  gap stops it, and what lies behind the gap is remembered until the gap closes;
- handled means committed **or refused for good**: a device sends again what is not acknowledged, so a refused message
  that held the ack back would come for ever;
- a position never goes back, and a range counts once, whatever is pruned from the tables meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.orm import Session

from edgewise.errors import WireError
from edgewise.wire import topics
from edgewise.wire.codec import MAX_MESSAGE, Count, Message, decode_msgpack, encode_json
from edgewise.wire.windows import Ack
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring.tables import StreamPosition
from edgewise_hub.mqtt.inbox import Outbound

MAX_BEYOND = 1000
"""Ranges remembered behind gaps. A device has a few messages in flight, so there are a few."""
MAX_SPAN = 1_000_000
"""Numbers that one message may stand for."""

Range = tuple[int, int]
"""first..last, both included."""


class Position(NamedTuple):
    """All of 1..``sequence`` is handled, and the ranges ``beyond`` it: ascending, apart, none next to another."""

    sequence: int = 0
    beyond: tuple[Range, ...] = ()


def is_new(position: Position, first: int, last: int) -> bool:
    """Is first..last still to be handled? False when all of it was.

    Raises WireError: ``bad-range``; ``overlap`` when a part of it was handled; ``too-far-ahead`` when it lies behind
    more gaps than are remembered (it must come again).
    """
    if not 1 <= first <= last < first + MAX_SPAN:
        raise WireError(f"expected 1 <= first <= last < first + {MAX_SPAN}, got {first}..{last}", code="bad-range")
    for low, high in ((1, position.sequence), *position.beyond):
        if low <= first and last <= high:
            return False
        if first <= high and low <= last:
            raise WireError(f"numbers {first}..{last} overlap {low}..{high}, which were handled", code="overlap")
    if len(position.beyond) >= MAX_BEYOND and first > position.sequence + 1:
        raise WireError(f"numbers {first}..{last}: more than {MAX_BEYOND} gaps before them", code="too-far-ahead")
    return True


def extend(position: Position, first: int, last: int) -> Position:
    """The position once first..last is handled as well."""
    merged: list[Range] = []
    for low, high in sorted([(0, position.sequence), *position.beyond, (first, last)]):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return Position(merged[0][1], tuple(merged[1:]))


class _Numbers(Message, frozen=True, kw_only=True):
    """The identity of a message."""

    bound = MAX_MESSAGE
    epoch: Count
    first: Count
    last: Count


def ack_of(row: StreamPosition) -> Outbound:
    """What tells a device how far its stream is committed."""
    ack = Ack(stream=row.stream, epoch=row.epoch, sequence=row.sequence, at=row.updated_at)
    return Outbound(topics.ack(row.tenant_id, row.device_id, row.stream), encode_json(ack), retain=True)


class Positions:
    """The positions of one stream inside one write transaction: ask, mark, and take the acks for after the commit."""

    def __init__(self, session: Session, hub: Hub, stream: str) -> None:
        self._session, self._hub, self._stream = session, hub, stream
        self._rows: dict[tuple[str, int], StreamPosition] = {}
        self._to_ack: dict[tuple[str, int], None] = {}

    def is_new(self, device: str, epoch: int, first: int, last: int) -> bool:
        """As the function ``is_new``, for this device's position."""
        return is_new(_position(self._row(device, epoch)), first, last)

    def handled(self, device: str, epoch: int, first: int, last: int, now: float) -> None:
        """first..last is committed with this transaction, or refused for good; its ack is due (also when it was handled
        before: the device asks because it missed the ack)."""
        row = self._row(device, epoch)
        self._session.add(row)
        position = _position(row)
        extended = extend(position, first, last)
        if extended != position:
            row.sequence, row.beyond = extended.sequence, [list(found) for found in extended.beyond]
        row.updated_at = now
        self._to_ack.pop((device, epoch), None)
        self._to_ack[device, epoch] = None  # the epoch that a device used last is acknowledged last, and so retained

    def damaged(self, device: str, payload: bytes, now: float) -> None:
        """A message that will never decode is handled, where its numbers at least can be read: what a device's disk
        lost is sent as its numbers alone."""
        try:
            numbers = decode_msgpack(payload, _Numbers)
            self.is_new(device, numbers.epoch, numbers.first, numbers.last)
        except WireError:
            return  # the refusal is noted already, and there is no number to pass
        self.handled(device, numbers.epoch, numbers.first, numbers.last, now)

    def acks(self) -> list[Outbound]:
        """To publish after the commit: one an epoch that was marked."""
        acks = []
        for device, epoch in self._to_ack:
            acks.append(ack_of(self._rows[device, epoch]))
        return acks

    def _row(self, device: str, epoch: int) -> StreamPosition:
        row = self._rows.get((device, epoch))
        if row is None:
            row = self._session.get(StreamPosition, (self._hub.tenant, device, self._stream, epoch))
            if row is None:
                row = StreamPosition(
                    tenant_id=self._hub.tenant,
                    device_id=device,
                    stream=self._stream,
                    epoch=epoch,
                    sequence=0,
                    beyond=[],
                    updated_at=0.0,
                )
            self._rows[device, epoch] = row
        return row


def _position(row: StreamPosition) -> Position:
    return Position(row.sequence, tuple((first, last) for first, last in row.beyond))
