"""When a blob is cast, how fast, and when it stops: the pure part, against simulated devices."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.wire.blocks import BLOCK_SIZE, MIN_CAST_BLOCKS, paces
from edgewise_hub.mqtt.broadcast import (
    PACE_TIMEOUT_S,
    PACERS,
    ROUND_BLOCKS,
    ROUNDS_AHEAD,
    VOTE_BLOCKS,
    VOTE_WINDOW_S,
    Cast,
    Votes,
)

DIGEST = "a" * 64
TOTAL = 50 * BLOCK_SIZE
MANY = list(range(VOTE_BLOCKS))


def test_enough_devices_within_a_few_seconds_make_a_cast() -> None:
    votes = Votes(cast_from=3)
    assert not votes.add(DIGEST, TOTAL, "cam-1", MANY, 0.0)
    assert not votes.add(DIGEST, TOTAL, "cam-1", MANY, 0.1), "one device has one vote"
    assert not votes.add(DIGEST, TOTAL, "cam-2", [i + 7 for i in MANY], 0.2)
    assert not votes.add("b" * 64, TOTAL, "cam-3", MANY, 0.2), "another blob"
    assert votes.add(DIGEST, TOTAL, "cam-3", MANY, 0.3)
    assert votes.take(DIGEST) == ({"cam-1", "cam-2", "cam-3"}, 0)
    assert not votes.add(DIGEST, TOTAL, "cam-1", MANY, 0.4), "they are forgotten"


def test_what_is_no_reason_for_a_cast() -> None:
    votes = Votes(cast_from=2)
    for number in range(10):
        device = f"cam-{number}"
        assert not votes.add(DIGEST, TOTAL, device, [3, 17], 0.0), "a gap or two"
        assert not votes.add(DIGEST, (MIN_CAST_BLOCKS - 1) * BLOCK_SIZE, device, MANY, 0.0), "a small blob"
        assert not votes.add(DIGEST, TOTAL, device, MANY, 2 * VOTE_WINDOW_S * number), "one now and then"


@settings(max_examples=60, deadline=None)
@given(
    devices=st.integers(1, 300),
    blocks=st.integers(1, 200),
    silent=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_every_block_is_sent_once_in_order_or_nobody_hears(devices: int, blocks: int, silent: float, seed: int) -> None:
    """Devices that are drawn answer after a while, or never; the hub is never more than a few rounds ahead of those
    that it waits for, and it waits for none longer than its patience."""
    draw = random.Random(seed)
    names = {f"cam-{number}" for number in range(devices)}
    mute = {name for name in names if draw.random() < silent}
    cast = Cast(DIGEST, blocks * BLOCK_SIZE, names)
    now, sent, unheard = 0.0, list[int](), list[tuple[float, str, int]]()
    rounds = 0
    while not cast.over:
        for at, name, number in [answer for answer in unheard if answer[0] <= now]:
            cast.heard(name, number)
            unheard.remove((at, name, number))
        due = cast.due(now)
        if due is None:
            waiting = cast.wait_s(now)
            assert waiting <= PACE_TIMEOUT_S + 1e-9
            now += max(0.01, min(waiting, 0.05))
            continue
        chosen, pace = due
        assert len(chosen) <= ROUND_BLOCKS and pace.round == rounds
        rounds += 1
        sent += chosen
        drawn = {name for name in cast.listeners if paces(name, DIGEST, pace)}
        assert drawn and (devices < 2 * PACERS or len(drawn) < devices)
        unheard += [(now + draw.random(), name, pace.round) for name in drawn - mute]
    assert sent == list(range(len(sent)))
    assert len(sent) == blocks or not cast.listeners
    assert not mute or mute != names or len(sent) <= ROUND_BLOCKS * ROUNDS_AHEAD * (1 + devices)
    if not mute:
        assert len(sent) == blocks and cast.listeners == names


def test_it_waits_for_those_that_are_drawn_and_then_no_longer() -> None:
    cast = Cast(DIGEST, 100 * BLOCK_SIZE, {"fast", "slow"})
    for _ in range(ROUNDS_AHEAD):
        assert cast.due(0.0) is not None
    assert cast.due(0.0) is None
    for number in range(ROUNDS_AHEAD):
        cast.heard("fast", number)
    assert cast.due(PACE_TIMEOUT_S - 0.1) is None, "the other is waited for"
    assert cast.due(PACE_TIMEOUT_S) is not None and cast.listeners == {"fast"}
    cast.joined("late")
    assert cast.listeners == {"fast", "late"}
    assert Cast(DIGEST, 100 * BLOCK_SIZE, set()).over
