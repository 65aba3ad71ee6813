"""Wheels, unpacked into a slot. Pure Python alone: what is built for a machine stays in the base install."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from edgewise.errors import EdgewiseError
from edgewise_agent.store.disk import Disk

MAX_FILES = 4000
MAX_BYTES = 64 * 1024 * 1024


class BadWheel(EdgewiseError):
    """A release that cannot be unpacked: not a wheel, not pure Python, too large, or no agent."""

    code = "bad-wheel"


def unpack(disk: Disk, wheels: Sequence[Path], slot: Path) -> None:
    """Every file of the wheels, durably; the slot is emptied first. Raises BadWheel or DiskError."""
    files: dict[str, bytes] = {}
    for wheel in wheels:
        for name, data in _files(wheel):
            files[name] = data
            if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_BYTES:
                raise BadWheel(f"release: expected at most {MAX_FILES} files and {MAX_BYTES} bytes")
    if "edgewise_agent/main.py" not in files or "edgewise/__init__.py" not in files:
        raise BadWheel("release: expected the wheels of edgewise and edgewise-agent")
    disk.require_free(slot.parent if slot.parent.is_dir() else slot.parent.parent, sum(map(len, files.values())))
    disk.clear(slot)
    for name, data in sorted(files.items()):
        disk.folder((slot / name).parent)
        disk.replace(slot / name, data)


def _files(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes), bounded as they are read."""
    left = MAX_BYTES
    try:
        with zipfile.ZipFile(wheel) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES:
                raise BadWheel(f"wheel: expected at most {MAX_FILES} files, got {len(entries)}")
            for entry in entries:
                name = _safe(entry.filename)
                if entry.is_dir() or name is None:
                    continue
                with archive.open(entry) as file:
                    data = file.read(left + 1)
                left -= len(data)
                if left < 0:
                    raise BadWheel(f"wheel: expected at most {MAX_BYTES} bytes unpacked")
                yield name, data
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise BadWheel(f"wheel: cannot be read: {error}") from error


def _safe(name: str) -> str | None:
    """The name below the slot; None: not needed there (scripts, headers). Raises BadWheel."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise BadWheel(f"wheel: a file is not inside of it: {name[:100]!r}")
    if path.suffix in (".so", ".pyd", ".dylib"):
        raise BadWheel(f"wheel: expected pure Python, got {name[:100]!r}: update the base install for that")
    return None if path.parts[0].endswith(".data") else path.as_posix()
