"""Tables of the registry."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from edgewise_hub.database import Base, OfTenant


class Model(OfTenant, Base):
    """A model by name. ``floor``: the lowest release that any device may serve; rises when a rollout completes.
    ``quality``: ``wire.quality.Quality`` as JSON, what every device is told of its inputs."""

    __tablename__ = "models"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    floor: Mapped[int] = mapped_column(default=0)
    quality: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[float]


class Version(OfTenant, Base):
    """A version. ``source``: {"kind": "recipe", "recipe": sha256, "weights": sha256, "config": {...}},
    {"kind": "onnx", "model": sha256, "data": sha256} or {"kind": "agent", "wheels": [sha256]}. ``lineage``: parent
    version, training run, data digests, environment. ``release`` equals ``version`` here and is what the floor is
    compared with."""

    __tablename__ = "versions"
    model: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    release: Mapped[int]
    source: Mapped[dict[str, Any]]
    lineage: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]]
    note: Mapped[str] = mapped_column(default="")
    created_at: Mapped[float]


class Bundle(OfTenant, Base):
    """A version compiled for a profile. ``digest`` is the sha256 of the signed manifest's bytes (a blob)."""

    __tablename__ = "bundles"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    profile: Mapped[str] = mapped_column(String(64))
    size: Mapped[int]
    """Bytes of the signed manifest."""
    total_size: Mapped[int]
    """Bytes of all blobs that a device fetches, the manifest's own among them."""
    spec: Mapped[str] = mapped_column(String(64))
    """sha256 of the sketch spec; empty for a release of the agent, which has no windows."""
    reference: Mapped[str] = mapped_column(String(64))
    """sha256 of reference.npz, which stays on the hub; empty as above."""
    report: Mapped[dict[str, Any]]
    created_at: Mapped[float]
    __table_args__ = (Index("ix_bundles_version", "tenant_id", "model", "version", "profile"),)


class BundleBlob(OfTenant, Base):
    """Which blobs a bundle's device may fetch; role ``manifest`` is the signed manifest itself."""

    __tablename__ = "bundle_blobs"
    bundle: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int]
    __table_args__ = (Index("ix_bundle_blobs_sha256", "tenant_id", "sha256"),)
