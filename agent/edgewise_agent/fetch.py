"""A bundle on its way: its manifest first, checked, then the blobs that it names, one after another.

``download`` decides which blocks to ask for, ``trust`` whether the manifest is good, ``store.blobs`` keeps the bytes;
this file moves them between the three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edgewise.bundle import MAX_ENVELOPE, Manifest
from edgewise.errors import EdgewiseError
from edgewise.wire.blocks import BLOCK_SIZE, Block, BlockRequest
from edgewise.wire.control import Duty
from edgewise_agent.download import BlockRefused, Download
from edgewise_agent.store.blobs import BadBlob, BlobStore, Partial
from edgewise_agent.trust import Refused

CheckManifest = Callable[[bytes], Manifest]


class Part(NamedTuple):
    """The blob that is being fetched."""

    download: Download
    partial: Partial


class Fetching:
    """One bundle's fetch. ``done`` when the manifest and all its blobs are whole in the store.

    Every method may raise an EdgewiseError whose code says why the bundle cannot be had; what came stays on disk,
    except bytes that were wrong.
    """

    def __init__(self, model: str, duty: Duty, generation: int, blobs: BlobStore, check: CheckManifest) -> None:
        if duty.size > MAX_ENVELOPE:
            raise Refused(f"manifest: at most {MAX_ENVELOPE} bytes, got {duty.size}", code="bad-bundle")
        self.model, self.duty, self.generation = model, duty, generation
        self._blobs, self._check = blobs, check
        self._manifest: Manifest | None = None
        self._part: Part | None = None
        self._again: set[str] = set()
        self.done = False
        self._open_next()

    @property
    def progress(self) -> tuple[int, int]:
        """(done, total) in bytes; the manifest alone is known until it is here."""
        sizes = {self.duty.bundle: self.duty.size}
        if self._manifest is not None:
            sizes.update({blob.sha256: blob.size for blob in self._manifest.blobs.values()})
        here = sum(size for digest, size in sizes.items() if self._blobs.has(digest))
        return here + (self._part.download.bytes_here if self._part else 0), sum(sizes.values())

    def request(self, now: float) -> BlockRequest | None:
        """The block request to send now, or None."""
        return self._part.download.request(now) if self._part else None

    def reconnected(self, now: float) -> None:
        """A new connection: ask again at once."""
        if self._part:
            self._part.download.reconnected(now)

    def receive(self, block: Block, now: float) -> None:
        """A block came. Raises BlockRefused (counted, nothing changed) or the error that ends this fetch."""
        part = self._part
        if part is None:
            raise BlockRefused(f"block of {block.digest[:12]}: nothing is on its way")
        if not part.download.receive(block, now):
            return
        part.partial.write(block.index, block.data)
        part.download.wrote(block.index, now)
        if part.download.done:
            self._finish(part)

    def suspend(self) -> None:
        """Make durable what came, to resume later. Raises DiskError."""
        if self._part:
            self._part.partial.save()

    def _finish(self, part: Part) -> None:
        """Verify the blob; a bad one is fetched once more, then the bundle is given up."""
        digest = part.download.digest
        self._part = None
        try:
            part.partial.finish()
        except BadBlob:
            if digest in self._again:
                raise
            self._again.add(digest)
        self._open_next()

    def _open_next(self) -> None:
        """Open the next blob that is missing; none missing: done."""
        if self._manifest is None:
            envelope = self._blobs.read(self.duty.bundle, MAX_ENVELOPE)
            if envelope is None:
                self._open(self.duty.bundle, self.duty.size)
                return
            try:
                self._manifest = self._check(envelope)
            except EdgewiseError:
                self._blobs.remove(self.duty.bundle)
                raise
        for blob in sorted(self._manifest.blobs.values(), key=lambda blob: blob.size):
            if not self._blobs.has(blob.sha256):
                self._open(blob.sha256, blob.size)
                return
        self.done = True

    def _open(self, digest: str, size: int) -> None:
        partial = self._blobs.open_partial(digest, size, BLOCK_SIZE)
        self._part = Part(Download(digest, size, partial.have), partial)
        if self._part.download.done:
            self._finish(self._part)
