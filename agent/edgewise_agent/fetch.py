"""A bundle on its way: its manifest first, checked, then the blobs that it names, one after another.

``download`` decides which blocks to ask for, ``delta`` makes a blob from one that is here, ``trust`` says whether the
manifest is good, ``store.blobs`` keeps the bytes; this file moves them between the four.

Rules that hold here:
- before the first blob, the disk has room for all of them;
- a large blob whose predecessor is here is asked for as a delta first. Whatever is wrong with that (no answer, no base,
  too large, it does not apply, it makes something else) leads to the blob itself, and the bundle is none the worse;
- a delta is fetched, kept and verified as any blob, applied a little at a time, and thrown away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from edgewise.bundle import MAX_ENVELOPE, Blob, Manifest
from edgewise.errors import EdgewiseError
from edgewise.wire.blocks import (
    BLOCK_SIZE,
    MAX_DELTA_SHARE,
    MIN_CAST_BLOCKS,
    MIN_DELTA_BYTES,
    Block,
    BlockRequest,
    DeltaOffer,
    DeltaRequest,
)
from edgewise.wire.control import Duty
from edgewise_agent.delta import BadDelta, patched
from edgewise_agent.download import BlockRefused, Download, DownloadFailed
from edgewise_agent.store.blobs import BadBlob, BlobStore, Partial
from edgewise_agent.trust import Refused

log = logging.getLogger(__name__)

ASK_AGAIN_S = 3.0
MAKING_S = 1.0
UNANSWERED_S = 10.0
"""A hub that has not answered for so long knows no deltas."""
MADE_WITHIN_S = 120.0
"""So long a device waits for a delta that is being made."""
PATCH_BLOCKS = 8
"""Blocks made in one step, between which everything else has its turn."""

CheckManifest = Callable[[bytes], Manifest]


class Question:
    """Is there a delta for ``target`` from ``base``? Asked until it is answered, or for long enough. Pure."""

    def __init__(self, target: Blob, base: str) -> None:
        self.target, self.base = target, base
        self.being_made = False
        self._began: float | None = None
        self._ask_at = 0.0

    def request(self, now: float) -> DeltaRequest | None:
        """The question to send now, or None."""
        if now < self._ask_at:
            return None
        self._ask_at = now + ASK_AGAIN_S
        if self._began is None:
            self._began = now
        return DeltaRequest(target=self.target.sha256, bases=[self.base])

    def wait(self, now: float) -> None:
        """It is being made: ask again soon, and be patient."""
        self.being_made = True
        self._ask_at = now + MAKING_S

    def over(self, now: float) -> bool:
        """Has it been asked for long enough?"""
        patience = MADE_WITHIN_S if self.being_made else UNANSWERED_S
        return self._began is not None and now - self._began >= patience


class Part(NamedTuple):
    """The bytes that are being fetched: ``blob`` itself, or a delta to it from ``base``."""

    blob: Blob
    download: Download
    partial: Partial
    base: str | None = None


class Patch(NamedTuple):
    """A blob that is being made from ``base`` and ``delta``."""

    blob: Blob
    base: str
    delta: str
    blocks: Iterator[tuple[int, bytes]]
    partial: Partial


class Fetching:
    """One bundle's fetch. ``done`` when the manifest and all its blobs are whole in the store.

    Every method may raise an EdgewiseError whose code says why the bundle cannot be had; what came stays on disk,
    except bytes that were wrong.
    """

    def __init__(
        self,
        model: str,
        duty: Duty,
        generation: int,
        blobs: BlobStore,
        check: CheckManifest,
        bases: Mapping[str, str] | None = None,
        spread: float = 0.0,
    ) -> None:
        """``bases``: role -> digest of the blob that serves in this role now; ``spread``: see ``Download``."""
        if duty.size > MAX_ENVELOPE:
            raise Refused(f"manifest: at most {MAX_ENVELOPE} bytes, got {duty.size}", code="bad-bundle")
        self.model, self.duty, self.generation = model, duty, generation
        self._blobs, self._check, self._bases, self._spread = blobs, check, dict(bases or {}), spread
        self._manifest: Manifest | None = None
        self._question: Question | None = None
        self._part: Part | None = None
        self._patch: Patch | None = None
        self._again: set[str] = set()
        self._whole_only: set[str] = set()  # blobs for which a delta was tried, or is out of the question
        self._by_delta: dict[str, int] = {}  # blob -> bytes of its delta
        self.done = False
        self._open_next()

    @property
    def progress(self) -> tuple[int, int]:
        """(done, total) in bytes to fetch; the manifest alone is known until it is here."""
        sizes = {self.duty.bundle: self.duty.size}
        if self._manifest is not None:
            sizes.update({blob.sha256: blob.size for blob in self._manifest.blobs.values()})
        sizes.update(self._by_delta)
        here = sum(size for digest, size in sizes.items() if self._blobs.has(digest))
        here += self._part.download.bytes_here if self._part else self._by_delta.get(self._patching, 0)
        return here, sum(sizes.values())

    @property
    def busy(self) -> bool:
        """Is there work to do that waits for nothing?"""
        return self._patch is not None

    @property
    def cast(self) -> str | None:
        """Digest whose cast is worth hearing now."""
        part = self._part
        return part.download.digest if part and part.download.blocks >= MIN_CAST_BLOCKS else None

    def request(
        self, now: float, room: int | None = None, hears: str | None = None
    ) -> BlockRequest | DeltaRequest | None:
        """What to ask now, or None. ``room``: blocks that the limits allow; ``hears``: digest whose cast is heard."""
        question = self._question
        if question is not None:
            if not question.over(now):
                return question.request(now)
            self._without_delta(question.target, "the hub does not answer" if not question.being_made else "not made")
        part = self._part
        return part.download.request(now, room, hears == part.download.digest) if part else None

    def reconnected(self, now: float) -> None:
        """A new connection: ask again at once."""
        if self._question:
            self._question = Question(self._question.target, self._question.base)
        if self._part:
            self._part.download.reconnected(now)

    def receive(self, block: Block, now: float, cast: bool = False) -> None:
        """A block came. Raises BlockRefused (counted, nothing changed) or the error that ends this fetch."""
        part = self._part
        if part is None:
            raise BlockRefused(f"block of {block.digest[:12]}: nothing is on its way")
        try:
            wanted = part.download.receive(block, now, cast)
        except DownloadFailed as error:
            if part.base is None or error.code == "too-slow":
                raise
            self._blobs.remove(part.download.digest)
            self._without_delta(part.blob, str(error))
            return
        if not wanted:
            return
        part.partial.write(block.index, block.data)
        part.download.wrote(block.index, now)
        if part.download.done:
            self._finish(part)

    def offer(self, offer: DeltaOffer, now: float) -> None:
        """The hub's answer to the question. Raises BlockRefused when nothing was asked."""
        question = self._question
        if question is None or offer.target != question.target.sha256:
            raise BlockRefused(f"delta offer for {offer.target[:12]}: it was not asked for")
        if offer.state == "wait":
            question.wait(now)
            return
        target, delta = question.target, offer.delta
        if offer.state == "none" or delta is None or delta == target.sha256:
            self._without_delta(target, "there is none")
        elif offer.base != question.base or not self._blobs.has(question.base):
            self._without_delta(target, "its base is not here")
        elif not 0 < offer.size <= MAX_DELTA_SHARE * target.size:
            self._without_delta(target, f"it has {offer.size} bytes of {target.size}")
        else:
            self._question = None
            self._by_delta[target.sha256] = offer.size
            self._blobs.require_room({delta: offer.size, target.sha256: target.size})
            self._open(target, delta, offer.size, question.base)

    def work(self) -> None:
        """One step of making a blob from a delta; nothing when there is none to be made."""
        patch = self._patch
        if patch is None:
            return
        try:
            for _ in range(PATCH_BLOCKS):
                index, data = next(patch.blocks, (-1, b""))
                if index < 0:
                    patch.partial.finish()
                    log.info("blob %s: made from %s", patch.blob.sha256[:12], patch.base[:12])
                    self._patched(patch)
                    return
                if index not in patch.partial.have:
                    patch.partial.write(index, data)
        except (BadDelta, BadBlob, OSError) as error:
            patch.partial.discard()
            self._patched(patch, str(error))

    def suspend(self) -> None:
        """Make durable what came, to resume later. Raises DiskError."""
        for on_its_way in (self._part, self._patch):
            if on_its_way:
                on_its_way.partial.save()

    @property
    def _patching(self) -> str:
        return self._patch.blob.sha256 if self._patch else ""

    def _finish(self, part: Part) -> None:
        """Verify what came; a bad one is fetched once more, then it is given up."""
        digest = part.download.digest
        self._part = None
        try:
            part.partial.finish()
        except BadBlob as error:
            if digest not in self._again:
                self._again.add(digest)
                self._open(part.blob, digest, part.download.size, part.base)
            elif part.base is not None:
                self._without_delta(part.blob, str(error))
            else:
                raise
            return
        if part.base is None:
            self._open_next()
        else:
            self._begin_patch(part.blob, part.base, digest)

    def _begin_patch(self, blob: Blob, base: str, delta: str) -> None:
        blocks = enumerate(patched(self._blobs.path(base), self._blobs.path(delta), blob.size, BLOCK_SIZE))
        self._patch = Patch(blob, base, delta, blocks, self._blobs.open_partial(blob.sha256, blob.size, BLOCK_SIZE))

    def _patched(self, patch: Patch, failed: str | None = None) -> None:
        self._patch = None
        self._blobs.remove(patch.delta)
        if failed is None:
            self._open_next()
        else:
            self._without_delta(patch.blob, failed)

    def _without_delta(self, blob: Blob, why: str) -> None:
        """Fetch the blob itself."""
        log.info("blob %s: fetched whole, no delta: %s", blob.sha256[:12], why)
        self._question = None
        self._whole_only.add(blob.sha256)
        self._by_delta.pop(blob.sha256, None)
        self._open(blob, blob.sha256, blob.size)

    def _open_next(self) -> None:
        """Open the next blob that is missing; none missing: done."""
        if self._manifest is None:
            envelope = self._blobs.read(self.duty.bundle, MAX_ENVELOPE)
            if envelope is None:
                self._open(Blob(sha256=self.duty.bundle, size=self.duty.size), self.duty.bundle, self.duty.size)
                return
            try:
                self._manifest = self._check(envelope)
            except EdgewiseError:
                self._blobs.remove(self.duty.bundle)
                raise
            self._blobs.require_room({blob.sha256: blob.size for blob in self._manifest.blobs.values()})
        for role, blob in sorted(self._manifest.blobs.items(), key=lambda item: (item[1].size, item[0])):
            if not self._blobs.has(blob.sha256):
                base = self._bases.get(role)
                if base is not None and self._worth_a_delta(blob, base):
                    self._question = Question(blob, base)
                else:
                    self._open(blob, blob.sha256, blob.size)
                return
        self.done = True

    def _worth_a_delta(self, blob: Blob, base: str) -> bool:
        """It is large, was not tried in vain, its base is here, and not half of it is, from before a restart."""
        if blob.size < MIN_DELTA_BYTES or blob.sha256 in self._whole_only or not self._blobs.has(base):
            return False
        partial = self._blobs.open_partial(blob.sha256, blob.size, BLOCK_SIZE)
        return 2 * len(partial.have) <= partial.blocks

    def _open(self, blob: Blob, digest: str, size: int, base: str | None = None) -> None:
        """Fetch ``digest``: the blob itself, or a delta to it from ``base``."""
        if base is not None and self._blobs.has(digest):
            self._begin_patch(blob, base, digest)
            return
        partial = self._blobs.open_partial(digest, size, BLOCK_SIZE)
        self._part = Part(blob, Download(digest, size, partial.have, spread=self._spread), partial, base)
        if self._part.download.done:
            self._finish(self._part)
