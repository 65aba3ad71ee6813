"""Deltas on the device: what they make, and that whatever else comes is refused, within its bounds."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from delta_builders import delta_of
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise_agent.delta import MAGIC, BadDelta, added, patched


def apply(folder: Path, base: bytes, delta: bytes, size: int, block_size: int = 1000) -> bytes:
    (folder / "base").write_bytes(base)
    (folder / "delta").write_bytes(delta)
    blocks = list(patched(folder / "base", folder / "delta", size, block_size))
    assert all(len(block) == block_size for block in blocks[:-1])
    return b"".join(blocks)


@given(first=st.binary(max_size=300), seed=st.integers(0, 999))
def test_bytes_are_added_each_for_itself(first: bytes, seed: int) -> None:
    second = random.Random(seed).randbytes(len(first))
    assert added(first, second) == bytes((a + b) % 256 for a, b in zip(first, second, strict=True))


def test_it_adds_copies_and_moves_about_in_the_base(tmp_path: Path) -> None:
    base = bytes(range(100))
    delta = delta_of([(10, 5, 80), (10, 0, -100), (10, 0, 0)], bytes([1]) * 30, b"hello", 35)
    made = apply(tmp_path, base, delta, 35, block_size=7)
    assert made == bytes(range(1, 11)) + b"hello" + bytes(range(91, 101)) + bytes(range(1, 11))


@pytest.mark.parametrize(
    ("what", "delta"),
    [
        ("empty", b""),
        ("no delta", b"BSDIFF41" + bytes(24)),
        ("another size", delta_of([(10, 0, 0)], bytes(10), b"", 10)),
        ("parts that are too long", MAGIC + struct.pack("<qqq", 1 << 40, 0, 100)),
        ("parts of negative length", MAGIC + struct.pack("<QQq", 5 | 1 << 63, 0, 100)),
        ("more than it says", delta_of([(60, 0, 0), (60, 0, 0)], bytes(120), b"", 100)),
        ("controls that make nothing", delta_of([(0, 0, 0)] * 10_000, b"", b"", 100)),
        ("a place before the base", delta_of([(10, 0, -20), (90, 0, 0)], bytes(100), b"", 100)),
        ("a place behind the base", delta_of([(1, 0, 200), (99, 0, 0)], bytes(100), b"", 100)),
        ("a negative length", delta_of([(-10, 110, 0)], b"", bytes(110), 100)),
        ("too few bytes", delta_of([(100, 0, 0)], bytes(50), b"", 100)),
        ("too few controls", delta_of([(50, 0, 0)], bytes(100), b"", 100)),
        ("what bzip2 does not know", MAGIC + struct.pack("<qqq", 8, 8, 100) + bytes(32)),
    ],
)
def test_a_bad_delta_is_refused(tmp_path: Path, what: str, delta: bytes) -> None:
    with pytest.raises(BadDelta):
        apply(tmp_path, bytes(120), delta, 100)


def test_a_bomb_makes_no_more_than_was_promised(tmp_path: Path) -> None:
    """50 MB of zeros in 50 bytes, for a blob of 100."""
    bomb = delta_of([(100, 0, 0)], bytes(50_000_000), b"", 100)
    assert len(bomb) < 1000
    assert len(apply(tmp_path, bytes(120), bomb, 100)) == 100


@settings(max_examples=200, deadline=None)
@given(
    at=st.integers(0, 400),
    value=st.integers(0, 255),
    cut=st.integers(0, 400),
)
def test_damage_is_refused_or_makes_as_many_bytes(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int, cut: int
) -> None:
    """It may make other bytes (the caller's sha256 sees that), never more, never another error."""
    base = random.Random(0).randbytes(2000)
    delta = bytearray(delta_of([(1000, 3, -20), (1000, 0, 0)], bytes(999) + b"x" * 1001, b"new", 2003))
    delta[at % len(delta)] = value
    del delta[len(delta) - cut % 50 :]
    try:
        made = apply(tmp_path_factory.mktemp("damage"), base, bytes(delta), 2003)
    except BadDelta:
        return
    assert len(made) == 2003
