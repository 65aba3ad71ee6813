"""Blob transfer, the hub's side: a device asks for blocks, and gets them where its own bundles need the blob.

Rules that hold here:
- a device may fetch the blobs of bundles compiled for its profile and deltas to them, and nothing else that the hub
  keeps; what was found is remembered for ``GRANT_S``, and a revoked device has no session any more;
- one request asks for at most MAX_BLOCKS_ASKED blocks, a device has at most MAX_REQUESTS waiting, and devices take
  turns, a block each: one that asks for much delays nobody;
- at most WINDOW messages of all devices are on their way: what a slow broker has not taken is not piled up;
- where many want the same blob it is cast (``broadcast`` decides): they are told so, and asked to be patient;
- nothing here is promised, and blocks go out at QoS 0: whatever is lost is asked for again.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from edgewise.errors import WireError
from edgewise.wire import topics
from edgewise.wire.blocks import (
    BLOCK_SIZE,
    CASTING,
    MIN_DELTA_BYTES,
    Block,
    BlockRequest,
    DeltaOffer,
    DeltaRequest,
    Heard,
    Pace,
    asked,
)
from edgewise.wire.codec import decode_msgpack, encode_msgpack
from edgewise_hub.blobs import BlobError, BlockReader
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.metrics import BLOB_BYTES, CASTS
from edgewise_hub.mqtt.broadcast import Cast, Votes
from edgewise_hub.mqtt.inbox import Inbound, Outbound, Refusal
from edgewise_hub.registry.deltas import Deltas
from edgewise_hub.registry.tables import Bundle, BundleBlob

log = logging.getLogger(__name__)

MAX_WAITING = 4000
MAX_REQUESTS = 4
"""Of one device: it asks anew when half of what it asked for is there, and again when that is late."""
MAX_CASTS = 4
WINDOW = 64
PUBLISH_DEADLINE_S = 5.0
GRANT_S = 10.0
MAX_GRANTS = 20_000
_IDLE_S = 0.2


class OnItsWay(Protocol):
    """A publish that has not left yet (QoS 0), or that the broker has not acknowledged yet (QoS 1)."""

    def wait_for_publish(self, timeout: float | None = None) -> None:
        """Return once it has, or after ``timeout`` seconds. Raises RuntimeError when it was lost."""


class Publish(Protocol):
    """Sends one message and says what is on its way, or None without a connection."""

    def __call__(self, message: Outbound, qos: int = 1) -> OnItsWay | None: ...


class Refused(NamedTuple):
    """Why a request is not answered with blocks; ``error`` is told to the device where the wire has a word for it."""

    code: str
    reason: str
    error: str | None = None


class Request(NamedTuple):
    """One device's request under way: the blocks that are still to be sent."""

    digest: str
    block_size: int
    blocks: Iterator[int]


class Grants:
    """Which blobs each device may fetch, as the database says, remembered for ``GRANT_S``."""

    def __init__(self, hub: Hub, deltas: Deltas) -> None:
        self._hub, self._deltas = hub, deltas
        self._profiles: dict[str, str | None] = {}
        self._blobs: dict[tuple[str, str], bool] = {}
        self._forget_at = 0.0

    def allow(self, device: str, digest: str, now: float) -> bool:
        """Is it a blob of a bundle for this device's profile, or a delta to one?"""
        if now >= self._forget_at or len(self._profiles) + len(self._blobs) > MAX_GRANTS:
            self._profiles.clear()
            self._blobs.clear()
            self._forget_at = now + GRANT_S
        if device not in self._profiles:
            self._profiles[device] = self._profile(device)
        profile = self._profiles[device]
        if profile is None:
            return False
        key = (profile, digest)
        if key not in self._blobs:
            target = self._deltas.target_of(digest)
            self._blobs[key] = self._is_of(profile, digest) or (target is not None and self._is_of(profile, target))
        return self._blobs[key]

    def _profile(self, device: str) -> str | None:
        """None for a device that is not enrolled here, or not any more."""
        of_device = (Device.tenant_id == self._hub.tenant, Device.id == device, Device.revoked_at.is_(None))
        with self._hub.database.read() as session:
            return session.scalar(select(Device.profile).where(*of_device))

    def _is_of(self, profile: str, digest: str) -> bool:
        found = (
            select(BundleBlob.sha256)
            .join(Bundle, (Bundle.tenant_id == BundleBlob.tenant_id) & (Bundle.digest == BundleBlob.bundle))
            .where(BundleBlob.tenant_id == self._hub.tenant, BundleBlob.sha256 == digest, Bundle.profile == profile)
            .limit(1)
        )
        with self._hub.database.read() as session:
            return session.scalar(found) is not None


class BlockSender:
    """One thread that answers ``blob/get``, ``blob/delta`` and ``blob/heard``; ``refuse`` notes what is not taken."""

    def __init__(self, hub: Hub, publish: Publish, refuse: Callable[[Refusal], None], deltas: Deltas) -> None:
        self._hub, self._publish, self._refuse, self._deltas = hub, publish, refuse, deltas
        self._grants = Grants(hub, deltas)
        self._reader = BlockReader(hub.blobs)
        self._queue: queue.Queue[Inbound] = queue.Queue(MAX_WAITING)
        self._requests: OrderedDict[str, deque[Request]] = OrderedDict()
        self._votes = Votes(hub.settings.cast_from)
        self._casts: dict[str, Cast] = {}
        self._on_their_way: deque[OnItsWay] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="blocks", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the block at hand."""
        self._stopping.set()
        self._thread.join()
        self._reader.close()

    def offer(self, message: Inbound) -> None:
        """Take a message from any thread, at once; a full queue drops it, and the device asks again."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._refuse(Refusal(message.topic.device, "blob", "overloaded", f"more than {MAX_WAITING} requests wait"))

    # The thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._take(self._wait_s())
            try:
                self._turn()
                for cast in list(self._casts.values()):
                    self._send_round(cast)
            except (OSError, BlobError):
                log.exception("blocks cannot be read; what was asked for is dropped")
                self._requests.clear()
                self._casts.clear()

    def _wait_s(self) -> float:
        if self._requests:
            return 0.0
        now = time.monotonic()
        return min([_IDLE_S, *(cast.wait_s(now) for cast in self._casts.values())])

    def _take(self, wait_s: float) -> None:
        """Handle everything that waits, and wait for the first so long."""
        try:
            message = self._queue.get(timeout=wait_s) if wait_s else self._queue.get_nowait()
            for _ in range(MAX_WAITING):
                self._handle(message)
                message = self._queue.get_nowait()
        except queue.Empty:
            pass

    def _handle(self, message: Inbound) -> None:
        device, now = message.topic.device, time.monotonic()
        try:
            match message.topic.rest:
                case "get":
                    self._asked(device, decode_msgpack(message.payload, BlockRequest), now)
                case "delta":
                    self._delta(device, decode_msgpack(message.payload, DeltaRequest), now)
                case "heard":
                    heard = decode_msgpack(message.payload, Heard)
                    if heard.digest in self._casts:
                        self._casts[heard.digest].heard(device, heard.round)
        except WireError as error:
            self._refuse(Refusal(device, "blob", error.code, str(error)))
        except (SQLAlchemyError, OSError, BlobError):
            log.exception("a blob message of %s failed", device)

    # Requests

    def _asked(self, device: str, request: BlockRequest, now: float) -> None:
        found = self._check(device, request, now)
        if isinstance(found, Refused):
            self._refuse(Refusal(device, "blob", found.code, found.reason))
            if found.error is not None:
                self._send_no(device, request, found.error)
            return
        hears = request.cast and request.block_size == BLOCK_SIZE
        if hears and self._cast(device, request.digest, found, asked(request), now):
            self._send_no(device, request, CASTING)
            return
        waiting = self._requests.setdefault(device, deque())
        if len(waiting) >= MAX_REQUESTS:
            self._refuse(Refusal(device, "blob", "overloaded", f"more than {MAX_REQUESTS} of its requests wait"))
            return
        waiting.append(Request(request.digest, request.block_size, iter(asked(request))))

    def _check(self, device: str, request: BlockRequest, now: float) -> int | Refused:
        """Size of the blob, or why this request is not answered."""
        short = request.digest[:12]
        if request.digest not in self._hub.blobs:
            return Refused("unknown-blob", f"blob {short} is not on this hub", "unknown-blob")
        if not self._grants.allow(device, request.digest, now):
            return Refused("not-yours", f"blob {short} is of no bundle for its profile", "not-yours")
        total = self._reader.size(request.digest)
        last, indices = (max(total, 1) - 1) // request.block_size, asked(request)
        if not indices or indices[-1] > last:
            return Refused("bad-range", f"blob {short} has blocks 0 to {last}, asked were {indices[-1:]}")
        return total

    def _turn(self) -> None:
        """One block for the device whose turn it is."""
        if not self._requests:
            return
        device, waiting = self._requests.popitem(last=False)
        request = waiting[0]
        index = next(request.blocks, None)
        if index is None:
            waiting.popleft()
        else:
            topic = topics.blob_block(self._hub.tenant, device)
            if not self._send(topic, self._payload(request.digest, request.block_size, index)):
                return  # no connection: what it asked for is forgotten
            self._count(request.digest, request.block_size, index)
        if waiting:
            self._requests[device] = waiting

    # Casts

    def _cast(self, device: str, digest: str, total: int, wanted: list[int], now: float) -> bool:
        """Is this blob cast, or is it from now on?"""
        if digest in self._casts:
            self._casts[digest].joined(device)
            return True
        if len(self._casts) >= MAX_CASTS or not self._votes.add(digest, total, device, wanted, now):
            return False
        devices, first = self._votes.take(digest)
        self._casts[digest] = Cast(digest, total, devices, first)
        for waiting in devices & set(self._requests):
            kept = deque(request for request in self._requests.pop(waiting) if request.digest != digest)
            if kept:
                self._requests[waiting] = kept
        CASTS.inc()
        log.info("blob %s is cast from block %d on: %d devices want it", digest[:12], first, len(devices))
        return True

    def _send_round(self, cast: Cast) -> None:
        due = None if cast.over else cast.due(time.monotonic())
        if due is not None:
            blocks, pace = due
            topic = topics.cast(self._hub.tenant, cast.digest)
            for index in blocks:
                last = index == blocks[-1]
                if not self._send(topic, self._payload(cast.digest, BLOCK_SIZE, index, pace if last else None)):
                    self._casts.pop(cast.digest)
                    return
                self._count(cast.digest, BLOCK_SIZE, index)
        if cast.over:
            self._casts.pop(cast.digest)
            log.info("the cast of blob %s ends at block %d of %d", cast.digest[:12], cast.next, cast.blocks)

    # Deltas

    def _delta(self, device: str, request: DeltaRequest, now: float) -> None:
        target, offer = request.target, DeltaOffer(target=request.target, state="none")
        if target not in self._hub.blobs or not self._grants.allow(device, target, now):
            self._refuse(Refusal(device, "blob", "not-yours", f"delta to {target[:12]}: no blob of its bundles"))
        elif self._reader.size(target) >= MIN_DELTA_BYTES:
            for base in request.bases:
                if base == target or base not in self._hub.blobs or not self._grants.allow(device, base, now):
                    continue
                known = self._deltas.find(base, target)
                if known is None:
                    offer = DeltaOffer(target=target, state="wait")
                elif known.delta is not None:
                    offer = DeltaOffer(target=target, state="ready", base=base, delta=known.delta, size=known.size)
                    break
        self._publish(Outbound(topics.blob_offer(self._hub.tenant, device), encode_msgpack(offer)))

    # Sending

    def _payload(self, digest: str, block_size: int, index: int, pace: Pace | None = None) -> bytes:
        data, total = self._reader.read(digest, block_size, index)
        return encode_msgpack(Block(digest=digest, index=index, total=total, data=data, pace=pace))

    def _send_no(self, device: str, request: BlockRequest, error: str) -> None:
        no = Block(digest=request.digest, index=request.base, total=0, data=b"", error=error)
        self._send(topics.blob_block(self._hub.tenant, device), encode_msgpack(no))

    def _count(self, digest: str, block_size: int, index: int) -> None:
        size = min(block_size, self._reader.size(digest) - index * block_size)
        BLOB_BYTES.inc(size)
        self._hub.blob_bytes_sent += size

    def _send(self, topic: str, payload: bytes) -> bool:
        """Publish one message once there is room for it; False without a connection."""
        if not self._hub.broker_connected():
            return False
        if len(self._on_their_way) >= WINDOW:
            try:
                self._on_their_way.popleft().wait_for_publish(PUBLISH_DEADLINE_S)
            except (RuntimeError, ValueError):  # lost with the connection: the device asks again
                pass
        sent = self._publish(Outbound(topic, payload), 0)
        if sent is None:
            return False
        self._on_their_way.append(sent)
        return True
