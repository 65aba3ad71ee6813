"""The spool: numbers are never used twice, nothing goes before its ack, and a power cut anywhere changes neither."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path

import msgspec
from sums import Sums

from edgewise_agent.store.disk import Disk
from edgewise_agent.windows import segment
from edgewise_agent.windows.segment import Entry
from edgewise_agent.windows.spool import IN_FLIGHT, MAX_RESEND_S, RESEND_S, SPREAD_S, Spool


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


def open_spool(folder: Path, disk: Disk | None = None, **options: object) -> Spool:
    numbers = epochs(7)
    return Spool(disk or Disk(), folder, lambda: next(numbers), **options)  # type: ignore[arg-type]


class CountingDisk(Disk):
    """Names of the files that were replaced."""

    def __init__(self) -> None:
        self.renamed: list[str] = []

    def _rename(self, source: Path, target: Path) -> None:
        self.renamed.append(target.name)
        super()._rename(source, target)


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
    spool.rewind(2 * RESEND_S)
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


def test_full_without_merging_takes_no_more_and_counts(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_messages=3)
    assert [spool.add(build) for _ in range(5)] == [True, True, True, False, False]
    assert (len(spool), spool.dropped) == (3, 2)
    assert identities(spool) == [(7, 1, 1), (7, 2, 2), (7, 3, 3)]
    spool.ack(7, 1, 0.0)
    assert spool.add(build)


def test_bytes_are_bounded_too(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=200)
    for _ in range(50):
        spool.add(build)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.msg")) <= 200
    assert spool.dropped == 50 - len(spool)


def test_what_may_have_been_offered_is_known_after_a_restart(tmp_path: Path) -> None:
    """Durable before it goes out, and some numbers ahead, so that not each message costs a write."""
    spool = open_spool(tmp_path)
    for _ in range(3):
        spool.add(build)
    writes = CountingDisk()
    again = open_spool(tmp_path, writes)
    assert again.next(0.0) is not None and writes.renamed == ["cursor.json"]
    assert msgspec.json.decode((tmp_path / "cursor.json").read_bytes())["offered"] > 1
    identities(again)
    again.rewind(0.0)
    identities(again)
    assert writes.renamed == ["cursor.json"]


def test_a_cursor_of_an_older_agent_may_have_offered_all(tmp_path: Path) -> None:
    sums = Sums()
    spool = open_spool(tmp_path, merging=sums, max_messages=4)
    for _ in range(4):
        spool.add(sums.one("a"))
    (tmp_path / "cursor.json").write_text('{"epoch":7,"acked":0}')
    again = open_spool(tmp_path, merging=sums, max_messages=4)
    assert not again.add(sums.one("a"))


def test_a_lost_message_goes_out_as_its_numbers_alone(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for _ in range(3):
        spool.add(build)
    (tmp_path / segment.name([Entry(1, 1, 0)])).write_bytes(b"\xff\x00")
    (tmp_path / segment.name([Entry(2, 2, 0)])).unlink()
    again = open_spool(tmp_path)
    messages = []
    while (message := again.next(0.0)) is not None:
        again.sent(message, 0.0)
        messages.append(msgspec.msgpack.decode(message.data))
    assert messages[0] == {"schema": 1, "epoch": 7, "first": 1, "last": 1} and again.dropped == 1
    assert [found["first"] for found in messages] == [1, 3]
    again.rewind(0.0)
    identities(again)
    assert again.dropped == 1, "counted once"


def test_resends_wait_longer_each_time_and_progress_ends_that(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, draw=lambda low, high: high)
    spool.add(build)
    spool.add(build)
    sent_at, now = [], 0.0
    while len(sent_at) < 5:
        if identities(spool, now):
            sent_at.append(now)
        now += 1.0
    waits = [b - a for a, b in pairwise(sent_at)]
    assert waits == [RESEND_S, 3 * RESEND_S, 9 * RESEND_S, MAX_RESEND_S]
    spool.ack(7, 1, now)
    assert identities(spool, now + RESEND_S) == [(7, 2, 2)]


def test_a_new_connection_with_much_to_send_waits_a_drawn_time(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, draw=lambda low, high: high)
    spool.add(build)
    spool.rewind(100.0)
    assert identities(spool, 100.0) == [(7, 1, 1)], "a few windows go at once"
    for _ in range(IN_FLIGHT):
        spool.add(build)
    spool.rewind(100.0)
    assert identities(spool, 100.0 + SPREAD_S - 0.1) == []
    assert len(identities(spool, 100.0 + SPREAD_S)) == IN_FLIGHT


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
