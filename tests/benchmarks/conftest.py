"""Benchmarks are scripts, not a package of ours: their folder goes on the path, as `scripts/bench` has it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
