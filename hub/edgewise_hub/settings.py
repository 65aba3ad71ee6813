"""Settings of the hub: environment first, then the command line. Refuses what would not be safe."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edgewise.errors import EdgewiseError
from edgewise.wire.control import Transfer


class SettingsError(EdgewiseError):
    """A setting that cannot be used."""

    code = "bad-setting"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``data``: the hub's folder (database, blobs, keys, broker). ``broker_url`` None spawns mosquitto.
    ``window_s`` and ``trial_s`` go to the devices in their desired state; ``tick_s``: how often rollouts are judged.
    ``cast_from``: so many devices that ask for one blob at a time make a cast of it. ``download_bytes_s`` and
    ``quiet_hours`` (each ``HH:MM-HH:MM``, the device's local time) limit every device's downloads. ``webhook_url``:
    where alerts are posted, signed with ``webhook_secret``; https, or http on this machine where
    ``webhook_loopback``. ``calibrate_hour`` (UTC, 0 to 23): when drift alarms are calibrated each night; None: only
    when asked for."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8470
    broker_port: int = 0
    broker_url: str | None = None
    database_url: str = ""
    profiles: tuple[Path, ...] = ()
    window_s: float = 60.0
    trial_s: float = 30.0
    tick_s: float = 1.0
    workers: int = 1
    retention_s: float = 30 * 86400.0
    cast_from: int = 4
    download_bytes_s: int | None = None
    quiet_hours: tuple[str, ...] = ()
    webhook_url: str = field(default="", repr=False)
    webhook_secret: str = field(default="", repr=False)
    webhook_loopback: bool = False
    calibrate_hour: int | None = None

    def __post_init__(self) -> None:
        if not _is_loopback(self.host):
            raise SettingsError(
                f"host {self.host}: the hub listens on loopback only until TLS is configured; use 127.0.0.1 "
                "and a TLS proxy before it"
            )
        try:
            msgspec.convert({"bytes_s": self.download_bytes_s, "quiet": list(self.quiet_hours)}, Transfer)
        except msgspec.ValidationError as error:
            raise SettingsError(f"EDGEWISE_DOWNLOAD_BYTES_S, EDGEWISE_QUIET_HOURS: {error}") from error
        if self.calibrate_hour is not None and not 0 <= self.calibrate_hour <= 23:
            raise SettingsError(f"EDGEWISE_CALIBRATE_HOUR: expected 0 to 23, got {self.calibrate_hour}")
        if not self.database_url:
            object.__setattr__(self, "database_url", f"sqlite:///{self.data / 'hub.db'}")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, **given: object) -> Settings:
        """Settings from ``EDGEWISE_*``; what is ``given`` (the command line) wins unless None. Raises SettingsError."""
        values: dict[str, object] = {"data": Path(environ.get("EDGEWISE_DATA", ".edgewise"))}
        readers: dict[str, tuple[str, Callable[[str], object]]] = {
            "EDGEWISE_HOST": ("host", str),
            "EDGEWISE_PORT": ("port", int),
            "EDGEWISE_BROKER_PORT": ("broker_port", int),
            "EDGEWISE_BROKER_URL": ("broker_url", str),
            "EDGEWISE_DATABASE_URL": ("database_url", str),
            "EDGEWISE_WINDOW_S": ("window_s", float),
            "EDGEWISE_TRIAL_S": ("trial_s", float),
            "EDGEWISE_TICK_S": ("tick_s", float),
            "EDGEWISE_WORKERS": ("workers", int),
            "EDGEWISE_RETENTION_S": ("retention_s", float),
            "EDGEWISE_CAST_FROM": ("cast_from", int),
            "EDGEWISE_DOWNLOAD_BYTES_S": ("download_bytes_s", int),
            "EDGEWISE_QUIET_HOURS": ("quiet_hours", _spans),
            "EDGEWISE_WEBHOOK_URL": ("webhook_url", str),
            "EDGEWISE_WEBHOOK_SECRET": ("webhook_secret", str),
            "EDGEWISE_WEBHOOK_LOOPBACK": ("webhook_loopback", _yes),
            "EDGEWISE_CALIBRATE_HOUR": ("calibrate_hour", int),
        }
        for name, (key, read) in readers.items():
            if environ.get(name):
                try:
                    values[key] = read(environ[name])
                except ValueError as error:
                    raise SettingsError(
                        f"{name}: expected {getattr(read, '__name__', 'a value')}, got {environ[name]!r}"
                    ) from error
        values.update({key: value for key, value in given.items() if value is not None})
        return cls(**values)  # type: ignore[arg-type]


def _yes(text: str) -> bool:
    """1 or 0."""
    if text not in ("0", "1"):
        raise ValueError(text)
    return text == "1"


def _spans(text: str) -> tuple[str, ...]:
    """Comma-separated spans of the day."""
    return tuple(part.strip() for part in text.split(","))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
