"""Downloads: what is asked for, what is refused, and that lost blocks never hang one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.wire.blocks import Block, asked
from edgewise_agent.download import MAX_ERRORS, MAX_TIMEOUT_S, WINDOW, BlockRefused, Download, DownloadFailed

DIGEST = "d" * 64
SIZE = 1024


def block(download: Download, index: int) -> Block:
    size = min(SIZE, download.size - index * SIZE)
    return Block(digest=DIGEST, index=index, total=download.size, data=bytes(size))


@settings(max_examples=100, deadline=None)
@given(blocks=st.integers(1, 100), short=st.integers(0, SIZE - 1), loss=st.floats(0, 0.6), seed=st.integers(0, 99))
def test_every_block_comes_whatever_is_lost(blocks: int, short: int, loss: float, seed: int) -> None:
    draw = random.Random(seed)
    download = Download(DIGEST, blocks * SIZE - short, block_size=SIZE)
    now, on_the_way = 0.0, list[int]()
    for _ in range(20_000):
        if download.done:
            break
        request = download.request(now)
        if request is not None:
            on_the_way += asked(request)
        if not on_the_way:
            now += 1.0
            continue
        index = on_the_way.pop(draw.randrange(len(on_the_way)))
        assert len(on_the_way) < 4 * WINDOW
        if draw.random() >= loss and index not in download.have and download.receive(block(download, index), now):
            download.wrote(index, now)
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


def test_refuses_what_was_not_asked_for() -> None:
    download = Download(DIGEST, 40 * SIZE + 5, block_size=SIZE)
    download.request(0.0)
    good = block(download, 3)
    for bad in (
        Block(digest="e" * 64, index=3, total=good.total, data=good.data),
        Block(digest=DIGEST, index=39, total=good.total, data=good.data),
        Block(digest=DIGEST, index=3, total=good.total + 1, data=good.data),
        Block(digest=DIGEST, index=3, total=good.total, data=good.data[1:]),
    ):
        with pytest.raises(BlockRefused):
            download.receive(bad, 0.0)
    assert download.receive(good, 0.0)
    download.wrote(3, 0.0)
    with pytest.raises(BlockRefused):
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
