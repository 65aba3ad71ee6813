"""Tables of access: API tokens, one-time codes, console sessions. Only hashes of secrets are kept."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from edgewise_hub.database import Base, OfTenant


class ApiToken(OfTenant, Base):
    """A bearer token."""

    __tablename__ = "api_tokens"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float]


class SignInCode(OfTenant, Base):
    """A one-time code, typed into the console within minutes."""

    __tablename__ = "sign_in_codes"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[float]


class ConsoleSession(OfTenant, Base):
    """A signed-in browser; its cookie's sha256 and its CSRF token's."""

    __tablename__ = "console_sessions"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    csrf_sha256: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[float]
    created_at: Mapped[float]
