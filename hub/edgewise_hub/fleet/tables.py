"""Tables of the fleet."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from edgewise_hub.database import Base, OfTenant


class Device(OfTenant, Base):
    """An enrolled device. ``reported`` is its newest Reported message; ``progress`` its newest Progress message of each
    model, {model: message}; ``refused`` counts its refused messages."""

    __tablename__ = "devices"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    profile: Mapped[str] = mapped_column(String(64))
    public_key: Mapped[str] = mapped_column(String(64), unique=True)
    join_token_id: Mapped[str] = mapped_column(String(32))
    enrolled_at: Mapped[float]
    revoked_at: Mapped[float | None]
    online: Mapped[bool] = mapped_column(default=False)
    session: Mapped[int] = mapped_column(default=0)
    last_seen: Mapped[float | None]
    reported: Mapped[dict[str, Any] | None]
    progress: Mapped[dict[str, Any] | None]
    refused: Mapped[int] = mapped_column(default=0)


class Membership(OfTenant, Base):
    """A device in a group."""

    __tablename__ = "memberships"
    device_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    group: Mapped[str] = mapped_column("group_name", String(64), primary_key=True)
    __table_args__ = (Index("ix_memberships_group", "tenant_id", "group_name"),)


class JoinToken(OfTenant, Base):
    """Lets a device ask for its identity; only its sha256 is kept."""

    __tablename__ = "join_tokens"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    groups: Mapped[list[Any]]
    uses_left: Mapped[int]
    expires_at: Mapped[float]
    created_at: Mapped[float]


class Assignment(OfTenant, Base):
    """Which version of a model a device shall serve. Written by rollouts; read when a desired state is made."""

    __tablename__ = "assignments"
    device_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int]
    updated_at: Mapped[float]


class DesiredState(OfTenant, Base):
    """A device's newest desired state, signed. Published after the commit, and again at start while
    ``published`` < ``generation``. ``content`` is the unsigned wish, to see whether it changed."""

    __tablename__ = "desired_states"
    device_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    generation: Mapped[int]
    published: Mapped[int] = mapped_column(default=0)
    content: Mapped[dict[str, Any]]
    envelope: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[float]
