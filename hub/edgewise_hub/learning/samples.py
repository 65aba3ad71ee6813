"""Raw samples under an owner's opt-in: asked for, taken within bounds, counted, and read as arrays.

Rules that hold here:
- a sample is taken only for an open request of the sender's group and model, from a device whose newest report shows
  its owner's consent, and never past the smaller of the request's and the owner's budget;
- a message is taken whole or refused whole; a refusal lets the ack advance, else the device would send it for ever;
- a sample counts once, by (request, device, inference request id); what the broker brings twice changes nothing.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from edgewise.errors import WireError
from edgewise.wire.codec import decode_msgpack
from edgewise.wire.control import Consent
from edgewise.wire.windows import STREAM_SAMPLES, Sample, Samples
from edgewise_hub.api import schemas
from edgewise_hub.fleet import desired, groups
from edgewise_hub.fleet.tables import Device, Membership
from edgewise_hub.hub import Hub
from edgewise_hub.learning.errors import LearningError
from edgewise_hub.learning.tables import SampleRequestRow, SampleRow
from edgewise_hub.monitoring.positions import Positions
from edgewise_hub.mqtt.inbox import Handler, Inbound, Outcome, Refusal

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
"""numpy's types by Open Inference Protocol name. Bytes on the wire are little-endian, as is every machine we run on."""

MAX_SAMPLES = 50_000
MAX_BYTES = 1024**3
"""What one training run reads of samples, the newest."""


@dataclass(frozen=True)
class Labelled:
    """Samples with labels: ``inputs`` [n, ...], ``labels`` int64 [n], and each one's ``key``, in the keys' order."""

    keys: list[str]
    inputs: npt.NDArray[np.generic]
    labels: npt.NDArray[np.int64]


def create(session: Session, hub: Hub, body: schemas.SampleRequestIn, now: float) -> SampleRequestRow:
    """Ask a group's devices for samples; publish their desired states after the commit.

    Raises LearningError (code ``sample-request-open``): one request of a model and group at a time.
    """
    already = session.scalar(
        select(SampleRequestRow.id).where(
            SampleRequestRow.tenant_id == hub.tenant,
            SampleRequestRow.model == body.model,
            SampleRequestRow.group == body.group,
            SampleRequestRow.state == "open",
        )
    )
    if already is not None:
        raise LearningError(
            f"{body.group} is already asked for samples of {body.model} by request {already}; close it first",
            code="sample-request-open",
        )
    request = SampleRequestRow(
        tenant_id=hub.tenant,
        id=uuid.uuid4().hex[:16],
        model=body.model,
        group=body.group,
        count=body.count,
        bytes=body.bytes,
        state="open",
        created_at=now,
    )
    session.add(request)
    desired.refresh(session, hub, groups.members(session, hub, body.group), now)
    return request


def close(session: Session, hub: Hub, request: SampleRequestRow, now: float) -> None:
    """Take no more; publish the group's desired states after the commit. What came stays."""
    request.state = "closed"
    desired.refresh(session, hub, groups.members(session, hub, request.group), now)


def make_handler(hub: Hub) -> Handler:
    """The inbox's handler of ``sample/+`` messages."""

    def handle(session: Session, messages: list[Inbound]) -> Outcome:
        outcome = Outcome()
        positions = Positions(session, hub, STREAM_SAMPLES)
        for message in messages:
            _take(session, hub, message, positions, outcome)
        outcome.publish = positions.acks()
        return outcome

    return handle


def labelled(session: Session, hub: Hub, request_id: str) -> Labelled:
    """The request's labelled samples, the newest within MAX_SAMPLES and MAX_BYTES.

    Raises LearningError: ``no-samples``, or ``bad-samples`` when they are of different shapes or dtypes.
    """
    newest = (
        select(SampleRow)
        .where(SampleRow.tenant_id == hub.tenant, SampleRow.request_id == request_id, SampleRow.label.is_not(None))
        .order_by(SampleRow.received_at.desc(), SampleRow.device_id, SampleRow.key)
    )
    first = session.scalars(newest.limit(1)).first()
    size = len(first.input) if first is not None else 1
    rows = session.scalars(newest.limit(min(MAX_SAMPLES, MAX_BYTES // size))).all()
    if not rows:
        raise LearningError(f"sample request {request_id}: no labelled sample has come yet", code="no-samples")
    return to_arrays(rows)


def to_arrays(rows: Iterable[SampleRow]) -> Labelled:
    """Labelled rows as arrays. Raises LearningError (code ``bad-samples``)."""
    by_key = sorted((f"{row.request_id}/{row.device_id}/{row.key}", row) for row in rows)
    kinds = {(row.dtype, tuple(row.shape)) for _, row in by_key}
    if len(kinds) != 1:
        found = ", ".join(sorted(f"{dtype} {list(shape)}" for dtype, shape in kinds))
        raise LearningError(f"samples: expected one dtype and shape, got {found or 'none'}", code="bad-samples")
    dtype, shape = kinds.pop()
    data = b"".join(row.input for _, row in by_key)
    return Labelled(
        keys=[key for key, _ in by_key],
        inputs=np.frombuffer(data, dtype=DTYPES[dtype]).reshape(len(by_key), *shape).copy(),
        labels=np.array([row.label for _, row in by_key], dtype=np.int64),
    )


def summary(session: Session, hub: Hub, request: SampleRequestRow) -> schemas.SampleRequestOut:
    """What was asked, and what has come."""
    of_request = (SampleRow.tenant_id == hub.tenant, SampleRow.request_id == request.id)
    devices = session.execute(
        select(SampleRow.device_id, func.count(), func.sum(func.length(SampleRow.input)), func.count(SampleRow.label))
        .where(*of_request)
        .group_by(SampleRow.device_id)
        .order_by(SampleRow.device_id)
    ).all()
    members = [session.get(Device, (hub.tenant, device)) for device in groups.members(session, hub, request.group)]
    return schemas.SampleRequestOut(
        id=request.id,
        model=request.model,
        group=request.group,
        count=request.count,
        bytes=request.bytes,
        state="open" if request.state == "open" else "closed",
        received=sum(count for _, count, _, _ in devices),
        received_bytes=sum(size for _, _, size, _ in devices),
        labelled=sum(with_label for _, _, _, with_label in devices),
        devices={device: count for device, count, _, _ in devices},
        consented=sum(consent_of(device, request.model) is not None for device in members),
        created_at=request.created_at,
    )


def consent_of(device: Device | None, model: str) -> Consent | None:
    """What the device's owner opted in to for ``model``, as its newest report says; None: nothing."""
    given = ((device.reported or {}).get("consent") or {}).get(model) if device is not None else None
    if given is None:
        return None
    consent = msgspec.convert(given, Consent)
    return consent if consent.count > 0 and consent.bytes > 0 else None


def refusal(
    message: Samples, request: SampleRequestRow | None, *, in_group: bool, consent: Consent | None
) -> tuple[str, str] | None:
    """Why a message must not be taken, budgets aside: (code, reason), or None. Pure."""
    if request is None or request.state != "open" or request.model != message.model or not in_group:
        return "unknown-request", f"request {message.request_id}: none that is open for this device and {message.model}"
    if consent is None:
        return "no-consent", f"the device's newest report shows no consent for {message.model}"
    if message.dtype not in DTYPES:
        return "bad-samples", f"dtype: expected one of {', '.join(DTYPES)}, got {message.dtype}"
    size = math.prod(message.shape) * np.dtype(DTYPES[message.dtype]).itemsize
    for sample in message.samples:
        if len(sample.input) != size or not size:
            return (
                "bad-samples",
                f"input: expected {size} bytes ({message.dtype} {message.shape}), got {len(sample.input)}",
            )
    return None


def over_budget(request: SampleRequestRow, consent: Consent, count: int, size: int) -> tuple[str, str] | None:
    """(code, reason) when a device's ``count`` samples of ``size`` bytes in all go past a budget, else None. Pure."""
    most, largest = min(request.count, consent.count), min(request.bytes, consent.bytes)
    if count <= most and size <= largest:
        return None
    return "over-budget", f"expected at most {most} samples and {largest} bytes of a device, got {count} and {size}"


def _take(session: Session, hub: Hub, inbound: Inbound, positions: Positions, outcome: Outcome) -> None:
    """One message: stored or refused, and counted in the stream's position."""
    sender, kind = inbound.topic.device, inbound.topic.kind
    try:
        message = decode_msgpack(inbound.payload, Samples)
        if message.device != sender:
            raise WireError(f"{sender} sent samples of {message.device}", code="speaks-for-another")
        fresh = positions.is_new(sender, message.epoch, message.first, message.last)
    except WireError as error:
        outcome.refusals.append(Refusal(sender, kind, error.code, str(error)))
        if error.code == "bad-message":
            positions.damaged(sender, inbound.payload, inbound.received_at)
        return
    if fresh:
        refused = _store(session, hub, message, inbound.received_at)
        if refused is None:
            outcome.events.append(("sample-request", message.request_id))
        else:
            outcome.refusals.append(Refusal(sender, kind, *refused))
    positions.handled(sender, message.epoch, message.first, message.last, inbound.received_at)


def _store(session: Session, hub: Hub, message: Samples, now: float) -> tuple[str, str] | None:
    """Insert what is new of a message; (code, reason) when it is refused."""
    sender = message.device
    if not message.samples:
        return None  # its owner withdrew consent while it waited, and the device emptied it
    request = session.get(SampleRequestRow, (hub.tenant, message.request_id))
    member = request is not None and session.get(Membership, (hub.tenant, sender, request.group)) is not None
    consent = consent_of(session.get(Device, (hub.tenant, sender)), message.model)
    refused = refusal(message, request, in_group=member, consent=consent)
    if refused is not None or request is None or consent is None:
        return refused
    of_device = (
        SampleRow.tenant_id == hub.tenant,
        SampleRow.request_id == request.id,
        SampleRow.device_id == sender,
    )
    keys = {sample.request: sample for sample in message.samples}
    there = set(session.scalars(select(SampleRow.key).where(*of_device, SampleRow.key.in_(list(keys)))))
    fresh = [sample for key, sample in keys.items() if key not in there]
    count, size = session.execute(
        select(func.count(), func.coalesce(func.sum(func.length(SampleRow.input)), 0)).where(*of_device)
    ).one()
    refused = over_budget(request, consent, count + len(fresh), size + sum(len(sample.input) for sample in fresh))
    if refused is not None:
        return refused
    session.add_all(_row(hub, message, sample, now) for sample in fresh)
    session.flush()
    return None


def _row(hub: Hub, message: Samples, sample: Sample, now: float) -> SampleRow:
    return SampleRow(
        tenant_id=hub.tenant,
        request_id=message.request_id,
        device_id=message.device,
        key=sample.request,
        version=message.version,
        dtype=message.dtype,
        shape=list(message.shape),
        input=sample.input,
        label=sample.label,
        prediction=sample.prediction,
        at=sample.at,
        received_at=now,
    )
