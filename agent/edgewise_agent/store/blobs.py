"""Blobs by sha256: ``<digest>`` is whole and verified, ``<digest>.part`` is on its way, ``<digest>.have`` says how far.

Rules that hold here:
- a file under its digest's name was verified before it got that name;
- ``.have`` (one bit a block) is written only after the blocks that it claims are durable: after a power cut it may
  claim too little, never too much;
- a whole that does not match its digest is thrown away, partial and bitmap both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgewise.errors import EdgewiseError
from edgewise_agent.store.disk import TEMPORARY, Disk, read

MAX_BLOB = 2 * 1024**3
SYNC_BLOCKS = 32
"""Blocks between two syncs of a partial download: what a power cut can cost."""
_CHUNK = 1024 * 1024


class BadBlob(EdgewiseError):
    """Bytes that are not what their digest says."""

    code = "bad-blob"


class BlobStore:
    """Blobs in one flat folder."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self.folder = folder
        disk.folder(folder)

    def has(self, digest: str) -> bool:
        """Is it here, whole?"""
        return self.path(digest).is_file()

    def path(self, digest: str) -> Path:
        """Where the whole blob is, or will be."""
        return self.folder / digest

    def read(self, digest: str, bound: int) -> bytes | None:
        """A whole blob's bytes, checked against its digest again; None when not here. Raises BadBlob, DiskError."""
        data = read(self.path(digest), bound)
        if data is not None and hashlib.sha256(data).hexdigest() != digest:
            raise BadBlob(f"blob {digest[:12]}: its bytes on disk have another sha256")
        return data

    def verify(self, digest: str) -> bool:
        """Hash a whole blob again; one that is damaged is thrown away, and False. Raises DiskError."""
        if not self.has(digest):
            return False
        if hash_file(self.path(digest))[0] == digest:
            return True
        self.remove(digest)
        return False

    def open_partial(self, digest: str, size: int, block_size: int) -> Partial:
        """Begin or resume a download. Raises DiskError (``disk-full``) when the rest would not fit."""
        return Partial(self._disk, self.path(digest), size, block_size)

    def require_room(self, sizes: Mapping[str, int]) -> None:
        """Raises DiskError (``disk-full``) unless what is missing of these blobs (digest -> bytes) fits on the disk."""
        parts = {digest: self.folder / f"{digest}.part" for digest in sizes if not self.has(digest)}
        here = {digest: part.stat().st_blocks * 512 if part.is_file() else 0 for digest, part in parts.items()}
        self._disk.require_free(self.folder, sum(max(0, sizes[digest] - here[digest]) for digest in parts))

    def remove(self, digest: str) -> None:
        """Throw a blob and what is left of its download away."""
        path = self.path(digest)
        self._disk.unlink(path, path.with_name(digest + ".have"), path.with_name(digest + ".part"))

    def collect(self, keep: Iterable[str]) -> int:
        """Remove every blob and partial that is not kept; returns how many files went."""
        kept = set(keep)
        gone = [p for p in self.folder.iterdir() if p.name.partition(".")[0] not in kept or p.name.endswith(TEMPORARY)]
        self._disk.unlink(*gone)
        return len(gone)


def hash_file(path: Path) -> tuple[str, int]:
    """(sha256 in hex, size) of a file, read in pieces: it may be larger than the memory to spare. Raises OSError."""
    found, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            size += len(chunk)
    return found.hexdigest(), size


class Partial:
    """One blob on its way. ``have`` are the blocks that are here."""

    def __init__(self, disk: Disk, whole: Path, size: int, block_size: int) -> None:
        self._disk, self._whole, self.size, self.block_size = disk, whole, size, block_size
        self.blocks = -(-size // block_size)
        self._part = whole.with_name(whole.name + ".part")
        self._bitmap = whole.with_name(whole.name + ".have")
        self.have = self._resume()
        self._unsynced = 0
        disk.require_free(whole.parent, max(0, size - len(self.have) * block_size))

    def _resume(self) -> set[int]:
        """Blocks claimed by a bitmap of the same size and block size; else a fresh start."""
        data = read(self._bitmap, 16 + self.blocks) if self._bitmap.exists() else None
        head = self.size.to_bytes(8, "little") + self.block_size.to_bytes(8, "little")
        if data is not None and data[:16] == head and self._part.is_file():
            bits = int.from_bytes(data[16:], "little")
            return {i for i in range(self.blocks) if bits >> i & 1}
        self._disk.unlink(self._bitmap, self._part)
        return set()

    def write(self, index: int, data: bytes) -> None:
        """Write one block. Raises DiskError."""
        self._disk.write_at(self._part, index * self.block_size, data)
        self.have.add(index)
        self._unsynced += 1
        if self._unsynced >= SYNC_BLOCKS:
            self.save()

    def save(self) -> None:
        """Make what came durable, then say so in the bitmap. Raises DiskError."""
        if not self._unsynced:
            return
        self._disk.sync(self._part)
        bits = bytearray((self.blocks + 7) // 8)
        for i in self.have:
            bits[i // 8] |= 1 << i % 8
        self._disk.replace(
            self._bitmap, self.size.to_bytes(8, "little") + self.block_size.to_bytes(8, "little") + bytes(bits)
        )
        self._unsynced = 0

    def finish(self) -> None:
        """Verify the whole and give it its name. Raises BadBlob (all is thrown away) or DiskError."""
        if self.size == 0:
            self._disk.write_at(self._part, 0, b"")
        digest, size = hash_file(self._part)
        if size != self.size or digest != self._whole.name:
            self.discard()
            raise BadBlob(
                f"blob {self._whole.name[:12]}: expected {self.size} bytes with this sha256, "
                f"got {size} with {digest[:12]}"
            )
        self._disk.sync(self._part)
        self._disk.rename(self._part, self._whole)
        self._disk.unlink(self._bitmap)

    def discard(self) -> None:
        """Throw the partial away: the bitmap first, so that it never claims what is gone."""
        self._disk.unlink(self._bitmap, self._part)
        self.have = set()
        self._unsynced = 0
