"""Deltas on the hub: small where little changed, exact whatever changed, made once, kept, and refused to strangers."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise_agent.delta import patched
from edgewise_hub.blobs import Blobs
from edgewise_hub.registry.deltas import Delta, Deltas
from edgewise_hub.registry.diff import ANCHOR, MIN_RUN, align, diff


def apply(folder: Path, base: bytes, delta: bytes, size: int) -> bytes:
    """As a device does."""
    (folder / "base").write_bytes(base)
    (folder / "delta").write_bytes(delta)
    return b"".join(patched(folder / "base", folder / "delta", size, 1000))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_delta_makes_exactly_its_target(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever became of the base: weights changed, parts moved, cut out, put in."""
    draw = random.Random(data.draw(st.integers(0, 10**6)))
    base = draw.randbytes(data.draw(st.integers(0, 6000)))
    target = bytearray(base)
    for _ in range(data.draw(st.integers(0, 4))):
        at, length = draw.randrange(len(target) + 1), draw.randrange(1500)
        match data.draw(st.sampled_from(["change", "cut", "put", "move"])):
            case "change":
                target[at : at + length] = bytes(
                    (b + draw.choice((0, 0, 0, 1))) % 256 for b in target[at : at + length]
                )
            case "cut":
                del target[at : at + length]
            case "put":
                target[at:at] = draw.randbytes(length)
            case "move":
                part = target[at : at + length]
                del target[at : at + length]
                target[:0] = part
    made = diff(base, bytes(target))
    assert apply(tmp_path_factory.mktemp("delta"), base, made, len(target)) == bytes(target)


def test_what_moved_is_found_and_a_small_change_stays_small(tmp_path: Path) -> None:
    draw = random.Random(1)
    base = draw.randbytes(1 << 20)
    tuned = bytes((b + (draw.random() < 0.02)) % 256 for b in base)
    assert len(diff(base, tuned)) < 0.1 * len(base)
    shifted = tuned[:5000] + b"a longer name" + tuned[5000:]
    made = diff(base, shifted)
    assert len(made) < 0.1 * len(base)
    assert apply(tmp_path, base, made, len(shifted)) == shifted
    pieces = align(np.frombuffer(base, np.uint8), np.frombuffer(shifted, np.uint8))
    assert [piece.shift for piece in pieces] == [0, -13]
    assert pieces[1].start - 5000 < 40 * ANCHOR * MIN_RUN


class Making:
    """Makes deltas, when it is let; counts how often."""

    def __init__(self) -> None:
        self.let, self.made = threading.Event(), 0

    def __call__(self, old: bytes, new: bytes) -> bytes:
        assert self.let.wait(60)
        self.made += 1
        return diff(old, new)


@pytest.fixture
def making() -> Making:
    return Making()


@pytest.fixture
def deltas(tmp_path: Path, making: Making) -> Iterator[Deltas]:
    """Deltas whose making waits for ``making.let``."""
    found = Deltas(tmp_path / "deltas", Blobs(tmp_path / "blobs"), making)
    found.start()
    yield found
    making.let.set()
    found.stop()


def until(condition: Callable[[], Any]) -> Any:
    """Its first true value."""
    for _ in range(3000):
        if value := condition():
            return value
        threading.Event().wait(0.02)
    raise AssertionError("not within a minute")


def test_it_is_made_once_in_the_background_and_outlives_a_restart(
    tmp_path: Path, deltas: Deltas, making: Making
) -> None:
    blobs = Blobs(tmp_path / "blobs")
    old = random.Random(0).randbytes(300_000)
    new = old[:-1] + b"!"
    base, target = blobs.put(old), blobs.put(new)
    assert deltas.find(base, target) is None and deltas.find(base, target) is None
    making.let.set()
    known = until(lambda: deltas.find(base, target))
    assert making.made == 1 and known.size < 3000
    assert deltas.target_of(known.delta) == target and deltas.target_of(target) is None
    assert apply(tmp_path, old, blobs.read(known.delta), len(new)) == new
    again = Deltas(tmp_path / "deltas", blobs)
    assert again.find(base, target) == known and again.target_of(known.delta) == target


def test_one_that_is_too_large_or_cannot_be_made_is_noted_as_none(
    tmp_path: Path, deltas: Deltas, making: Making
) -> None:
    blobs = Blobs(tmp_path / "blobs")
    making.let.set()
    base, other = blobs.put(random.Random(1).randbytes(300_000)), blobs.put(random.Random(2).randbytes(300_000))
    assert until(lambda: deltas.find(base, other)) == Delta()
    assert until(lambda: deltas.find("0" * 64, other)) == Delta(), "its base is not on this hub"
