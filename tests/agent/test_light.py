"""The agent installs light and alone: exactly these packages, and its two processes run with nothing else around."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from agent_builders import (
    MODEL,
    AgentProcess,
    Broker,
    HubKey,
    MiniHub,
    call,
    infer_body,
    make_bundle,
    make_desired,
    wait_for,
)

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "cffi",
    "cryptography",
    "edgewise",
    "edgewise-agent",
    "flatbuffers",
    "msgspec",
    "numpy",
    "onnxruntime",
    "packaging",
    "paho-mqtt",
    "protobuf",
    "pycparser",
}
if sys.version_info < (3, 11):  # the last onnxruntime for it is 1.23, which needs more
    PACKAGES |= {"coloredlogs", "humanfriendly", "mpmath", "sympy", "tomli", "typing_extensions"}
BUNDLED = {"pip", "setuptools", "wheel"}
OTHER_BUILDS = shutil.ignore_patterns("build", "*.egg-info")


def test_supervisor_never_imports_numpy_or_a_runtime() -> None:
    code = (
        "import sys, edgewise_agent.agent, edgewise_agent.main\n"
        "print([m for m in ('numpy', 'onnxruntime', 'uvicorn', 'asyncio') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"


def test_installs_alone_and_light_and_runs_there(tmp_path: Path, key: HubKey, broker: Broker) -> None:
    # Copies: pip builds where the sources lie, and what it leaves there would get into the next wheel.
    sources = [shutil.copytree(ROOT / room, tmp_path / room, ignore=OTHER_BUILDS) for room in ("sdk", "agent")]
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    constraints = ROOT / "constraints" / f"py{sys.version_info.major}{sys.version_info.minor}.txt"
    pins = ["-c", str(constraints)] if constraints.exists() else []
    installed = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-input", *pins, *sources],
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json"], capture_output=True, text=True, check=True
    )
    assert {package["name"].lower() for package in json.loads(listed.stdout)} - BUNDLED == PACKAGES
    status = subprocess.run(
        [environment / "bin" / "edgewise-agent", "status", "--data", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert status.returncode == 1 and "not enrolled" in status.stderr

    agent, hub = AgentProcess(tmp_path / "device", key, broker.url, str(python)), MiniHub(key, broker)
    try:
        agent.start()
        bundle = make_bundle(key, 1)
        hub.publish(make_desired(1, bundle), bundle)
        wait_for(lambda: hub.runs(bundle), "the light installation serves the bundle")
        assert call(f"{agent.url}/v2/models/{MODEL}/infer", infer_body())[0] == 200
    finally:
        agent.stop()
        hub.close()
