"""One hub folder with compiled versions is made once; every test starts from a copy of it."""

from __future__ import annotations

import fcntl
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _beside(name: str) -> ModuleType:
    """Import a module of this folder (importlib mode puts no folder on sys.path)."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
        assert spec and spec.loader
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


models, worlds = _beside("models"), _beside("world")

PROFILES = ["linux-x86-64", "raspberry-pi-5"]
VERSIONS: dict[int, dict[str, Any]] = {
    1: {"seed": 0},
    2: {"seed": 1, "padding_mb": 64},
    3: {"seed": 2, "nan_when_negative": True},
    4: {"seed": 3, "crash_on_minus_one": True},
}
GOOD, LARGE, GIVES_NAN, CRASHES = VERSIONS


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A hub's folder with model ``clusters``, versions as in VERSIONS, compiled for two profiles."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "template"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:  # one of pytest's workers makes it for all
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            _make(folder)
            (folder / "made").touch()
    return folder / "hub"


def _make(folder: Path) -> None:
    with worlds.world(folder) as world:
        world.start_hub()
        jobs = []
        for version, traits in VERSIONS.items():
            model, data = models.write(folder, f"v{version}", **traits)
            assert world.client.models.register_onnx("clusters", model, data).version == version
            jobs.append(world.client.compile("clusters", version, PROFILES))
        for job in jobs:
            done = world.client.jobs.wait(job.id)
            assert done.state == "done", done.error


@pytest.fixture
def new_world(template: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a hub from the template: ``new_world(window_s=1.0, trial_s=1.0)``."""
    with ExitStack() as stack:

        def start(**settings: float) -> Any:
            world = stack.enter_context(worlds.world(tmp_path, template, **settings))
            world.start_hub()
            return world

        yield start


@pytest.fixture(name="worlds_module", scope="session")
def _worlds() -> ModuleType:
    return worlds


@pytest.fixture(name="models", scope="session")
def _models() -> ModuleType:
    return models


@pytest.fixture(name="until")
def _until() -> Any:
    return worlds.until


@pytest.fixture
def good() -> int:
    """A version that is fine."""
    return GOOD


@pytest.fixture
def large() -> int:
    """A good version of many megabytes."""
    return LARGE


@pytest.fixture
def gives_nan() -> int:
    """Answers some live inputs with NaN."""
    return GIVES_NAN


@pytest.fixture
def crashes() -> int:
    """Kills its process on some live inputs."""
    return CRASHES
