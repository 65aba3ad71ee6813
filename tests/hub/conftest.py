"""A hub on a temporary folder, for every hub test: migrated SQLite, no broker; what it publishes is collected."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise import profile
from edgewise_hub import migrations
from edgewise_hub.blobs import Blobs
from edgewise_hub.database import Database
from edgewise_hub.hub import Hub
from edgewise_hub.mqtt.inbox import Outbound
from edgewise_hub.settings import Settings
from edgewise_hub.signing import Signer


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite file at the newest revision: copied by each test, since migrating takes longer."""
    path = tmp_path_factory.mktemp("migrated") / "hub.db"
    database = Database(f"sqlite:///{path}")
    migrations.upgrade(database)
    database.close()
    return path


@pytest.fixture
def hub_published() -> list[Outbound]:
    """What ``hub`` has published, oldest first."""
    return []


@pytest.fixture
def hub(tmp_path: Path, migrated_database: Path, hub_published: list[Outbound]) -> Iterator[Hub]:
    """A Hub without a broker; its connection counts as up, and messages go to ``hub_published``."""
    data = tmp_path / "hub"
    data.mkdir()
    shutil.copy(migrated_database, data / "hub.db")
    settings = Settings(data=data)
    made = Hub(
        settings=settings,
        database=Database(settings.database_url),
        blobs=Blobs(data / "blobs"),
        signer=Signer.load_or_create(data / "signing.key"),
        profiles=profile.load_all(),
        publish=hub_published.append,
        broker_connected=lambda: True,
        broker_url="mqtt://127.0.0.1:1883",
    )
    yield made
    made.database.close()
