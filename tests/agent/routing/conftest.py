"""Servers to escalate to are made by the builders of ``oip``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "oip"))
