"""The power is cut at every write, fsync, rename and unlink; planted bugs are found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from agent_builders import Broker, HubKey
from life import Life
from power.filesystem import Op, Tree, cuts, tree_after
from power.harness import prove
from scenarios import Enroll, InstallAndGoBack, OwnUpdate, SpoolAndAck, quick
from small_hub import EnrollHub

from edgewise_agent.store import disk as disk_module
from edgewise_agent.store.disk import Disk


@pytest.mark.parametrize("index", range(5), ids=["enroll", "install", "spool", "full spool", "own update"])
def test_promises_hold_wherever_the_power_is_cut(
    index: int, key: HubKey, enroll_hub: EnrollHub, tmp_path: Path
) -> None:
    result = prove(list(quick(key, enroll_hub))[index], tmp_path)
    assert result.broken == []
    assert result.cases > 2 * result.operations > 20


@pytest.mark.slow
def test_a_whole_life_holds_its_promises_wherever_the_power_is_cut(key: HubKey, broker: Broker, tmp_path: Path) -> None:
    result = prove(Life(key, broker), tmp_path / "life")
    assert result.broken == []


class NoFsync(Disk):
    """A file is written, and renamed, and never synced."""

    def _write(self, path: Path, data: bytes) -> None:
        descriptor = disk_module.os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        disk_module.os.write(descriptor, data)
        disk_module.os.close(descriptor)


class RenameFirst(NoFsync):
    """The rename comes before the fsync."""

    def replace(self, path: Path, data: bytes) -> None:
        super().replace(path, data)
        self.sync(path)


class InPlace(Disk):
    """The old content is overwritten."""

    def replace(self, path: Path, data: bytes) -> None:
        self._write(path, data)


class NoFolderSync(Disk):
    """Names are never synced."""

    def _sync_folder(self, folder: Path) -> None:
        """Left out."""


class NoBlobSync(Disk):
    """What was downloaded is never synced."""

    def sync(self, path: Path) -> None:
        """Left out."""


class NewFoldersForgotten(Disk):
    """A folder is made, and its name in its parent never synced."""

    def folder(self, path: Path) -> None:
        for missing in reversed([folder for folder in (path, *path.parents) if not folder.is_dir()]):
            disk_module.os.mkdir(missing, 0o700)


@pytest.mark.parametrize("bug", [NoFsync, RenameFirst, InPlace, NoFolderSync, NewFoldersForgotten])
def test_a_planted_bug_is_found_in_the_spool(bug: type[Disk], tmp_path: Path) -> None:
    assert prove(SpoolAndAck(), tmp_path, bug(), stop_at=1).broken


@pytest.mark.parametrize("bug", [NoFsync, RenameFirst, InPlace, NoFolderSync, NoBlobSync])
def test_a_planted_bug_is_found_in_an_install(bug: type[Disk], key: HubKey, tmp_path: Path) -> None:
    assert prove(InstallAndGoBack(key), tmp_path, bug(), stop_at=1).broken


@pytest.mark.parametrize("bug", [NoFsync, RenameFirst, InPlace, NoFolderSync])
def test_a_planted_bug_is_found_in_an_enrollment(bug: type[Disk], enroll_hub: EnrollHub, tmp_path: Path) -> None:
    assert prove(Enroll(enroll_hub), tmp_path, bug(), stop_at=1).broken


@pytest.mark.parametrize("bug", [NoFsync, RenameFirst, InPlace, NoFolderSync, NewFoldersForgotten])
def test_a_planted_bug_is_found_in_an_own_update(bug: type[Disk], tmp_path: Path) -> None:
    assert prove(OwnUpdate(), tmp_path, bug(), stop_at=1).broken


@pytest.mark.slow
def test_a_planted_bug_is_found_in_a_whole_life(key: HubKey, broker: Broker, tmp_path: Path) -> None:
    assert prove(Life(key, broker), tmp_path / "life", NoFsync(), stop_at=1).broken


def test_a_write_past_the_shim_is_found(key: HubKey, tmp_path: Path) -> None:
    class Past(SpoolAndAck):
        def run(self, folder, disk, note):  # type: ignore[no-untyped-def]
            super().run(folder, disk, note)
            (folder / "beside").write_text("x")

    with pytest.raises(AssertionError, match="through Disk"):
        prove(Past(), tmp_path)


def test_the_model_loses_what_was_not_synced_and_nothing_else() -> None:
    ops = [
        Op("create", "a.tmp", inode=1),
        Op("write", inode=1, data=b"new!"),
        Op("sync", inode=1),
        Op("rename", "a.tmp", "a", inode=1),
        Op("sync-folder", "."),
        Op("write", inode=1, offset=4, data=b"more"),
    ]
    start = Tree(entries={"a": 9}, inodes={9: b"old"})
    left = {cut.after: set[bytes]() for cut in cuts(ops)}
    for cut in cuts(ops):
        left[cut.after].add(tree_after(start, ops, cut).files()["a"])
    assert left[3] == {b"old"}
    assert left[4] == {b"old", b"new!"}
    assert left[5] == {b"new!"}
    assert left[6] == {b"new!", b"new!mo", b"new!more", b"new!\0\0\0\0"}
