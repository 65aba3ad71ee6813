"""Downloads: what is asked for, what is refused, and that lost blocks never hang one, whoever sends them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.wire.blocks import BLOCK_SIZE, CASTING, MAX_BLOCKS_ASKED, Block, asked
from edgewise_agent.download import (
    CAST_SILENCE_S,
    FIRST_TIMEOUT_S,
    FLOOR_BYTES_S,
    FLOOR_WINDOW_S,
    GAP_SPREAD_S,
    MAX_ERRORS,
    MAX_TIMEOUT_S,
    MIN_TIMEOUT_S,
    SILENCE_S,
    WINDOW_BYTES,
    BlockRefused,
    Download,
    DownloadFailed,
    Floor,
    RoundTrip,
)

DIGEST = "d" * 64
SIZE = 1024


def block(download: Download, index: int) -> Block:
    size = min(download.block_size, download.size - index * download.block_size)
    return Block(digest=DIGEST, index=index, total=download.size, data=bytes(size))


def take(download: Download, index: int, now: float, cast: bool = False) -> None:
    if download.receive(block(download, index), now, cast):
        download.wrote(index, now)


@settings(max_examples=100, deadline=None)
@given(
    blocks=st.integers(1, 100),
    short=st.integers(0, SIZE - 1),
    loss=st.floats(0, 0.6),
    cast=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_every_block_comes_whatever_is_lost(blocks: int, short: int, loss: float, cast: float, seed: int) -> None:
    """Blocks come in any order, twice, or never; and a cast may begin at any time and be heard in parts."""
    draw = random.Random(seed)
    download = Download(DIGEST, blocks * SIZE - short, block_size=SIZE, spread=draw.random())
    now, on_the_way = 0.0, list[int]()
    begins = draw.randrange(40)
    for turn in range(20_000):
        if download.done:
            break
        if turn == begins:
            for index in range(blocks):
                if draw.random() < cast:
                    take(download, index, now, cast=True)
        request = download.request(now)
        if request is not None:
            on_the_way += asked(request)
        if not on_the_way:
            now += 1.0
            continue
        index = on_the_way.pop(draw.randrange(len(on_the_way)))
        if draw.random() >= loss and index not in download.have:
            take(download, index, now)
    assert download.done and download.bytes_here == download.size
    assert download.request(now) is None


def test_asks_for_what_is_missing_alone() -> None:
    download = Download(DIGEST, 10 * SIZE, have={0, 1, 5}, block_size=SIZE)
    request = download.request(0.0)
    assert request is not None and asked(request) == [2, 3, 4, 6, 7, 8, 9]
    assert download.request(1.0) is None
    again = download.request(3.0)
    assert again is not None and asked(again) == [2, 3, 4, 6, 7, 8, 9]
    assert download.request(8.9) is None and download.request(9.0) is not None, "the second wait is longer"
    download.reconnected(9.1)
    assert download.request(9.1) is not None


def test_no_more_is_on_its_way_than_the_window_and_the_limits_allow() -> None:
    download = Download(DIGEST, 100 * BLOCK_SIZE)
    window = WINDOW_BYTES // BLOCK_SIZE
    first = download.request(0.0)
    assert first is not None and len(asked(first)) == window
    assert download.request(0.1) is None, "the window is full"
    for index in range(window // 2):
        take(download, index, 0.2)
    second = download.request(0.2, room=3)
    assert second is not None and asked(second) == [window, window + 1, window + 2]
    narrow = Download(DIGEST, 1000 * SIZE, block_size=SIZE)
    request = narrow.request(0.0)
    assert request is not None and len(asked(request)) == MAX_BLOCKS_ASKED, "one request has its own bound"
    assert narrow.request(0.0, room=0) is None


def test_it_waits_as_long_as_blocks_take_to_come_and_longer_each_time_nothing_helps() -> None:
    trip = RoundTrip()
    assert trip.timeout == FIRST_TIMEOUT_S
    for _ in range(50):
        trip.measured(4.0)
    assert 4.0 < trip.timeout < 5.0
    for _ in range(200):
        trip.measured(0.01)
    assert trip.timeout == MIN_TIMEOUT_S
    for _ in range(20):
        trip.lost()
    assert trip.timeout == MAX_TIMEOUT_S
    trip.measured(0.01)
    assert trip.timeout == MIN_TIMEOUT_S


def test_refuses_what_was_not_asked_for() -> None:
    download = Download(DIGEST, 40 * SIZE + 5, block_size=SIZE)
    download.request(0.0)
    good = block(download, 3)
    for bad in (
        Block(digest="e" * 64, index=3, total=good.total, data=good.data),
        Block(digest=DIGEST, index=39, total=good.total, data=good.data),
        Block(digest=DIGEST, index=3, total=good.total + 1, data=good.data),
        Block(digest=DIGEST, index=3, total=good.total, data=good.data[1:]),
        Block(digest=DIGEST, index=41, total=good.total, data=b""),
        Block(digest=DIGEST, index=2**50, total=good.total, data=b""),
    ):
        for cast in (False, True):
            if cast and bad.index == 39:
                continue  # of a cast nothing was asked for
            with pytest.raises(BlockRefused):
                download.receive(bad, 0.0, cast)
    assert download.receive(good, 0.0)
    download.wrote(3, 0.0)
    with pytest.raises(BlockRefused, match="twice"):
        download.receive(good, 0.0)


def test_a_no_waits_and_then_fails_with_the_hubs_code() -> None:
    download = Download(DIGEST, SIZE, block_size=SIZE)
    no = Block(digest=DIGEST, index=0, total=0, data=b"", error="unknown-blob")
    now = 0.0
    for _ in range(MAX_ERRORS - 1):
        assert download.request(now) is not None
        assert not download.receive(no, now)
        assert download.request(now + MAX_TIMEOUT_S - 1) is None
        now += MAX_TIMEOUT_S
    with pytest.raises(DownloadFailed) as failed:
        download.receive(no, now)
    assert failed.value.code == "unknown-blob"


def test_while_a_cast_is_heard_nothing_is_asked_and_the_gaps_are_afterwards() -> None:
    download = Download(DIGEST, 20 * BLOCK_SIZE, spread=0.5)
    request = download.request(0.0, hears=True)
    assert request is not None and request.cast
    casting = Block(digest=DIGEST, index=0, total=0, data=b"", error=CASTING)
    assert not download.receive(casting, 0.1)
    for index in range(20):
        if index not in (4, 17):
            take(download, index, 0.2 + index, cast=True)
            assert download.request(0.2 + index, hears=True) is None or index == 19
    assert not download.receive(block(download, 3), 19.3, cast=True), "once more is no harm"
    gaps = download.request(19.3 + CAST_SILENCE_S + GAP_SPREAD_S)
    assert gaps is not None and asked(gaps) == [4, 17]


def test_a_cast_that_is_promised_and_never_heard_is_not_waited_for_again() -> None:
    download = Download(DIGEST, 20 * BLOCK_SIZE)
    download.request(0.0, hears=True)
    download.receive(Block(digest=DIGEST, index=0, total=0, data=b"", error=CASTING), 0.0)
    assert download.request(CAST_SILENCE_S - 0.1, hears=True) is None
    request = download.request(CAST_SILENCE_S, hears=True)
    assert request is not None and not request.cast
    download.reconnected(10.0)
    again = download.request(10.0, hears=True)
    assert again is not None and again.cast, "a new connection may hear it"


def test_a_trickle_is_refused_and_a_silence_is_not() -> None:
    download = Download(DIGEST, 1000 * BLOCK_SIZE)
    every = SILENCE_S - 1  # just often enough that it is no silence
    with pytest.raises(DownloadFailed) as failed:
        for index in range(20):
            download.reconnected(index * every)
            download.request(index * every)
            take(download, index, index * every)
    assert failed.value.code == "too-slow" and 0 < len(download.have) < 10
    floor, now = Floor(), 0.0
    for _ in range(100):
        assert not floor.too_slow(1, now)
        now += SILENCE_S + 1
    fast, at = Floor(), 0.0
    while at < 4 * FLOOR_WINDOW_S:
        assert not fast.too_slow(int(FLOOR_BYTES_S * 10) + 1, at)
        at += 10.0
