"""Fixtures of the agent's tests; builders are in ``agent_builders``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from agent_builders import Broker, HubKey


@pytest.fixture(scope="session")
def key() -> HubKey:
    """A hub's signing key."""
    return HubKey()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A real mosquitto on a free port of the loopback."""
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()
