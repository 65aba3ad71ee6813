"""The folder's modules are imported by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "update"))

from agent_builders import HubKey
from small_hub import EnrollHub


@pytest.fixture(scope="session")
def enroll_hub(key: HubKey) -> Iterator[EnrollHub]:
    """A hub that only enrolls."""
    hub = EnrollHub(key)
    yield hub
    hub.close()
