"""The spool: numbers are never used twice, nothing goes before its ack, and a power cut anywhere changes neither."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store import CutDisk, PowerCut

from edgewise_agent.store.disk import Disk
from edgewise_agent.windows.spool import IN_FLIGHT, RESEND_S, Spool


def epochs(start: int = 1) -> Iterator[int]:
    return count(start)


def build(epoch: int, sequence: int) -> bytes:
    return msgspec.msgpack.encode({"epoch": epoch, "first": sequence, "last": sequence, "body": "x" * 20})


def identities(spool: Spool, now: float = 0.0) -> list[tuple[int, int, int]]:
    """(epoch, first, last) of all that goes out now."""
    out = []
    while (message := spool.next(now)) is not None:
        spool.sent(message, now)
        content = msgspec.msgpack.decode(message.data)
        out.append((content["epoch"], content["first"], content["last"]))
    return out


def open_spool(folder: Path, disk: Disk | None = None, **options: int) -> Spool:
    numbers = epochs(7)
    return Spool(disk or Disk(), folder, lambda: next(numbers), **options)  # type: ignore[arg-type]


def test_goes_out_in_order_and_waits_for_acks(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for _ in range(IN_FLIGHT + 3):
        assert spool.add(build)
    assert identities(spool) == [(7, i, i) for i in range(1, IN_FLIGHT + 1)]
    assert identities(spool, 1.0) == []
    spool.ack(7, 2, 1.0)
    assert identities(spool, 1.0) == [(7, IN_FLIGHT + 1, IN_FLIGHT + 1), (7, IN_FLIGHT + 2, IN_FLIGHT + 2)]
    assert len(spool) == IN_FLIGHT + 1


def test_without_progress_or_after_a_reconnect_it_is_sent_again(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.add(build)
    spool.add(build)
    assert identities(spool, 0.0) == [(7, 1, 1), (7, 2, 2)]
    assert identities(spool, RESEND_S - 1) == []
    spool.ack(7, 1, RESEND_S - 1)
    assert identities(spool, RESEND_S) == []
    assert identities(spool, 2 * RESEND_S) == [(7, 2, 2)]
    spool.rewind()
    assert identities(spool, 2 * RESEND_S) == [(7, 2, 2)]


def test_acks_of_another_epoch_or_of_the_past_are_ignored(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for _ in range(3):
        spool.add(build)
    spool.ack(8, 3, 0.0)
    spool.ack(7, 2, 0.0)
    spool.ack(7, 1, 0.0)
    assert len(spool) == 1


def test_numbers_go_on_after_a_restart_with_nothing_left(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.add(build)
    spool.add(build)
    spool.ack(7, 2, 0.0)
    again = open_spool(tmp_path)
    again.add(build)
    assert identities(again) == [(7, 3, 3)]


def test_an_ack_ahead_of_us_begins_a_new_epoch(tmp_path: Path) -> None:
    numbers = epochs(7)
    spool = Spool(Disk(), tmp_path, lambda: next(numbers))
    spool.add(build)
    spool.ack(7, 9, 0.0)
    assert (spool.epoch, len(spool)) == (8, 0)
    spool.add(build)
    assert identities(spool) == [(8, 1, 1)]


def test_a_damaged_cursor_begins_a_new_epoch_and_is_counted(tmp_path: Path) -> None:
    open_spool(tmp_path).add(build)
    (tmp_path / "cursor.json").write_bytes(b"{")
    spool = Spool(Disk(), tmp_path, lambda: 99)
    assert (spool.epoch, len(spool), spool.dropped) == (99, 0, 1)


def test_full_drops_the_oldest_never_sent_and_leaves_no_hole(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_files=3)
    spool.add(build)
    assert identities(spool) == [(7, 1, 1)]
    for _ in range(4):
        assert spool.add(build)
    assert (len(spool), spool.dropped) == (3, 2)
    assert identities(spool) == [(7, 2, 4), (7, 5, 5)]
    assert not spool.add(build), "all that is left may have been sent"
    assert spool.dropped == 3
    again = open_spool(tmp_path, max_files=3)
    assert not again.add(build), "after a restart too"
    assert identities(again) == [(7, 1, 1), (7, 2, 4), (7, 5, 5)]


def test_bytes_are_bounded_too(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=200)
    for _ in range(50):
        spool.add(build)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.msg")) <= 200
    assert spool.dropped == 50 - len(spool)


def test_rewrite_keeps_the_numbers(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.add(build)
    spool.rewrite(lambda data: msgspec.msgpack.encode({**msgspec.msgpack.decode(data), "body": ""}))
    message = open_spool(tmp_path).next(0.0)
    assert message is not None and msgspec.msgpack.decode(message.data) == {
        "epoch": 7,
        "first": 1,
        "last": 1,
        "body": "",
    }


STEPS = st.lists(st.sampled_from(["add", "send", "ack", "reopen"]), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, cut=st.integers(0, 30), max_files=st.integers(2, 6))
def test_a_cut_anywhere_neither_loses_nor_doubles(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], cut: int, max_files: int
) -> None:
    """The hub's view: ranges of one epoch never overlap and have no hole below the highest."""
    folder = tmp_path_factory.mktemp("spool")
    received: dict[tuple[int, int], set[bytes]] = {}
    disk: Disk = CutDisk(cut)
    numbers = epochs(7)

    def reopen() -> Spool:
        return Spool(disk, folder, lambda: next(numbers), max_files=max_files)

    def deliver(spool: Spool) -> None:
        while (message := spool.next(0.0)) is not None:
            spool.sent(message, 0.0)
            content = msgspec.msgpack.decode(message.data)
            assert content["epoch"] == spool.epoch
            received.setdefault((content["first"], content["last"]), set()).add(message.data)

    def committed() -> int:
        reached = 0
        for first, last in sorted(received):
            if first != reached + 1:
                break
            reached = last
        return reached

    spool: Spool | None = None
    for step in [*steps, "reopen", "send", "ack", "send"]:
        try:
            if spool is None:
                spool = reopen()
            if step == "add":
                spool.add(build)
            elif step == "send":
                deliver(spool)
            elif step == "ack":
                spool.ack(spool.epoch, committed(), 0.0)
            else:
                spool = reopen()
        except PowerCut:
            disk, spool = Disk(), None
    ranges = sorted(received)
    assert all(len(contents) == 1 for contents in received.values()), "one number, one content"
    assert all(b[0] == a[1] + 1 for a, b in pairwise(ranges)), "no overlap, no hole"
    assert not ranges or ranges[0][0] == 1
