"""Samples: neither the owner's budget nor a request's is ever exceeded; withdrawn consent empties what waits."""

from __future__ import annotations

from pathlib import Path

import msgspec
from agent_builders import MODEL
from hypothesis import given
from hypothesis import strategies as st
from test_store import CutDisk, PowerCut

from edgewise.wire.codec import decode_msgpack
from edgewise.wire.control import SampleRequest
from edgewise.wire.windows import Sample, Samples
from edgewise_agent.serving.channel import SampleTaken
from edgewise_agent.store.disk import Disk
from edgewise_agent.windows.consent import BATCH_BYTES, BATCH_S, Grant, SampleKeeper, Spent, allows, save_grants, spend
from edgewise_agent.windows.spool import Spool


def taken(i: int, size: int = 100) -> SampleTaken:
    sample = Sample(request=f"r-{i}", input=bytes(size), label=1, prediction=1, at=0.0)
    return SampleTaken(model=MODEL, version=1, bundle="b" * 64, dtype="UINT8", shape=[size], sample=sample)


def keeper(folder: Path) -> tuple[SampleKeeper, Spool]:
    disk = Disk()
    spool = Spool(disk, folder / "spool", lambda: 7)
    kept = SampleKeeper(disk, folder, "cam-1", spool)
    kept.refresh()
    return kept, spool


def waiting(spool: Spool) -> list[Samples]:
    out = []
    while (message := spool.next(0.0)) is not None:
        spool.sent(message, 0.0)
        out.append(decode_msgpack(message.data, Samples))
    return out


@given(
    grant=st.builds(Grant, count=st.integers(0, 20), bytes=st.integers(0, 500)),
    asks=st.lists(st.builds(SampleRequest, id=st.sampled_from(["a", "b", "c"]), count=st.just(5), bytes=st.just(200))),
    sizes=st.lists(st.integers(1, 100), max_size=60),
)
def test_budgets_hold_over_all_requests(grant: Grant, asks: list[SampleRequest], sizes: list[int]) -> None:
    spent = Spent()
    for i, size in enumerate(sizes):
        request = asks[i % len(asks)] if asks else None
        if request is not None and allows(grant, request, spent, size):
            spent = spend(spent, request.id, size)
    assert spent.count <= grant.count and spent.bytes <= grant.bytes
    assert all(count <= 5 and used <= 200 for count, used in spent.requests.values())
    assert asks or spent == Spent()


def test_without_consent_nothing_is_taken(tmp_path: Path) -> None:
    kept, spool = keeper(tmp_path)
    ask = SampleRequest(id="a", count=5, bytes=1000)
    assert not kept.wanted(MODEL, ask) and not kept.take(taken(1), ask, 0.0)
    save_grants(Disk(), tmp_path, {MODEL: Grant(count=5, bytes=1000)})
    assert kept.refresh() and kept.wanted(MODEL, ask) and not kept.wanted(MODEL, None)
    (tmp_path / "consent.json").write_bytes(b"{")
    assert kept.refresh() and not kept.wanted(MODEL, ask), "a damaged consent is none"
    assert len(spool) == 0


def test_spent_is_on_disk_before_a_batch_and_survives(tmp_path: Path) -> None:
    save_grants(Disk(), tmp_path, {MODEL: Grant(count=3, bytes=10_000)})
    kept, spool = keeper(tmp_path)
    ask = SampleRequest(id="a", count=50, bytes=10_000)
    assert [kept.take(taken(i), ask, 0.0) for i in range(5)] == [True, True, True, False, False]
    kept.poll(BATCH_S - 0.1)
    assert len(spool) == 0
    kept.poll(BATCH_S)
    (batch,) = waiting(spool)
    assert [s.request for s in batch.samples] == ["r-0", "r-1", "r-2"] and batch.request_id == "a"
    again, _ = keeper(tmp_path)
    assert not again.wanted(MODEL, SampleRequest(id="b", count=50, bytes=10_000))
    consent = again.report()[MODEL]
    assert (consent.count, consent.sent_count, consent.sent_bytes) == (3, 3, 300)


def test_batches_fit_a_message(tmp_path: Path) -> None:
    save_grants(Disk(), tmp_path, {MODEL: Grant(count=100, bytes=10**7)})
    kept, spool = keeper(tmp_path)
    ask = SampleRequest(id="a", count=100, bytes=10**7)
    for i in range(5):
        assert kept.take(taken(i, 30_000), ask, 0.0)
    assert kept.take(taken(9, 90_000), ask, 0.0)
    kept.poll(0.0, last=True)
    batches = waiting(spool)
    assert sum(len(batch.samples) for batch in batches) == 6
    assert all(sum(len(s.input) for s in b.samples) <= BATCH_BYTES or len(b.samples) == 1 for b in batches)


def test_withdrawn_consent_empties_what_waits(tmp_path: Path) -> None:
    save_grants(Disk(), tmp_path, {MODEL: Grant(count=9, bytes=10_000)})
    kept, spool = keeper(tmp_path)
    ask = SampleRequest(id="a", count=9, bytes=10_000)
    kept.take(taken(1), ask, 0.0)
    kept.poll(0.0, last=True)
    kept.take(taken(2), ask, 0.0)
    save_grants(Disk(), tmp_path, {})
    kept.refresh()
    kept.poll(0.0, last=True)
    (batch,) = waiting(spool)
    assert (batch.first, batch.samples) == (1, [])
    assert msgspec.json.decode((tmp_path / "spent.json").read_bytes())[MODEL]["count"] == 1


def test_consent_withdrawn_while_no_agent_ran_or_with_the_power_cut_empties_it_too(tmp_path: Path) -> None:
    def life(folder: Path, disk: Disk) -> list[Samples]:
        """Three batches wait, consent goes, the agent starts again (on this disk) and at last sends."""
        folder.mkdir()
        save_grants(Disk(), folder, {MODEL: Grant(count=9, bytes=10_000)})
        kept, _ = keeper(folder)
        for i in range(3):
            kept.take(taken(i), SampleRequest(id="a", count=9, bytes=10_000), 0.0)
            kept.poll(0.0, last=True)
        save_grants(Disk(), folder, {})
        spool = Spool(Disk(), folder / "spool", lambda: 7)
        spool._disk = disk
        try:
            SampleKeeper(Disk(), folder, "cam-1", spool).refresh()
        except PowerCut:
            pass
        return waiting(keeper(folder)[1])

    for cut in range(8):
        batches = life(tmp_path / str(cut), CutDisk(cut))
        assert [batch.first for batch in batches] == [1, 2, 3] and not any(batch.samples for batch in batches)
