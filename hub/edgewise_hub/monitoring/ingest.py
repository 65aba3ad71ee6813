"""Windows taken in: decoded within their bounds, checked, committed in one batch, then acknowledged.

Rules that hold here:
- a window counts once: its identity is (device, epoch, first..last), and one that came before is acknowledged again;
- a window that is refused for good (``speaks-for-another``, ``unknown-bundle``, ``wrong-spec``, ``bad-sketch``,
  ``absurd``, ``overlap``, ``bad-message``) is counted and logged, and the ack still moves past it, else its device
  would send it for ever; one of a newer schema is refused *without* an ack: it can be read once this hub is updated;
- a device that is unknown or revoked gets no ack at all;
- sketches are kept as they came: merging is for whoever reads (``monitoring.evidence``).
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from edgewise.errors import SketchError, WireError
from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.wire.codec import Count, Message, decode_msgpack
from edgewise.wire.windows import STREAM_WINDOWS, Window
from edgewise_hub import metrics
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.monitoring.positions import Positions
from edgewise_hub.monitoring.specs import Specs
from edgewise_hub.monitoring.tables import StreamPosition, WindowRow
from edgewise_hub.mqtt.inbox import Handler, Inbound, Outcome, Refusal
from edgewise_hub.registry.tables import Bundle

MAX_ITEMS = 10_000_000
"""Items that one window may count: no device answers more in a span that is reported at once."""
MAX_DURATION_S = 7 * 86400.0


class _Numbers(Message, frozen=True, kw_only=True):
    """What must be read of a damaged window to move the ack past it."""

    bound = Window.bound
    epoch: Count
    first: Count
    last: Count


def make_handler(hub: Hub) -> Handler:
    """The inbox's handler of ``windows/+`` messages."""
    specs = Specs(hub)

    def handle_windows(session: Session, messages: list[Inbound]) -> Outcome:
        return _Batch(session, hub, specs).take(messages)

    return handle_windows


def check(window: Window, spec: SketchSpec) -> None:
    """Are the numbers of a window possible together? Raises SketchError, or WireError (code ``absurd``)."""
    counters = window.counters
    tried = counters.inferences + counters.errors + counters.nonfinite_outputs
    if not (math.isfinite(window.start) and 0 <= window.duration <= MAX_DURATION_S):
        raise WireError(f"start {window.start}, duration {window.duration}: expected seconds", code="absurd")
    if tried + counters.refused + counters.nonfinite_inputs > MAX_ITEMS or counters.labelled > MAX_ITEMS:
        raise WireError(f"expected at most {MAX_ITEMS} items in a window, got more", code="absurd")
    if counters.correct > counters.labelled:
        raise WireError(f"{counters.correct} correct of {counters.labelled} labelled", code="absurd")
    sketches = WindowSketches.decode(spec, window.sketches)
    for part in (sketches.latency, sketches.classes, sketches.confidence, sketches.embedding):
        if part is not None and part.n > counters.inferences:
            raise WireError(
                f"{type(part).__name__} of {part.n} items, but {counters.inferences} inferences", code="absurd"
            )


def tick(hub: Hub, now: float) -> None:
    """Prune what is older than the retention, when there is any. ``now``: Unix seconds."""
    before = now - hub.settings.retention_s
    old = select(WindowRow.first).where(WindowRow.tenant_id == hub.tenant, WindowRow.received_at < before).limit(1)
    with hub.database.read() as session:
        found = session.scalar(old) is not None
    if found:
        with hub.database.write() as session:
            prune(session, hub, before)


def prune(session: Session, hub: Hub, before: float) -> int:
    """Forget windows received before ``before`` (Unix seconds), and the positions of epochs silent since then that are
    not a device's newest. Returns how many windows went."""
    gone = session.execute(delete(WindowRow).where(WindowRow.tenant_id == hub.tenant, WindowRow.received_at < before))
    rows = session.scalars(
        select(StreamPosition).where(StreamPosition.tenant_id == hub.tenant).order_by(StreamPosition.updated_at.desc())
    )
    seen: set[tuple[str, str]] = set()
    for row in rows:
        stream = (row.device_id, row.stream)
        if stream in seen and row.updated_at < before:
            session.delete(row)
        seen.add(stream)
    return int(gone.rowcount)  # type: ignore[attr-defined]  # a delete's result is a CursorResult


class _Batch:
    """One transaction's messages."""

    def __init__(self, session: Session, hub: Hub, specs: Specs) -> None:
        self._session, self._hub, self._specs = session, hub, specs
        self._positions = Positions(session, hub, STREAM_WINDOWS)
        self._outcome = Outcome()
        self._bundles: dict[str, Bundle | None] = {}
        self._rows: list[dict[str, Any]] = []

    def take(self, messages: list[Inbound]) -> Outcome:
        devices = self._enrolled({message.topic.device for message in messages})
        for message in messages:
            device = devices.get(message.topic.device)
            if device is None:
                self._refuse(message, "unknown-device", "it is not enrolled here, or it is revoked")
            elif message.topic.rest != STREAM_WINDOWS:
                self._refuse(message, "unknown-stream", f"expected {STREAM_WINDOWS}, got {message.topic.rest[:80]}")
            else:
                self._take(message, device)
        if self._rows:
            self._session.execute(insert(WindowRow), self._rows)
            metrics.WINDOWS.inc(len(self._rows))
            metrics.WINDOW_BYTES.inc(sum(row["size"] for row in self._rows))
        self._outcome.publish = self._positions.acks()
        return self._outcome

    def _take(self, message: Inbound, device: Device) -> None:
        try:
            window = decode_msgpack(message.payload, Window)
        except WireError as error:
            self._refuse(message, error.code, str(error))
            if error.code == "bad-message":
                self._skip_damaged(message)
            return
        try:
            new = self._positions.is_new(device.id, window.epoch, window.first, window.last)
            if new:
                self._check(window, device)
                self._rows.append(self._row(window, message))
            elif self._is_other_window(device.id, window):
                raise WireError(f"{window.first}..{window.last} is a part of another window", code="overlap")
        except (WireError, SketchError) as error:
            self._refuse(message, error.code, str(error))
            if error.code in ("bad-range", "too-far-ahead"):
                return
        self._positions.handled(device.id, window.epoch, window.first, window.last, message.received_at)

    def _check(self, window: Window, device: Device) -> None:
        if window.device != device.id:
            raise WireError(f"{device.id} may not speak for {window.device}", code="speaks-for-another")
        bundle = self._bundle(window.bundle)
        if bundle is None or (bundle.model, bundle.version, bundle.profile) != (
            window.model,
            window.version,
            device.profile,
        ):
            raise WireError(
                f"bundle {window.bundle[:12]}: not version {window.version} of {window.model} for {device.profile}",
                code="unknown-bundle",
            )
        if window.spec != bundle.spec:
            raise WireError(f"expected sketch spec {bundle.spec[:12]}, got {window.spec[:12]}", code="wrong-spec")
        check(window, self._specs.get(bundle.spec))

    def _row(self, window: Window, message: Inbound) -> dict[str, Any]:
        return {
            "tenant_id": self._hub.tenant,
            "device_id": window.device,
            "epoch": window.epoch,
            "first": window.first,
            "last": window.last,
            "start": window.start,
            "duration": window.duration,
            "model": window.model,
            "version": window.version,
            "bundle": window.bundle,
            "duty": window.duty,
            "spec": window.spec,
            "counters": msgspec.to_builtins(window.counters),
            "sketches": msgspec.msgpack.encode(window.sketches),
            "size": len(message.payload),
            "received_at": message.received_at,
        }

    def _skip_damaged(self, message: Inbound) -> None:
        """Move the ack past a window that will never decode, where its numbers at least can be read."""
        device = message.topic.device
        try:
            numbers = decode_msgpack(message.payload, _Numbers)
            if self._positions.is_new(device, numbers.epoch, numbers.first, numbers.last):
                self._positions.handled(device, numbers.epoch, numbers.first, numbers.last, message.received_at)
        except WireError:
            return  # the refusal is noted already, and there is no number to skip

    def _is_other_window(self, device: str, window: Window) -> bool:
        """Do these handled numbers belong to a window with other bounds? (A refused or pruned one left no row.)"""
        found = [(row["first"], row["last"]) for row in self._rows if self._is_of(row, device, window)]
        if not found:
            same = select(WindowRow.first, WindowRow.last).where(
                WindowRow.tenant_id == self._hub.tenant,
                WindowRow.device_id == device,
                WindowRow.epoch == window.epoch,
                WindowRow.first <= window.last,
                WindowRow.last >= window.first,
            )
            found = list(self._session.execute(same))
        return bool(found) and (window.first, window.last) not in found

    @staticmethod
    def _is_of(row: dict[str, Any], device: str, window: Window) -> bool:
        """Is this row, not inserted yet, of the same epoch, and does it overlap?"""
        return bool(
            (row["device_id"], row["epoch"]) == (device, window.epoch)
            and row["first"] <= window.last
            and row["last"] >= window.first
        )

    def _bundle(self, sha256: str) -> Bundle | None:
        if sha256 not in self._bundles:
            self._bundles[sha256] = self._session.get(Bundle, (self._hub.tenant, sha256))
        return self._bundles[sha256]

    def _enrolled(self, names: set[str]) -> dict[str, Device]:
        rows = self._session.scalars(
            select(Device).where(
                Device.tenant_id == self._hub.tenant, Device.id.in_(names), Device.revoked_at.is_(None)
            )
        )
        return {device.id: device for device in rows}

    def _refuse(self, message: Inbound, code: str, reason: str) -> None:
        self._outcome.refusals.append(Refusal(message.topic.device, message.topic.kind, code, reason))
