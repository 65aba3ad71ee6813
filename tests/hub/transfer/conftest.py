"""The ground's hub with a real broker, and its peers, serve here too."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def _ground() -> ModuleType:
    name = "hub_ground"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent.parent / "ground" / "conftest.py")
        assert spec and spec.loader
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


ground = _ground()
live, live_api, peers = ground.live, ground.live_api, ground.peers
