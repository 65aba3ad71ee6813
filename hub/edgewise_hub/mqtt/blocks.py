"""Blob transfer, the hub's side: a device asks for blocks, and gets them where its own bundles need the blob.

Rules that hold here:
- a device may fetch the blobs of bundles compiled for its profile, and nothing else that the hub keeps;
- one request asks for at most MAX_BLOCKS_ASKED blocks, and at most WINDOW blocks of all devices are on their way:
  what a slow broker has not taken is not piled up;
- nothing here is promised: a request that is dropped is asked again.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from edgewise.errors import WireError
from edgewise.wire import topics
from edgewise.wire.blocks import Block, BlockRequest, asked
from edgewise.wire.codec import decode_msgpack, encode_msgpack
from edgewise_hub.blobs import BlobError
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.metrics import BLOB_BYTES
from edgewise_hub.mqtt.inbox import Inbound, Outbound, Refusal
from edgewise_hub.registry.tables import Bundle, BundleBlob

log = logging.getLogger(__name__)

MAX_WAITING = 1000
WINDOW = 64
PUBLISH_DEADLINE_S = 5.0


class OnItsWay(Protocol):
    """A publish that the broker has not acknowledged yet."""

    def wait_for_publish(self, timeout: float | None = None) -> None:
        """Return once it is acknowledged, or after ``timeout`` seconds. Raises RuntimeError when it was lost."""


class Refused(NamedTuple):
    """Why a request is not answered with blocks; ``error`` is told to the device where the wire has a word for it."""

    code: str
    reason: str
    error: str | None = None


def answer(hub: Hub, device: str, request: BlockRequest) -> Iterator[Block] | Refused:
    """The blocks that a device asked for, read one at a time; or why not."""
    mine = (
        select(BundleBlob.sha256)
        .join(Bundle, (Bundle.tenant_id == BundleBlob.tenant_id) & (Bundle.digest == BundleBlob.bundle))
        .join(Device, (Device.tenant_id == Bundle.tenant_id) & (Device.profile == Bundle.profile))
        .where(
            BundleBlob.tenant_id == hub.tenant,
            BundleBlob.sha256 == request.digest,
            Device.id == device,
            Device.revoked_at.is_(None),
        )
        .limit(1)
    )
    if request.digest not in hub.blobs:
        return Refused("unknown-blob", f"blob {request.digest[:12]} is not on this hub", "unknown-blob")
    with hub.database.read() as session:
        if session.scalar(mine) is None:
            return Refused("not-yours", f"blob {request.digest[:12]} is of no bundle for its profile", "not-yours")
    path = hub.blobs.path(request.digest)
    total = path.stat().st_size
    last = (max(total, 1) - 1) // request.block_size
    indices = asked(request)
    if not indices or indices[-1] > last:
        return Refused("bad-range", f"blob {request.digest[:12]} has blocks 0 to {last}, asked were {indices[-1:]}")

    def read() -> Iterator[Block]:
        with path.open("rb") as file:
            for index in indices:
                file.seek(index * request.block_size)
                yield Block(digest=request.digest, index=index, total=total, data=file.read(request.block_size))

    return read()


class BlockSender:
    """``publish`` sends one message and says what is on its way, or None without a connection; ``refuse`` notes one."""

    def __init__(
        self, hub: Hub, publish: Callable[[Outbound], OnItsWay | None], refuse: Callable[[Refusal], None]
    ) -> None:
        self._hub = hub
        self._publish = publish
        self._refuse = refuse
        self._queue: queue.Queue[Inbound] = queue.Queue(MAX_WAITING)
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

    def offer(self, message: Inbound) -> None:
        """Take a request from any thread, at once; a full queue drops it, and the device asks again."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._refuse(Refusal(message.topic.device, "blob", "overloaded", f"more than {MAX_WAITING} requests wait"))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                message = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                self._serve(message)
            except (SQLAlchemyError, OSError, BlobError):
                log.exception("a block request of %s failed", message.topic.device)

    def _serve(self, message: Inbound) -> None:
        device = message.topic.device
        try:
            request = decode_msgpack(message.payload, BlockRequest)
        except WireError as error:
            self._refuse(Refusal(device, "blob", error.code, str(error)))
            return
        blocks = answer(self._hub, device, request)
        if isinstance(blocks, Refused):
            self._refuse(Refusal(device, "blob", blocks.code, blocks.reason))
            if blocks.error is not None:
                self._send(
                    device, Block(digest=request.digest, index=request.base, total=0, data=b"", error=blocks.error)
                )
            return
        for block in blocks:
            if self._stopping.is_set() or not self._send(device, block):
                return
            BLOB_BYTES.inc(len(block.data))
            self._hub.blob_bytes_sent += len(block.data)

    def _send(self, device: str, block: Block) -> bool:
        """Publish one block once there is room for it; False without a connection."""
        if not self._hub.broker_connected():
            return False
        if len(self._on_their_way) >= WINDOW:
            try:
                self._on_their_way.popleft().wait_for_publish(PUBLISH_DEADLINE_S)
            except RuntimeError:  # lost with the connection: the device asks again
                pass
        sent = self._publish(Outbound(topics.blob_block(self._hub.tenant, device), encode_msgpack(block)))
        if sent is None:
            return False
        self._on_their_way.append(sent)
        return True
