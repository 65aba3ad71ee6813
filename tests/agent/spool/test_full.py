"""A full spool merges what was never offered: nothing counts twice, nothing is lost but what is counted, at any
interleaving of adding, sending, acks, restarts and power cuts."""

from __future__ import annotations

from itertools import count, pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sums import Sums
from test_store import CutDisk, PowerCut

from edgewise_agent.store.disk import Disk
from edgewise_agent.windows import spool as spool_module
from edgewise_agent.windows.spool import SPREAD_S, Spool


class Hub:
    """What the hub does with numbered messages: takes each range once, refuses what overlaps, acknowledges."""

    def __init__(self) -> None:
        self.taken: dict[int, dict[tuple[int, int], bytes]] = {}
        self.epoch = 0

    def take(self, data: bytes) -> None:
        content = msgspec.msgpack.decode(data)
        self.epoch = content["epoch"]
        ranges = self.taken.setdefault(self.epoch, {})
        found = (content["first"], content["last"])
        if found in ranges:
            assert ranges[found] == data, "one number, one content"
            return
        assert not any(found[0] <= last and first <= found[1] for first, last in ranges), "no overlap"
        ranges[found] = data

    def ack(self) -> int:
        reached = 0
        for first, last in sorted(self.taken.get(self.epoch, {})):
            if first != reached + 1:
                break
            reached = last
        return reached

    def things(self) -> list[int]:
        return [
            thing
            for ranges in self.taken.values()
            for data in ranges.values()
            for thing in msgspec.msgpack.decode(data).get("things", [])
        ]


class Memory(Disk):
    """Writes that do not wait for the device: what is cut here is the order of writes, and there are many."""

    def _write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

    def _sync_folder(self, folder: Path) -> None:
        pass


class CutMemory(CutDisk, Memory):
    """The power goes at the k-th write."""


def deliver(spool: Spool, hub: Hub) -> None:
    while (message := spool.next(0.0)) is not None:
        spool.sent(message, 0.0)
        hub.take(message.data)


STEPS = st.lists(
    st.one_of(st.sampled_from(["add a", "add b", "add c"]), st.sampled_from(["send", "ack", "reopen", "rewind"])),
    min_size=5,
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(
    steps=STEPS,
    cut=st.one_of(st.just(10**6), st.integers(0, 120)),
    most=st.integers(3, 8),
    limit=st.sampled_from(["messages", "bytes"]),
    fits=st.sampled_from([2, 5, 10**9]),
)
def test_nothing_twice_and_nothing_lost_but_what_is_counted(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], cut: int, most: int, limit: str, fits: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    sums, hub, numbers = Sums(fits), Hub(), count(7)
    disk: Disk = CutMemory(cut)
    options = {"max_messages": most} if limit == "messages" else {"max_bytes": most * 110}
    refused: set[int] = set()
    unsure: set[int] = set()

    def reopen() -> Spool:
        return Spool(disk, folder, lambda: next(numbers), sums, draw=lambda low, high: low, **options)

    spool: Spool | None = None
    for step in [*steps, "reopen", *["send", "ack"] * (most + 2)]:
        thing = None
        try:
            if spool is None or step == "reopen":
                spool = reopen()
            if step.startswith("add"):
                build = sums.one(step[-1])
                thing = max(sums.happened)
                if not spool.add(build):
                    refused.add(thing)
            elif step == "send":
                deliver(spool, hub)
            elif step == "ack":
                spool.ack(spool.epoch, hub.ack(), 0.0)
            elif step == "rewind":
                spool.rewind(0.0)
        except PowerCut:
            disk, spool = Memory(), None
            unsure |= {thing} - {None}
    assert spool is not None and len(spool) == 0, "all was acknowledged"
    arrived = hub.things()
    assert len(arrived) == len(set(arrived)), "nothing counts twice"
    missing = set(sums.happened) - set(arrived)
    assert refused <= missing <= refused | unsure, "lost: what was refused, or cut off while it was written"
    for ranges in hub.taken.values():
        ordered = sorted(ranges)
        assert ordered[0][0] == 1 and all(b[0] == a[1] + 1 for a, b in pairwise(ordered)), "no hole"
        for (first, last), data in ranges.items():
            content = msgspec.msgpack.decode(data)
            assert len(content["things"]) == last - first + 1, "a range is as wide as what was merged"
            assert {sums.happened[thing] for thing in content["things"]} == {content["key"]}, "one key"
            assert content["things"] == sorted(content["things"]), "in order"


def test_months_away_keep_what_is_new_and_lose_resolution_with_age(tmp_path: Path) -> None:
    sums = Sums()
    spool = Spool(Memory(), tmp_path, lambda: 7, sums, max_messages=200)
    for number in range(2500):
        assert spool.add(sums.one("ab"[number % 2]))
    assert len(spool) <= 200 and spool.dropped == 0 and spool.merged == 2500 - len(spool)
    again, hub = Spool(Memory(), tmp_path, lambda: 8, sums, max_messages=200), Hub()
    while len(again):
        deliver(again, hub)
        again.ack(7, hub.ack(), 0.0)
    assert sorted(hub.things()) == list(range(1, 2501))
    ranges = sorted(hub.taken[7])
    ages = [(2500 - last, last - first + 1) for first, last in ranges]
    assert max(width for age, width in ages if age < 30) == 1, "the newest are as they were"
    oldest, newest = ages[: len(ages) // 4], ages[-len(ages) // 4 :]
    assert min(width for _, width in oldest) > max(width for _, width in newest)
    assert all(width <= max(1, age) for age, width in ages)


def test_making_room_is_done_in_small_pieces(tmp_path: Path) -> None:
    """No add merges more than one file's messages: the agent's loop goes on turning."""
    sums = Sums()
    spool = Spool(Memory(), tmp_path, lambda: 7, sums, max_messages=1200)
    most = 0
    for _ in range(1600):
        before = spool.merged
        spool.add(sums.one("a"))
        most = max(most, spool.merged - before)
    assert 0 < most <= spool_module._SEGMENT
    assert len(list(tmp_path.glob("*.seg"))) >= 2


def test_what_may_have_gone_out_is_left_as_it_is(tmp_path: Path) -> None:
    sums, hub = Sums(), Hub()
    spool = Spool(Memory(), tmp_path, lambda: 7, sums, max_messages=40)
    for _ in range(40):
        spool.add(sums.one("a"))
    deliver(spool, hub)
    for _ in range(60):
        assert spool.add(sums.one("a"))
    spool.rewind(-SPREAD_S)
    while len(spool):
        deliver(spool, hub)  # the hub asserts that what comes again is the same
        spool.ack(7, hub.ack(), 0.0)
    assert sorted(hub.things()) == list(range(1, 101))


def test_a_damaged_segment_loses_its_own_messages_alone(tmp_path: Path) -> None:
    sums, hub = Sums(), Hub()
    spool = Spool(Memory(), tmp_path, lambda: 7, sums, max_messages=20)
    for _ in range(60):
        spool.add(sums.one("a"))
    damaged = sorted(tmp_path.glob("*.seg"))[0]
    damaged.write_bytes(b"\xff" * damaged.stat().st_size)
    again = Spool(Memory(), tmp_path, lambda: 8, sums, max_messages=20)
    while len(again):
        deliver(again, hub)
        again.ack(7, hub.ack(), 0.0)
    first, last = (int(number) for number in damaged.stem.split("-"))
    assert sorted(hub.things()) == [thing for thing in range(1, 61) if not first <= thing <= last]
    assert again.dropped == 1
