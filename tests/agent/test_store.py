"""The store under power cuts: at every single write the device keeps the old state or has the new one, never half."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_builders import MODEL, HubKey, make_bundle, write_blobs

from edgewise.errors import EdgewiseError
from edgewise.wire.control import Failure
from edgewise_agent.store import installs as rules
from edgewise_agent.store.blobs import BadBlob, BlobStore
from edgewise_agent.store.disk import FREE_MARGIN, Disk, DiskError
from edgewise_agent.store.installs import Duties, Install, Installs

A, B, C = (Install(bundle=letter * 64, version=1, release=1) for letter in "abc")


class PowerCut(BaseException):
    """Not an Exception: nothing may catch it."""


class CutDisk(Disk):
    """The power goes at the k-th primitive; a write that is cut leaves half its bytes."""

    def __init__(self, k: int) -> None:
        self.left = k

    def _cut(self) -> bool:
        self.left -= 1
        return self.left < 0

    def _write(self, path: Path, data: bytes) -> None:
        if self._cut():
            path.write_bytes(data[: len(data) // 2])
            raise PowerCut
        super()._write(path, data)

    def _write_at(self, path: Path, offset: int, data: bytes) -> None:
        if self._cut():
            super()._write_at(path, offset, data[: len(data) // 2])
            raise PowerCut
        super()._write_at(path, offset, data)

    def _rename(self, source: Path, target: Path) -> None:
        if self._cut():
            raise PowerCut
        super()._rename(source, target)

    def _unlink(self, path: Path) -> None:
        if self._cut():
            raise PowerCut
        super()._unlink(path)


class FullDisk(Disk):
    """No space for any write."""

    def _write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")


def cut_everywhere(work: Callable[[Disk, int], bool]) -> int:
    """Run ``work(disk, k)`` with the power cut at write 0, 1, 2... until it comes through; returns how many cuts."""
    for k in range(200):
        if work(CutDisk(k), k):
            return k
    raise AssertionError("expected an end")


def open_installs(disk: Disk, folder: Path) -> Installs:
    return Installs(disk, folder / "duties.json", BlobStore(Disk(), folder / "blobs"))


def test_duties_are_old_or_new_at_every_cut(tmp_path: Path) -> None:
    old = rules.confirm(rules.switch(Duties(), MODEL, A), MODEL)
    new = rules.switch(old, MODEL, B)

    def work(disk: Disk, k: int) -> bool:
        folder = tmp_path / str(k)
        open_installs(Disk(), folder).save(old)
        try:
            open_installs(disk, folder).save(new)
            through = True
        except PowerCut:
            through = False
        kept = open_installs(Disk(), folder).duties
        assert kept in ((new,) if through else (old, new))
        return through

    assert cut_everywhere(work) == 2


def test_full_disk_is_said_and_changes_nothing(tmp_path: Path) -> None:
    installs = open_installs(Disk(), tmp_path)
    installs.save(rules.switch(Duties(), MODEL, A))
    full = open_installs(FullDisk(), tmp_path)
    with pytest.raises(DiskError) as error:
        full.save(rules.switch(full.duties, MODEL, B))
    assert error.value.code == "disk-full"
    assert full.duties == open_installs(Disk(), tmp_path).duties == installs.duties
    assert not list(tmp_path.glob("*.tmp"))


def test_switching_remembers_the_last_confirmed() -> None:
    duties = rules.confirm(rules.switch(Duties(), MODEL, A), MODEL)
    duties = rules.switch(rules.switch(duties, MODEL, B), MODEL, C)
    assert (duties.models[MODEL].active, duties.models[MODEL].previous) == (C, A)
    failed = rules.fail(duties, MODEL, Failure(bundle=C.bundle, generation=1, code="crash-loop", reason=""))
    assert (failed.models[MODEL].active, failed.models[MODEL].confirmed) == (A, True)
    assert failed.failed(MODEL, C.bundle, 1) and not failed.failed(MODEL, C.bundle, 2)
    back = rules.switch(duties, MODEL, A)
    assert (back.models[MODEL].confirmed, back.models[MODEL].previous) == (True, None)
    first = rules.fail(
        rules.switch(Duties(), MODEL, A), MODEL, Failure(bundle=A.bundle, generation=1, code="x", reason="")
    )
    assert first.active() == {}


def test_failures_are_bounded() -> None:
    duties = Duties()
    for i in range(20):
        duties = rules.fail(duties, MODEL, Failure(bundle=f"{i:064x}", generation=i, code="x", reason=""))
    assert [f.generation for f in duties.failures[MODEL]] == list(range(12, 20))


def test_damaged_duties_are_said(tmp_path: Path) -> None:
    (tmp_path / "duties.json").write_bytes(b'{"models": {"x": 1}}')
    with pytest.raises(EdgewiseError, match=r"duties\.json"):
        open_installs(Disk(), tmp_path)


def test_download_survives_a_cut_at_every_write(tmp_path: Path, key: HubKey) -> None:
    bundle = make_bundle(key, 1, padding=70 * 1024)
    digest = bundle.manifest.blobs["model"].sha256
    data = bundle.blobs[digest]
    size = 1024

    def fetch(disk: Disk, folder: Path) -> None:
        store = BlobStore(disk, folder)
        if store.has(digest):
            return
        partial = store.open_partial(digest, len(data), size)
        for index in range(partial.blocks):
            if index not in partial.have:
                partial.write(index, data[index * size : (index + 1) * size])
        partial.finish()

    def work(disk: Disk, k: int) -> bool:
        folder = tmp_path / str(k)
        try:
            fetch(disk, folder)
            through = True
        except PowerCut:
            through = False
        store = BlobStore(Disk(), folder)
        assert not store.has(digest) or store.verify(digest), "what has the name has the bytes"
        fetch(Disk(), folder)
        assert store.path(digest).read_bytes() == data
        assert [path.name for path in folder.iterdir() if path.suffix != ".tmp" and path.suffix != ".have"] == [digest]
        return through

    assert cut_everywhere(work) > 70


def test_wrong_bytes_are_thrown_away(tmp_path: Path) -> None:
    store = BlobStore(Disk(), tmp_path)
    partial = store.open_partial("0" * 64, 10, 1024)
    partial.write(0, bytes(10))
    with pytest.raises(BadBlob):
        partial.finish()
    assert list(tmp_path.iterdir()) == []


def test_space_is_checked_before_the_first_byte(tmp_path: Path) -> None:
    store = BlobStore(Disk(), tmp_path)
    with pytest.raises(DiskError) as error:
        store.open_partial("0" * 64, Disk().free(tmp_path) - FREE_MARGIN // 2, 1024)
    assert error.value.code == "disk-full" and list(tmp_path.iterdir()) == []


def test_collect_keeps_what_has_a_duty(tmp_path: Path, key: HubKey) -> None:
    bundles = [make_bundle(key, version) for version in (1, 2, 3, 4)]
    write_blobs(tmp_path / "blobs", *bundles)
    (tmp_path / "blobs" / ("9" * 64 + ".part")).write_bytes(b"left")
    installs = open_installs(Disk(), tmp_path)
    made = [Install(bundle=b.digest, version=b.duty.version, release=b.duty.release) for b in bundles]
    installs.save(rules.switch(rules.confirm(rules.switch(Duties(), MODEL, made[0]), MODEL), MODEL, made[1]))
    installs.collect({bundles[2].digest})
    assert [installs.whole(bundle.digest) for bundle in bundles] == [True, True, True, False]
    expected = {digest for bundle in bundles[:3] for digest in bundle.blobs}
    assert {path.name for path in (tmp_path / "blobs").iterdir()} == expected


def test_damage_is_found_and_thrown_away(tmp_path: Path, key: HubKey) -> None:
    bundle = make_bundle(key, 1)
    write_blobs(tmp_path / "blobs", bundle)
    installs = open_installs(Disk(), tmp_path)
    assert not installs.repair(bundle.digest) and installs.whole(bundle.digest)
    (tmp_path / "blobs" / bundle.manifest.blobs["model"].sha256).write_bytes(b"rot")
    assert installs.repair(bundle.digest) and not installs.whole(bundle.digest)
