"""``duties.json``: what serves, what to go back to, and what failed. One small file, replaced whole.

Rules that hold here:
- the file changes first, then what it describes: after a power cut the device does what the file says;
- ``previous`` is the last confirmed bundle, kept until the active one is confirmed;
- ``attempts`` counts starts of bundles that are not confirmed, before each start, so that a crash that takes the
  supervisor or the board with it counts too;
- the functions below are pure: duties in, duties out. ``Installs`` saves them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import msgspec

from edgewise.bundle import MAX_ENVELOPE, Envelope, Manifest
from edgewise.errors import EdgewiseError, WireError
from edgewise.wire.codec import Count, Digest, Name, decode_json
from edgewise.wire.control import Failure
from edgewise_agent.store.blobs import BadBlob, BlobStore
from edgewise_agent.store.disk import Disk, DiskError, read

log = logging.getLogger(__name__)

MAX_FAILURES = 8
"""Failures remembered for one model (and the bound of the wire)."""
_BOUND = 4 * 1024 * 1024


class Install(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle on this device."""

    bundle: Digest
    version: Count
    release: Count


class ModelDuty(msgspec.Struct, frozen=True, kw_only=True):
    """What one model does here. ``confirmed``: did the active install come through its trial?"""

    active: Install
    confirmed: bool = False
    previous: Install | None = None


class Duties(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``duties.json``."""

    models: dict[Name, ModelDuty] = {}
    attempts: dict[Digest, Annotated[int, msgspec.Meta(ge=0)]] = {}
    failures: dict[Name, list[Failure]] = {}

    def active(self) -> dict[str, str]:
        """Model -> bundle that serves."""
        return {model: duty.active.bundle for model, duty in self.models.items()}

    def failed(self, model: str, bundle: str, generation: int) -> bool:
        """Was this bundle tried, and did it fail, in this generation?"""
        return any(f.bundle == bundle and f.generation == generation for f in self.failures.get(model, []))


def switch(duties: Duties, model: str, install: Install) -> Duties:
    """``install`` becomes active, on trial; going back to the last confirmed bundle needs none."""
    now = duties.models.get(model)
    last_confirmed = None if now is None else now.active if now.confirmed else now.previous
    back = last_confirmed is not None and last_confirmed.bundle == install.bundle
    duty = ModelDuty(active=install, confirmed=back, previous=None if back else last_confirmed)
    return msgspec.structs.replace(duties, models={**duties.models, model: duty})


def confirm(duties: Duties, model: str) -> Duties:
    """The active install came through its trial."""
    duty = ModelDuty(active=duties.models[model].active, confirmed=True)
    return attempts(msgspec.structs.replace(duties, models={**duties.models, model: duty}), duty.active.bundle, None)


def fail(duties: Duties, model: str, failure: Failure) -> Duties:
    """Remember a failure; if that bundle is active on trial, its predecessor is active again (or nothing is)."""
    models = dict(duties.models)
    duty = models.get(model)
    if duty is not None and not duty.confirmed and duty.active.bundle == failure.bundle:
        del models[model]
        if duty.previous is not None:
            models[model] = ModelDuty(active=duty.previous, confirmed=True)
    others = [f for f in duties.failures.get(model, []) if f.bundle != failure.bundle]
    failures = {**duties.failures, model: [*others, failure][-MAX_FAILURES:]}
    return attempts(msgspec.structs.replace(duties, models=models, failures=failures), failure.bundle, None)


def drop(duties: Duties, model: str) -> Duties:
    """The model has no duty here any more."""
    return msgspec.structs.replace(
        duties,
        models={name: duty for name, duty in duties.models.items() if name != model},
        failures={name: failed for name, failed in duties.failures.items() if name != model},
    )


def attempts(duties: Duties, bundle: str, count: int | None) -> Duties:
    """Set how often an unconfirmed bundle was started; None or 0 forgets it."""
    kept = {digest: n for digest, n in duties.attempts.items() if digest != bundle}
    return msgspec.structs.replace(duties, attempts={**kept, bundle: count} if count else kept)


class DutiesDamaged(EdgewiseError):
    """``duties.json`` is not what this agent wrote."""

    code = "duties-damaged"


class Installs:
    """The duties file, and which bundles are whole in the blob store."""

    def __init__(self, disk: Disk, path: Path, blobs: BlobStore) -> None:
        """Raises DutiesDamaged when the file is there and cannot be read."""
        self._disk, self._path, self._blobs = disk, path, blobs
        self._manifests: dict[str, Manifest] = {}
        data = read(path, _BOUND)
        try:
            self.duties = Duties() if data is None else msgspec.json.decode(data, type=Duties)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DutiesDamaged(f"{path}: {error}; remove it to install anew") from error

    def save(self, duties: Duties) -> None:
        """Replace the file, then what is in memory. Raises DiskError, and then nothing has changed."""
        if duties != self.duties:
            self._disk.replace(self._path, msgspec.json.format(msgspec.json.encode(duties)))
            self.duties = duties

    def save_or_remember(self, duties: Duties) -> None:
        """Save; where the disk refuses, go by it all the same until a restart: a failure must not be tried in a loop
        because the disk that caused it is full."""
        try:
            self.save(duties)
        except DiskError as error:
            log.error("%s; remembered until a restart", error)
            self.duties = duties

    def manifest(self, bundle: str) -> Manifest | None:
        """A bundle's manifest when its envelope is here. Signature and trust are checked by others; the digest pins
        it. One that is damaged is thrown away. Raises DiskError."""
        if bundle not in self._manifests:
            try:
                data = self._blobs.read(bundle, MAX_ENVELOPE)
                if data is None:
                    return None
                signed = bytes(msgspec.json.decode(data, type=Envelope).signed)
                self._manifests[bundle] = decode_json(signed, Manifest)
            except (BadBlob, WireError, msgspec.DecodeError, UnicodeDecodeError) as error:
                log.error("bundle %s: its manifest cannot be used: %s", bundle[:12], error)
                self._blobs.remove(bundle)
                return None
        return self._manifests[bundle]

    def whole(self, bundle: str) -> bool:
        """Are the manifest and all its blobs here?"""
        if not self._blobs.has(bundle):
            return False
        manifest = self.manifest(bundle)
        return manifest is not None and all(self._blobs.has(blob.sha256) for blob in manifest.blobs.values())

    def repair(self, bundle: str) -> bool:
        """Hash a bundle's blobs again and throw away those that are damaged; was there one? Raises DiskError."""
        manifest = self.manifest(bundle)
        self._manifests.pop(bundle, None)
        if manifest is None:
            return True
        blobs = [blob.sha256 for blob in manifest.blobs.values()]
        damaged = [digest for digest in [*blobs, bundle] if not self._blobs.verify(digest)]
        return bool(damaged)

    def collect(self, wanted: set[str]) -> int:
        """Remove the blobs of bundles that are neither active, previous nor wanted; returns how many files went."""
        bundles = set(wanted)
        for duty in self.duties.models.values():
            bundles |= {duty.active.bundle} | ({duty.previous.bundle} if duty.previous else set())
        keep = set(bundles)
        for bundle in bundles:
            manifest = self.manifest(bundle)
            keep |= {blob.sha256 for blob in manifest.blobs.values()} if manifest else set()
        for bundle in set(self._manifests) - bundles:
            del self._manifests[bundle]
        return self._blobs.collect(keep)
