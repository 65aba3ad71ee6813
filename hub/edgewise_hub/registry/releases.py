"""Releases of the agent: wheels that become bundles of the reserved model, one a device profile, with no compiler.

Rules that hold here:
- the name ``edgewise-agent`` is for releases alone, and releases have no other;
- a release holds pure Python wheels, those of edgewise and edgewise-agent among them, and its bundles are signed like
  any other; the rollout of one is an ordinary rollout.
"""

from __future__ import annotations

import zipfile

from sqlalchemy.orm import Session

from edgewise.bundle import Blob, Manifest, digest, seal
from edgewise.errors import BundleError
from edgewise_hub.hub import Hub
from edgewise_hub.registry.tables import Bundle, BundleBlob, Version
from edgewise_hub.registry.versions import MANIFEST_ROLE

AGENT = "edgewise-agent"
RUNTIME = "agent"
NEEDED = ("edgewise/__init__.py", "edgewise_agent/main.py")


def check(hub: Hub, wheels: list[str]) -> None:
    """Are these blobs wheels that an agent can run from? Raises BundleError, which says what is wrong."""
    names: set[str] = set()
    for sha256 in wheels:
        try:
            with zipfile.ZipFile(hub.blobs.path(sha256)) as wheel:
                names |= set(wheel.namelist())
        except (zipfile.BadZipFile, OSError) as error:
            raise BundleError(f"wheel {sha256[:12]}: cannot be read: {error}", code="bad-wheel") from error
    built = sorted(name for name in names if name.endswith((".so", ".pyd", ".dylib")))
    if built:
        raise BundleError(f"release: expected pure Python wheels, got {built[0]}", code="bad-wheel")
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise BundleError(f"release: expected {missing[0]} in one of the wheels, got none", code="bad-wheel")


def add_bundles(session: Session, hub: Hub, version: Version, wheels: list[str], now: float) -> None:
    """One signed bundle for each device profile, inside the caller's write transaction."""
    blobs = {
        f"wheel-{index}": Blob(sha256=sha256, size=hub.blobs.path(sha256).stat().st_size)
        for index, sha256 in enumerate(wheels)
    }
    for profile in sorted(hub.profiles):
        manifest = Manifest(
            tenant=hub.tenant,
            model=version.model,
            version=version.version,
            release=version.release,
            profile=profile,
            runtime=RUNTIME,
            inputs=[],
            outputs=[],
            blobs=blobs,
            created_at=now,
        )
        envelope = seal(manifest, hub.signer.sign)
        bundle = hub.blobs.put(envelope)
        assert bundle == digest(envelope)
        session.add(
            Bundle(
                tenant_id=hub.tenant,
                digest=bundle,
                model=version.model,
                version=version.version,
                profile=profile,
                size=len(envelope),
                total_size=len(envelope) + sum(blob.size for blob in blobs.values()),
                spec="",
                reference="",
                report={},
                created_at=now,
            )
        )
        sizes = {role: (blob.sha256, blob.size) for role, blob in blobs.items()}
        sizes[MANIFEST_ROLE] = (bundle, len(envelope))
        for role, (sha256, size) in sizes.items():
            session.add(BundleBlob(tenant_id=hub.tenant, bundle=bundle, role=role, sha256=sha256, size=size))
    session.flush()
