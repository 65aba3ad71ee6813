"""Blob transfer: what a device asks for, and what it gets. MessagePack.

Rules that hold here:
- a device asks for blocks by bitmap (``blob/get``); the hub answers one message a block (``blob/block``);
- where many devices want one blob, the hub sends it once, on ``cast/{digest}``: the same ``Block``, now and then with
  a ``Pace``. The devices drawn for it say what they have heard (``blob/heard``); each asks for its gaps afterwards;
- before it fetches a blob a device may ask for a delta (``blob/delta``) and is told (``blob/offer``) of one, to wait,
  or that there is none. A delta is a blob like any other; what it makes is checked against the wanted blob's digest.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Literal

import msgspec

from edgewise.wire.codec import Count, Digest, Message, Name

BLOCK_SIZE = 120 * 1024
"""Bytes of a block: as large as a message of 128 KiB carries, since a message costs every side more than its bytes."""
MAX_BLOCKS_ASKED = 32
"""Blocks one request may ask for: bounds what the hub sends and the broker buffers for one device."""
MIN_CAST_BLOCKS = 8
"""A blob of fewer blocks is never cast: the requests for it are no more than the cast would be."""
MIN_DELTA_BYTES = 256 * 1024
"""For a smaller blob no delta is asked for."""
MAX_DELTA_SHARE = 0.7
"""Of the blob's own size; a larger delta is not worth its work."""


class BlockRequest(Message, frozen=True, kw_only=True):
    """Wanted blocks of one blob: bit i of ``bitmap`` (little-endian bits) asks for block ``base + i``."""

    bound: ClassVar[int] = 1024
    digest: Digest
    block_size: Annotated[int, msgspec.Meta(ge=1024, le=BLOCK_SIZE)] = BLOCK_SIZE
    base: Count
    bitmap: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_BLOCKS_ASKED // 8)]
    cast: bool = False
    """The device hears ``cast/{digest}``: it may be sent these blocks there."""


CASTING = "casting"
"""The error of a block that is not sent because the whole blob is on its way on ``cast/{digest}``."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Ends one round of a cast. A device for which ``paces`` holds answers with ``Heard``."""

    round: Count
    salt: Count
    one_in: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    """About one device in so many answers."""


class Block(Message, frozen=True, kw_only=True):
    """One block, or (``error`` set, ``data`` empty) why there is none: ``unknown-blob``, ``not-yours``, ``casting``."""

    bound: ClassVar[int] = 128 * 1024
    digest: Digest
    index: Count
    total: Count
    """Size of the whole blob in bytes."""
    data: bytes
    error: Name | None = None
    pace: Pace | None = None
    """In a cast alone, on the last block of a round."""


class Heard(Message, frozen=True, kw_only=True):
    """A device has handled a cast up to the end of ``round``."""

    bound: ClassVar[int] = 512
    digest: Digest
    round: Count


class DeltaRequest(Message, frozen=True, kw_only=True):
    """The device wants ``target`` and has ``bases``, the likeliest first."""

    bound: ClassVar[int] = 2048
    target: Digest
    bases: Annotated[list[Digest], msgspec.Meta(min_length=1, max_length=8)]


class DeltaOffer(Message, frozen=True, kw_only=True):
    """Blob ``delta`` of ``size`` bytes makes ``target`` from ``base``; or one is being made (``wait``: ask again); or
    there is none (fetch ``target`` itself)."""

    bound: ClassVar[int] = 1024
    target: Digest
    state: Literal["ready", "wait", "none"]
    base: Digest | None = None
    delta: Digest | None = None
    size: Count = 0


def bitmap(indices: list[int]) -> tuple[int, bytes]:
    """(base, bitmap) for blocks within MAX_BLOCKS_ASKED of the lowest. Raises ValueError when empty or too wide."""
    if not indices:
        raise ValueError("expected at least one block")
    base = min(indices)
    if max(indices) - base >= MAX_BLOCKS_ASKED:
        raise ValueError(f"expected blocks within {MAX_BLOCKS_ASKED} of {base}, got {max(indices)}")
    bits = sum(1 << (i - base) for i in set(indices))
    return base, bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def asked(request: BlockRequest) -> list[int]:
    """The block numbers that a request asks for, ascending."""
    bits = int.from_bytes(request.bitmap, "little")
    return [request.base + i for i in range(bits.bit_length()) if bits >> i & 1]


def paces(device: str, digest: str, pace: Pace) -> bool:
    """Does this device answer the rounds of this cast? Both sides draw it alike, by a hash."""
    drawn = hashlib.sha256(f"{pace.salt}/{digest}/{device}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") % pace.one_in == 0
