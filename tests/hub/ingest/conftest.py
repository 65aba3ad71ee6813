"""The fleet of ``cameras.py`` against ``hub``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgewise_hub.hub import Hub

sys.path.insert(0, str(Path(__file__).parent))

from cameras import Cameras


@pytest.fixture
def cameras(hub: Hub, tmp_path: Path) -> Cameras:
    """No device and no version yet."""
    return Cameras(hub, tmp_path)
