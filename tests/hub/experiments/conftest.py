"""The fleet of ``ingest/cameras.py`` against ``hub``, and simulated devices for what is pure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgewise_hub.hub import Hub

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "ingest"))

from cameras import Cameras


@pytest.fixture
def cameras(hub: Hub, tmp_path: Path) -> Cameras:
    """No device and no version yet."""
    return Cameras(hub, tmp_path)
