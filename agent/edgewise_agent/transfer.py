"""What a fetch says to the hub, and when it may: limits, the cast that is heard, and the answers to its paces.

Rules that hold here:
- nothing is asked within quiet hours; below a rate limit blocks are asked for as the bucket fills, and no cast is heard
  (its pace is the hub's, not ours);
- the cast of one blob is heard at a time, the one that is on its way; without a connection nothing is.
"""

from __future__ import annotations

import time
from typing import Protocol

from edgewise.wire import topics
from edgewise.wire.blocks import BLOCK_SIZE, Block, BlockRequest, Heard, asked, paces
from edgewise.wire.codec import encode_msgpack
from edgewise.wire.control import Transfer as Limits
from edgewise_agent.download import WINDOW_BYTES
from edgewise_agent.fetch import Fetching
from edgewise_agent.limits import TokenBucket, is_quiet, stricter


class Link(Protocol):
    """The part of ``connection.Connection`` that a transfer needs."""

    connected: bool

    def publish(self, topic: str, payload: bytes) -> bool:
        """Hand a message to the network; False when it was not taken."""

    def hear(self, topic: str | None) -> bool:
        """Be subscribed to this cast and no other; False without a connection."""


class Transfer:
    """One device's transfers. ``look`` is called often; ``paced`` after each block of a cast."""

    def __init__(self, link: Link, tenant: str, device: str, owner: Limits, now: float) -> None:
        """``owner``: the limits set where the agent starts. ``now``: monotonic seconds."""
        self._link, self._tenant, self._device, self._owner = link, tenant, device, owner
        self._limits = owner
        self._bucket = _bucket(owner, now)

    def limit(self, of_hub: Limits, now: float) -> None:
        """The desired state's limits; the stricter of these and the owner's hold from now on."""
        limits = stricter(of_hub, self._owner)
        if limits.bytes_s != self._limits.bytes_s:
            self._bucket = _bucket(limits, now)
        self._limits = limits

    def look(self, fetching: Fetching | None, now: float, local: time.struct_time) -> None:
        """Ask for whatever may be asked for now. ``local``: the time of day here. Raises as ``Fetching.request``."""
        if not self._link.connected:
            return
        held = fetching is None or is_quiet(self._limits.quiet, local)
        digest = fetching.cast if fetching is not None and not held and self._bucket.rate is None else None
        hears = digest if self._link.hear(topics.cast(self._tenant, digest) if digest else None) else None
        if fetching is None or held:
            return
        while True:
            request = fetching.request(now, self._bucket.available(now) // BLOCK_SIZE, hears)
            if request is None:
                return
            blocks = isinstance(request, BlockRequest)
            topic = (topics.blob_request if blocks else topics.blob_delta)(self._tenant, self._device)
            if not self._link.publish(topic, encode_msgpack(request)):
                return  # its timer asks again
            if isinstance(request, BlockRequest):
                self._bucket.take(len(asked(request)) * request.block_size, now)

    def paced(self, block: Block) -> None:
        """A block of a cast was handled: answer its pace, if it has one and this device is drawn for it."""
        if block.pace is not None and paces(self._device, block.digest, block.pace):
            heard = encode_msgpack(Heard(digest=block.digest, round=block.pace.round))
            self._link.publish(topics.blob_heard(self._tenant, self._device), heard)


def _bucket(limits: Limits, now: float) -> TokenBucket:
    """Saves up a second's worth, and a block at least: less could never be asked for."""
    burst = WINDOW_BYTES if limits.bytes_s is None else min(WINDOW_BYTES, max(limits.bytes_s, BLOCK_SIZE))
    return TokenBucket(limits.bytes_s, burst, now)
