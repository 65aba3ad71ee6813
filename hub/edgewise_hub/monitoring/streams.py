"""Streams of numbered spans taken in (windows and whatever else devices report): decoded within their bounds, checked,
committed in one batch, then acknowledged.

Rules that hold here:
- a message counts once: its identity is (device, epoch, first..last), and one that came before is acknowledged again;
- one whose numbers were handled in part, or as a part of another message, is refused (``overlap``);
- a message that is refused for good (``speaks-for-another``, ``absurd``, ``overlap``, ``bad-message``, and what its
  stream adds) is counted and logged, and the ack still moves past it, else its device would send it for ever; one of a
  newer schema is refused *without* an ack: it can be read once this hub is updated;
- a device that is unknown or revoked gets no ack at all.

A new stream: a message that extends ``wire.spans.Span``, a table that extends ``tables.StreamRow`` (and is named in
``retention.TABLES``), a ``Stream`` in the room that understands it, and a line in ``main.streams_of``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from edgewise.errors import SketchError, WireError
from edgewise.wire.codec import decode_msgpack
from edgewise.wire.spans import Span
from edgewise_hub import metrics
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring.positions import Positions
from edgewise_hub.monitoring.tables import StreamRow
from edgewise_hub.mqtt.inbox import Handler, Inbound, Outcome, Refusal

MAX_DURATION_S = 10 * 366 * 86400.0
"""One message may stand for all that a device saw while it was away: years."""

S = TypeVar("S", bound=Span)

Take = Callable[[S, Device], dict[str, Any]]
"""A message and the device that sent it -> the columns that its table adds to those of ``StreamRow``. Raises WireError
or SketchError: the message is refused for good."""


@dataclass(frozen=True)
class Stream(Generic[S]):
    """One stream. ``begin`` is called once a transaction that has messages of it; events may go into the outcome."""

    name: str
    message: type[S]
    table: type[StreamRow]
    begin: Callable[[Session, Outcome], Take[S]]


def make_handler(hub: Hub, streams: Iterable[Stream[Any]]) -> Handler:
    """The inbox's handler of ``windows/+`` messages."""
    by_name = {stream.name: stream for stream in streams}

    def handle_streams(session: Session, messages: list[Inbound]) -> Outcome:
        outcome = Outcome()
        devices = _enrolled(session, hub, {message.topic.device for message in messages})
        batches: dict[str, _Batch] = {}
        for message in messages:
            name, device = message.topic.rest, devices.get(message.topic.device)
            if device is None:
                _refuse(outcome, message, "unknown-device", "it is not enrolled here, or it is revoked")
            elif name not in by_name:
                _refuse(outcome, message, "unknown-stream", f"expected one of {sorted(by_name)}, got {name[:80]}")
            else:
                if name not in batches:
                    batches[name] = _Batch(session, hub, by_name[name], outcome)
                batches[name].take(message, device)
        for batch in batches.values():
            batch.finish()
        return outcome

    return handle_streams


class _Batch:
    """One transaction's messages of one stream."""

    def __init__(self, session: Session, hub: Hub, stream: Stream[Any], outcome: Outcome) -> None:
        self._session, self._hub, self._stream, self._outcome = session, hub, stream, outcome
        self._columns = stream.begin(session, outcome)
        self._positions = Positions(session, hub, stream.name)
        self._rows: list[dict[str, Any]] = []

    def take(self, inbound: Inbound, device: Device) -> None:
        """Keep one message, or refuse it; its numbers are handled either way, but for those that must come again."""
        try:
            message = decode_msgpack(inbound.payload, self._stream.message)
        except WireError as error:
            _refuse(self._outcome, inbound, error.code, str(error))
            if error.code == "bad-message":
                self._positions.damaged(device.id, inbound.payload, inbound.received_at)
            return
        numbers = (message.epoch, message.first, message.last)
        try:
            if self._positions.is_new(device.id, *numbers):
                self._rows.append(self._row(message, device, inbound))
            elif self._is_part_of_another(device.id, *numbers):
                raise WireError(f"{message.first}..{message.last} is a part of another message", code="overlap")
        except (WireError, SketchError) as error:
            _refuse(self._outcome, inbound, error.code, str(error))
            if error.code in ("bad-range", "too-far-ahead"):
                return
        self._positions.handled(device.id, *numbers, inbound.received_at)

    def finish(self) -> None:
        """Insert what was kept; its acks go out after the commit."""
        if self._rows:
            self._session.execute(insert(self._stream.table), self._rows)
            metrics.WINDOWS.labels(self._stream.name).inc(len(self._rows))
            metrics.WINDOW_BYTES.labels(self._stream.name).inc(sum(row["size"] for row in self._rows))
        self._outcome.publish += self._positions.acks()

    def _row(self, message: Span, device: Device, inbound: Inbound) -> dict[str, Any]:
        if message.device != device.id:
            raise WireError(f"{device.id} may not speak for {message.device}", code="speaks-for-another")
        _check_times(message)
        return {
            "tenant_id": self._hub.tenant,
            "device_id": device.id,
            "epoch": message.epoch,
            "first": message.first,
            "last": message.last,
            "start": message.start,
            "duration": message.duration,
            "uncertainty": message.uncertainty,
            "size": len(inbound.payload),
            "received_at": inbound.received_at,
            **self._columns(message, device),
        }

    def _is_part_of_another(self, device: str, epoch: int, first: int, last: int) -> bool:
        """Do these handled numbers belong to a message with other bounds? (A refused or pruned one left no row.)"""
        found = [
            (row["first"], row["last"])
            for row in self._rows
            if (row["device_id"], row["epoch"]) == (device, epoch) and row["first"] <= last and row["last"] >= first
        ]
        if not found:
            table = self._stream.table
            same = select(table.first, table.last).where(
                table.tenant_id == self._hub.tenant,
                table.device_id == device,
                table.epoch == epoch,
                table.first <= last,
                table.last >= first,
            )
            found = [(low, high) for low, high in self._session.execute(same)]
        return bool(found) and (first, last) not in found


def _check_times(span: Span) -> None:
    """Raises WireError (code ``absurd``). A start that is merely wrong is taken: its device's clock may be."""
    numbers = (span.start, span.duration, span.uncertainty or 0.0)
    if not all(map(math.isfinite, numbers)) or not 0 <= span.duration <= MAX_DURATION_S or numbers[2] < 0:
        raise WireError(
            f"start {span.start}, duration {span.duration}, uncertainty {span.uncertainty}: expected seconds",
            code="absurd",
        )


def _enrolled(session: Session, hub: Hub, names: set[str]) -> dict[str, Device]:
    rows = session.scalars(
        select(Device).where(Device.tenant_id == hub.tenant, Device.id.in_(names), Device.revoked_at.is_(None))
    )
    return {device.id: device for device in rows}


def _refuse(outcome: Outcome, message: Inbound, code: str, reason: str) -> None:
    outcome.refusals.append(Refusal(message.topic.device, message.topic.kind, code, reason))
