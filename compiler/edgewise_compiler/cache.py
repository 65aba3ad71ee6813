"""What passes made, kept on disk: nothing is computed twice from the same inputs.

An entry's key covers everything that the result depends on: the pass and its version, its configuration, the digests of
its inputs and of the data that it reads, the seed where it draws, and the versions of the packages it works with and of
Python, the architecture, and the compiler's own code. No path, time or device profile is in it.

Rules that hold here:
- only what came out well and what is refused for good is kept; a failure never is;
- an entry is a folder that appears whole, by a rename; one that is damaged counts as none;
- the cache is bounded: the entries used least recently give way.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import sys
import tempfile
import uuid
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from edgewise_compiler.errors import Unsupported
from edgewise_compiler.passes import Pass

MAX_BYTES = 10 * 1024**3
RESULT, FILE = "result.json", "file"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one run. Either ``digest`` of the file, or ``refused`` with the reason."""

    pass_name: str
    seconds: float
    digest: str | None = None
    notes: list[str] = []
    refused: str | None = None
    code: str | None = None
    unsupported: list[Unsupported] = []


class Cache:
    """A folder of entries. Several processes may use it at once."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def get(self, key: str) -> tuple[Entry, Path] | None:
        """An entry and its file (there is none when it was refused); None when there is no whole entry."""
        place = self._place(key)
        try:
            entry = msgspec.json.decode((place / RESULT).read_bytes(), type=Entry)
            if entry.digest is not None and digest_of(place / FILE) != entry.digest:
                raise ValueError("damaged")
            os.utime(place)
        except (OSError, ValueError):
            shutil.rmtree(place, ignore_errors=True)
            return None
        return entry, place / FILE

    def put(self, key: str, entry: Entry, file: Path | None) -> None:
        """Keep an entry with a copy of its file; where the disk has no room for it, go on without."""
        place = self._place(key)
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=self._folder) as folder:
                new = Path(folder) / "entry"
                new.mkdir()
                if file is not None:
                    shutil.copyfile(file, new / FILE)
                (new / RESULT).write_bytes(msgspec.json.encode(entry))
                with contextlib.suppress(OSError):  # another process was first
                    new.rename(place)
            self._trim()

    def _place(self, key: str) -> Path:
        return self._folder / key[:2] / key

    def _trim(self) -> None:
        sizes = {
            place: (place.stat().st_mtime, sum(file.stat().st_size for file in place.iterdir()))
            for place in self._folder.glob("[0-9a-f][0-9a-f]/*")
        }
        total = sum(size for _, size in sizes.values())
        for place, (_, size) in sorted(sizes.items(), key=lambda item: item[1][0]):
            if total <= self._max_bytes:
                return
            # A reader sees a whole entry or none.
            gone = self._folder / f".gone-{uuid.uuid4().hex}"
            with contextlib.suppress(OSError):
                place.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
            total -= size


def default_folder() -> Path:
    """``EDGEWISE_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("EDGEWISE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgewise" / "compile"


def key_of(
    does: Pass, config: msgspec.Struct, inputs: Mapping[str, str], data: str | None, seed: int | None, more: list[str]
) -> str:
    """The key of one run. ``inputs``: digests by role; ``data``: digest of what it reads; ``more``: outputs' names."""
    said = {
        "pass": [does.name, does.version, f"{type(does).__module__}.{type(does).__qualname__}"],
        "config": msgspec.to_builtins(config),
        "inputs": dict(inputs),
        "data": data,
        "seed": seed,
        "outputs": more,
        "environment": {**environment(*does.packages), **does.tools(), "code": code(type(does).__module__)},
    }
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()


def environment(*packages: str) -> dict[str, str]:
    """Versions of Python, the architecture and these packages; one that is not installed is left out."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "architecture": platform.machine()}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@cache
def code(module: str) -> str:
    """sha256 of the compiler's own source, and of a third party's pass: a pass that was changed is another pass."""
    sha256 = hashlib.sha256()
    own = sorted(Path(__file__).parent.rglob("*.py"))
    others = [] if module.startswith("edgewise_compiler.") else [getattr(sys.modules[module], "__file__", None)]
    for path in [*own, *(Path(other) for other in others if other)]:
        sha256.update(path.name.encode() + b"\0" + path.read_bytes())
    return sha256.hexdigest()


def digest_of(path: Path) -> str:
    """sha256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
