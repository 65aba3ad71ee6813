"""The shim under ``edgewise_agent.store.disk``: it does every system call, and keeps a record of it."""

# ruff: noqa: PTH102, PTH105

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from power.filesystem import Op, Tree

from edgewise_agent.store import disk as disk_module


class Recorder:
    """Stands in the place of ``os``. What is outside of ``root`` passes."""

    def __init__(self, root: Path) -> None:
        self._root, self._lock = root, threading.RLock()
        self.ops: list[Op] = []
        self.start = Tree()
        for path in sorted(root.rglob("*")):
            name = self._name(path)
            if path.is_dir():
                self.start.folders.add(name)
            elif path.is_file():
                self.start.entries[name] = len(self.start.inodes) + 1
                self.start.inodes[self.start.entries[name]] = path.read_bytes()
        self._now = self.start.copy()
        self._files: dict[int, list[int]] = {}  # descriptor -> [inode, position]
        self._folders: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def note(self, fact: Any) -> None:
        """Something that the world knows from now on."""
        with self._lock:
            self.ops.append(Op("note", fact=fact))

    def complete(self, *outside: str) -> list[str]:
        """Files that are not as the record says: something wrote past the shim. ``outside``: names that may."""
        recorded = self._now.files()
        found = {self._name(path): path.read_bytes() for path in self._root.rglob("*") if path.is_file()}
        names = {name for name in recorded.keys() | found.keys() if recorded.get(name) != found.get(name)}
        return sorted(name for name in names if not name.startswith(outside))

    def _name(self, path: Any) -> str:
        return Path(path).relative_to(self._root).as_posix()

    def _mine(self, path: Any) -> bool:
        return Path(path).is_relative_to(self._root)

    def _record(self, op: Op) -> None:
        self.ops.append(op)
        self._now.apply(op)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        with self._lock:
            descriptor = os.open(path, flags, mode)
            if not self._mine(path):
                return descriptor
            name = self._name(path)
            if Path(path).is_dir():
                self._folders[descriptor] = name
                return descriptor
            inode = self._now.entries.get(name)
            if inode is None:
                inode = len(self.ops) + len(self.start.inodes) + 1
                self._record(Op("create", name, inode=inode))
            elif flags & os.O_TRUNC:
                self._record(Op("truncate", name, inode=inode))
            self._files[descriptor] = [inode, 0]
            return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        with self._lock:
            count = os.write(descriptor, data)
            if (file := self._files.get(descriptor)) is not None:
                self._record(Op("write", inode=file[0], offset=file[1], data=bytes(data[:count])))
                file[1] += count
            return count

    def pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        with self._lock:
            count = os.pwrite(descriptor, data, offset)
            if (file := self._files.get(descriptor)) is not None:
                self._record(Op("write", inode=file[0], offset=offset, data=bytes(data[:count])))
            return count

    def fsync(self, descriptor: int) -> None:
        """The disk of the machine that runs the tests need not be bothered: what counts is that it was asked for."""
        with self._lock:
            if (file := self._files.get(descriptor)) is not None:
                self._record(Op("sync", inode=file[0]))
            elif descriptor in self._folders:
                self._record(Op("sync-folder", self._folders[descriptor]))

    def close(self, descriptor: int) -> None:
        with self._lock:
            self._files.pop(descriptor, None)
            self._folders.pop(descriptor, None)
            os.close(descriptor)

    def replace(self, source: Any, target: Any) -> None:
        with self._lock:
            os.replace(source, target)
            if self._mine(source):
                name = self._name(source)
                self._record(Op("rename", name, self._name(target), self._now.entries[name]))

    def unlink(self, path: Any) -> None:
        self._gone(os.unlink, "unlink", path)

    def rmdir(self, path: Any) -> None:
        self._gone(os.rmdir, "rmdir", path)

    def mkdir(self, path: Any, mode: int = 0o777) -> None:
        self._gone(lambda it: os.mkdir(it, mode), "mkdir", path)

    def _gone(self, call: Any, kind: str, path: Any) -> None:
        with self._lock:
            call(path)
            if self._mine(path):
                self._record(Op(kind, self._name(path)))


class Unsynced:
    """Stands in the place of ``os`` while a cut is booted: what it syncs need not reach the machine's disk."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        """Not worth the wait."""


@contextmanager
def unsynced() -> Iterator[None]:
    """Nothing written through ``Disk`` is synced."""
    disk_module.os = Unsynced()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        disk_module.os = os  # type: ignore[attr-defined]


@contextmanager
def recording(root: Path) -> Iterator[Recorder]:
    """Every write through ``Disk`` below ``root`` is recorded."""
    recorder = Recorder(root)
    disk_module.os = recorder  # type: ignore[attr-defined]
    try:
        yield recorder
    finally:
        disk_module.os = os  # type: ignore[attr-defined]
