"""Puts ``runtime_models`` on the path: the small network of the contract, in every format."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
