"""Blob transfer: the device asks for blocks by bitmap, the hub answers one message a block. MessagePack."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from edgewise.wire.codec import Count, Digest, Message, Name

BLOCK_SIZE = 64 * 1024
MAX_BLOCKS_ASKED = 32
"""Blocks one request may ask for: bounds what the hub sends and the broker buffers for one device."""


class BlockRequest(Message, frozen=True, kw_only=True):
    """Wanted blocks of one blob: bit i of ``bitmap`` (little-endian bits) asks for block ``base + i``."""

    bound: ClassVar[int] = 1024
    digest: Digest
    block_size: Annotated[int, msgspec.Meta(ge=1024, le=120 * 1024)] = BLOCK_SIZE
    base: Count
    bitmap: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_BLOCKS_ASKED // 8)]


class Block(Message, frozen=True, kw_only=True):
    """One block, or (``error`` set, ``data`` empty) why there is none: ``unknown-blob`` or ``not-yours``."""

    bound: ClassVar[int] = 128 * 1024
    digest: Digest
    index: Count
    total: Count
    """Size of the whole blob in bytes."""
    data: bytes
    error: Name | None = None


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
