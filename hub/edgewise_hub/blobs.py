"""Blobs by sha256, in a folder. A blob that is there is whole: written aside, fsynced, then renamed."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from edgewise.errors import EdgewiseError

MAX_BLOB = 2 * 1024**3
MAX_OPEN = 32
"""Files that a BlockReader keeps open."""
_DIGEST = re.compile(r"^[0-9a-f]{64}$")


class BlobError(EdgewiseError):
    """A blob that is missing, too large, or not what its digest says."""

    code = "bad-blob"


class Blobs:
    """A folder of blobs, ``ab/abcdef...``; several processes may write at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the blob is. Raises BlobError (code ``no-blob``) when it is not here."""
        path = self._place(sha256)
        if not path.is_file():
            raise BlobError(f"blob {sha256[:12]}: not on this hub; upload it first", code="no-blob")
        return path

    def __contains__(self, sha256: str) -> bool:
        return self._place(sha256).is_file()

    def read(self, sha256: str) -> bytes:
        """The whole blob."""
        return self.path(sha256).read_bytes()

    def put(self, data: bytes) -> str:
        """Keep bytes; returns their sha256."""
        return self.put_chunks([data])

    def put_file(self, path: Path) -> str:
        """Keep a copy of a file; returns its sha256."""
        with path.open("rb") as file:
            return self.put_chunks(iter(lambda: file.read(1 << 20), b""))

    def put_chunks(self, chunks: Iterable[bytes], expected: str | None = None) -> str:
        """Keep a stream of bytes; returns its sha256. Raises BlobError when over MAX_BLOB, not of the ``expected``
        digest, or when the disk is full (code ``disk-full``); nothing is left behind then."""
        hasher = hashlib.sha256()
        size = 0
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for chunk in chunks:
                    size += len(chunk)
                    if size > MAX_BLOB:
                        raise BlobError(f"blob: at most {MAX_BLOB} bytes", code="too-large")
                    hasher.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            sha256 = hasher.hexdigest()
            if expected is not None and sha256 != expected:
                raise BlobError(f"blob: expected sha256 {expected[:12]}..., got {sha256[:12]}...")
            place = self._place(sha256)
            place.parent.mkdir(exist_ok=True)
            temporary.replace(place)
            _sync_folder(place.parent)
            return sha256
        except OSError as error:
            raise BlobError(f"blob: cannot be written: {error.strerror}", code="disk-full") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _place(self, sha256: str) -> Path:
        if not _DIGEST.match(sha256):
            raise BlobError(f"blob: expected a sha256 in hex, got {sha256[:80]!r}")
        return self.folder / sha256[:2] / sha256


class BlockReader:
    """Blocks of blobs, read as they are asked for: by one thread, a few files open at a time. Blobs never change."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._files: OrderedDict[str, tuple[int, int]] = OrderedDict()  # digest -> (descriptor, size)

    def size(self, sha256: str) -> int:
        """Bytes of the whole blob. Raises BlobError, OSError."""
        return self._open(sha256)[1]

    def read(self, sha256: str, block_size: int, index: int) -> tuple[bytes, int]:
        """(one block, bytes of the whole blob). Raises BlobError, OSError."""
        descriptor, size = self._open(sha256)
        return os.pread(descriptor, block_size, index * block_size), size

    def close(self) -> None:
        """Close all files."""
        for descriptor, _ in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def _open(self, sha256: str) -> tuple[int, int]:
        if sha256 in self._files:
            self._files.move_to_end(sha256)
            return self._files[sha256]
        descriptor = os.open(self._blobs.path(sha256), os.O_RDONLY)
        self._files[sha256] = (descriptor, os.fstat(descriptor).st_size)
        if len(self._files) > MAX_OPEN:
            os.close(self._files.popitem(last=False)[1][0])
        return self._files[sha256]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
