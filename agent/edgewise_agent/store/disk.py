"""The only place that writes to the device's disk.

Rules that hold here:
- a file is replaced whole or not at all: temporary file in the same folder, fsync, rename, fsync of the folder;
- an error leaves no temporary file behind, and the old content in place;
- a full disk is a ``DiskError`` with code ``disk-full``; other failures have code ``disk-failed``.

``Disk`` is passed to whatever stores, and speaks to the system through ``os`` alone, so that tests can record every
write, fsync and rename, and cut the power between any two (``tests/agent/power``, ``docs/reliability.md``).
"""

# ruff: noqa: PTH102, PTH105, PTH106, PTH108

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgewise.errors import EdgewiseError

FREE_MARGIN = 16 * 1024 * 1024
"""Bytes that a download leaves free for duties, windows and the rest of the system."""
TEMPORARY = ".tmp"


class DiskError(EdgewiseError):
    """The disk refused: ``disk-full`` (free some space) or ``disk-failed``."""

    code = "disk-failed"


class Disk:
    """Durable writes. Primitives (``_write``, ``_rename``, ``_sync_folder``, ``_unlink``) are what tests cut."""

    def folder(self, path: Path) -> None:
        """Make a folder, readable by its owner alone, and its parents. Raises DiskError."""
        missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
        with _errors(path):
            for folder in reversed(missing):
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
                self._sync_folder(folder.parent)  # else what is durable inside may be in no folder

    def replace(self, path: Path, data: bytes) -> None:
        """Replace ``path`` atomically and durably; the file is readable by its owner alone. Raises DiskError."""
        temporary = path.with_name(path.name + TEMPORARY)
        with _errors(path):
            try:
                self._write(temporary, data)
                self._rename(temporary, path)
            except OSError:
                self._unlink(temporary)
                raise
            self._sync_folder(path.parent)

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        """Write into a partial download; not durable before ``sync``. Raises DiskError."""
        with _errors(path):
            self._write_at(path, offset, data)

    def sync(self, path: Path) -> None:
        """Make the file's data durable. Raises DiskError."""
        with _errors(path):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Rename within one folder, durably. Raises DiskError."""
        with _errors(target):
            self._rename(source, target)
            self._sync_folder(target.parent)

    def unlink(self, *paths: Path) -> None:
        """Remove files; one that is not there is no error. Raises DiskError."""
        for path in paths:
            with _errors(path):
                self._unlink(path)

    def clear(self, folder: Path) -> None:
        """Remove a folder and all that is in it; one that is not there is no error. Raises DiskError."""
        with _errors(folder):
            for place, _, names in os.walk(folder, topdown=False):
                for name in names:
                    self._unlink(Path(place) / name)
                os.rmdir(place)

    def free(self, folder: Path) -> int:
        """Bytes free for us on the folder's file system."""
        return shutil.disk_usage(folder).free

    def require_free(self, folder: Path, size: int) -> None:
        """Raises DiskError (``disk-full``) unless ``size`` bytes and the margin are free."""
        free = self.free(folder)
        if free < size + FREE_MARGIN:
            raise DiskError(
                f"{folder}: expected {size + FREE_MARGIN} bytes free, got {free}; free some space", code="disk-full"
            )

    def _write(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _write_at(self, path: Path, offset: int, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            rest = memoryview(data)
            while rest:
                written = os.pwrite(descriptor, rest, offset)
                rest, offset = rest[written:], offset + written
        finally:
            os.close(descriptor)

    def _rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def _unlink(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            os.unlink(path)

    def _sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read(path: Path, bound: int) -> bytes | None:
    """A file's bytes, or None when there is none. Raises DiskError when it cannot be read or is over ``bound``."""
    try:
        with path.open("rb") as file:
            data = file.read(bound + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DiskError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > bound:
        raise DiskError(f"{path}: expected at most {bound} bytes")
    return data


def read_at(path: Path, offset: int, size: int) -> bytes:
    """A part of a file: exactly ``size`` bytes. Raises DiskError."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise DiskError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) != size:
        raise DiskError(f"{path}: expected {size} bytes at {offset}, got {len(data)}")
    return data


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "; free some space" if full else ""
        raise DiskError(f"{path}: {error.strerror}{hint}", code="disk-full" if full else "disk-failed") from error
