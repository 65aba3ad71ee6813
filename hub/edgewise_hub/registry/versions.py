"""Versions of models and the bundles compiled from them: registered, found, and shown with their lineage.

Rules that hold here:
- a version's number rises by one within its model, and its release with it; neither is ever used again;
- a bundle *is* the sha256 of its signed manifest; that blob and all that the manifest names are on the hub before its
  row is, so that a bundle which can be named can be fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from edgewise.bundle import MAX_ENVELOPE, Manifest, digest, seal
from edgewise.errors import BundleError
from edgewise_hub.hub import Hub
from edgewise_hub.registry.tables import Bundle, BundleBlob, Model, Version

MANIFEST_ROLE = "manifest"
SKETCH_ROLE = "sketch"


def register(
    session: Session,
    hub: Hub,
    model: str,
    source: dict[str, Any],
    lineage: dict[str, Any],
    metrics: dict[str, Any],
    note: str,
    now: float,
) -> Version:
    """The next version of ``model``, which is made if it is new. Call it in a write transaction."""
    if session.get(Model, (hub.tenant, model)) is None:
        session.add(Model(tenant_id=hub.tenant, name=model, created_at=now))
    newest = session.scalar(
        select(func.max(Version.version)).where(Version.tenant_id == hub.tenant, Version.model == model)
    )
    number = (newest or 0) + 1
    version = Version(
        tenant_id=hub.tenant,
        model=model,
        version=number,
        release=number,
        source=source,
        lineage=lineage,
        metrics=metrics,
        note=note,
        created_at=now,
    )
    session.add(version)
    session.flush()
    return version


def add_bundle(
    session: Session,
    hub: Hub,
    manifest: Manifest,
    files: dict[str, Path],
    reference: Path,
    report: dict[str, Any],
    now: float,
) -> Bundle:
    """Keep a compiled bundle: its blobs (``files`` by role), the signed manifest, and its ``reference``.

    Raises BundleError when the files are not what the manifest names, or there is no sketch spec; BlobError when they
    cannot be kept.
    """
    if set(files) != set(manifest.blobs):
        raise BundleError(f"bundle: expected files for {sorted(manifest.blobs)}, got {sorted(files)}")
    if SKETCH_ROLE not in manifest.blobs:
        raise BundleError(f"bundle: expected a blob {SKETCH_ROLE!r}, got {sorted(manifest.blobs)}")
    for role, path in files.items():
        kept = hub.blobs.put_file(path)
        if kept != manifest.blobs[role].sha256:
            raise BundleError(f"blob {role}: expected sha256 {manifest.blobs[role].sha256[:12]}, got {kept[:12]}")
    envelope = seal(manifest, hub.signer.sign)
    if len(envelope) > MAX_ENVELOPE:
        raise BundleError(f"manifest: at most {MAX_ENVELOPE} bytes signed, got {len(envelope)}")
    identifier = digest(envelope)
    existing = session.get(Bundle, (hub.tenant, identifier))
    if existing is not None:
        return existing
    hub.blobs.put(envelope)
    sizes = {role: (blob.sha256, blob.size) for role, blob in manifest.blobs.items()}
    sizes[MANIFEST_ROLE] = (identifier, len(envelope))
    bundle = Bundle(
        tenant_id=hub.tenant,
        digest=identifier,
        model=manifest.model,
        version=manifest.version,
        profile=manifest.profile,
        size=len(envelope),
        total_size=sum(dict(sizes.values()).values()),
        spec=manifest.blobs[SKETCH_ROLE].sha256,
        reference=hub.blobs.put_file(reference),
        report=report,
        created_at=now,
    )
    session.add(bundle)
    for role, (sha256, size) in sizes.items():
        session.add(BundleBlob(tenant_id=hub.tenant, bundle=identifier, role=role, sha256=sha256, size=size))
    session.flush()
    return bundle


def find_bundle(session: Session, hub: Hub, model: str, version: int, profile: str) -> Bundle | None:
    """The newest bundle of a version for a profile, or None when it has not been compiled for it."""
    return session.scalars(
        select(Bundle)
        .where(
            Bundle.tenant_id == hub.tenant,
            Bundle.model == model,
            Bundle.version == version,
            Bundle.profile == profile,
        )
        .order_by(Bundle.created_at.desc(), Bundle.digest)
        .limit(1)
    ).first()
