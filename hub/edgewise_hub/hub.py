"""What the parts of a running hub share: handed to API handlers, background work and job workers alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgewise.profile import Profile, load_all
from edgewise_hub.blobs import Blobs
from edgewise_hub.database import TENANT, Database
from edgewise_hub.events import Events
from edgewise_hub.mqtt.accounts import Accounts
from edgewise_hub.mqtt.inbox import Outbound
from edgewise_hub.settings import Settings
from edgewise_hub.signing import Signer


def _nowhere(_message: Outbound) -> None:
    """A job worker has no connection: what it changes is published by the hub's next tick."""


def _never() -> bool:
    return False


@dataclass
class Hub:
    """``publish`` hands one message to the broker connection, from any thread, after a commit; while
    ``broker_connected`` is false it is dropped, and everything retained is published again once it is true.
    ``broker_url`` is what devices are told; ``accounts`` makes theirs. ``blob_bytes_sent`` counts since start."""

    settings: Settings
    database: Database
    blobs: Blobs
    signer: Signer
    profiles: dict[str, Profile]
    events: Events = field(default_factory=Events)
    publish: Callable[[Outbound], None] = _nowhere
    tenant: str = TENANT
    started_at: float = 0.0
    broker_connected: Callable[[], bool] = _never
    broker_url: str = ""
    accounts: Accounts | None = None
    blob_bytes_sent: int = 0

    @classmethod
    def open(cls, settings: Settings) -> Hub:
        """The shared parts, from the settings; nothing is started. Raises ProfileError."""
        return cls(
            settings=settings,
            database=Database(settings.database_url),
            blobs=Blobs(settings.data / "blobs"),
            signer=Signer.load_or_create(settings.data / "signing.key"),
            profiles=load_all(settings.profiles),
            started_at=time.time(),
        )
