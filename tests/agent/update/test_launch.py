"""The launcher with real processes: a trial that crashes, hangs or is not confirmed is taken back by itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
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
from releases import release

import edgewise_agent
from edgewise.wire.control import DesiredModel
from edgewise_agent.launch import Launcher
from edgewise_agent.store.disk import Disk
from edgewise_agent.update import AGENT, slots
from edgewise_agent.update.slots import Release, Slots

R1 = Release("a" * 64, 1, 1)
SAYS = """
import os, socket, sys, time
said = socket.socket(fileno=int(os.environ["EDGEWISE_AGENT_LAUNCH_FD"]))
open(os.environ["EDGEWISE_TEST_STARTS"], "a").write(os.environ["EDGEWISE_AGENT_SLOT"])
"""
CRASHES = SAYS + "sys.exit(3)"
HANGS = SAYS + "said.send(b'READY=1'); time.sleep(600)"
NEVER_CONFIRMS = SAYS + "said.send(b'READY=1')\nwhile True: said.send(b'WATCHDOG=1'); time.sleep(0.1)"


def staged(data: Path, main: str, within_s: float = 600.0) -> None:
    """Slot a holds a release whose whole agent is ``main``, and it is on trial."""
    package = data / "agent" / "a" / "edgewise_agent"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "main.py").write_text(main)
    (data / slots.FILE).write_bytes(slots.encode(slots.stage(Slots(), R1, within_s)))


@pytest.mark.parametrize(
    ("main", "within_s", "code", "starts"),
    [(CRASHES, 600.0, "crash-loop", 3), (HANGS, 600.0, "crash-loop", 3), (NEVER_CONFIRMS, 6.0, "not-confirmed", 1)],
    ids=["crashes", "hangs", "never confirms"],
)
def test_a_bad_release_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: str, within_s: float, code: str, starts: int
) -> None:
    monkeypatch.setenv("EDGEWISE_TEST_STARTS", str(tmp_path / "starts"))
    staged(tmp_path, main, within_s)
    launcher = Launcher(tmp_path, [], Disk(), hang_s=2.0, backoff_s=[0.05])
    assert launcher.run() == 1, "the base install says that it is not enrolled"
    assert (tmp_path / "starts").read_text() == "a" * starts
    kept = slots.load(tmp_path)
    assert kept.trial is None and kept.active == "base" and kept.failed is not None
    assert (kept.failed.bundle, kept.failed.code) == (R1.bundle, code)


def test_what_the_agent_says_reaches_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWISE_TEST_STARTS", str(tmp_path / "starts"))
    staged(tmp_path, NEVER_CONFIRMS)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        process = subprocess.Popen(
            [sys.executable, "-m", "edgewise_agent.launch", "--data", str(tmp_path)],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        try:
            assert [systemd.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


class Launched(AgentProcess):
    """Started as the unit starts it."""

    module = ("edgewise_agent.launch",)


@pytest.fixture
def hub(key: HubKey, broker: Broker) -> Iterator[MiniHub]:
    hub = MiniHub(key, broker)
    yield hub
    hub.close()


def wishes(generation: int, model: Any, own: Any) -> Any:
    """A model, and a release of the agent."""
    desired = make_desired(generation, model)
    return make_desired(
        generation,
        model,
        models={**desired.models, AGENT: DesiredModel(duties={"active": own.duty}, window_s=0.5, trial_s=0.2)},
    )


def test_the_agent_updates_itself_and_a_bad_release_is_told_and_not_tried_again(
    tmp_path: Path, key: HubKey, broker: Broker, hub: MiniHub
) -> None:
    agent = Launched(tmp_path / "agent", key, broker.url)
    model = make_bundle(key, 1)
    try:
        agent.start()
        good, bad = release(key, 2), release(key, 3, main="import sys; sys.exit(3)")
        hub.publish(wishes(1, model, good), model, good)

        def confirmed() -> bool:
            own = hub.reported.models.get(AGENT) if hub.reported else None
            return own is not None and own.running == own.confirmed == good.digest

        wait_for(confirmed, "release 2 runs and is confirmed", 120)
        assert hub.reported is not None and hub.reported.agent == "9.2"
        assert hub.steps(good)[-3:] == ["installed", "trial", "confirmed"]
        wait_for(lambda: hub.runs(model), "and the model is served")

        hub.publish(wishes(2, model, bad), bad)
        wait_for(lambda: "failed" in hub.steps(bad), "release 3 is taken back", 180)
        wait_for(lambda: hub.reported and hub.reported.models[AGENT].failed, "and reported")
        wait_for(confirmed, "release 2 runs again", 120)
        failure = hub.reported.models[AGENT].failed[0]
        assert (failure.bundle, failure.code, failure.generation) == (bad.digest, "crash-loop", 2)
        wait_for(lambda: hub.runs(model), "the model is served again")
        assert call(f"{agent.url}/v2/models/{MODEL}/infer", infer_body())[1]["model_version"] == "1"
        state = json.loads((agent.data / slots.FILE).read_text())
        assert (state["active"], state["trial"], state["failed"]) == ("a", None, None)

        hub.publish(make_desired(3, model))
        wait_for(
            lambda: hub.reported and hub.reported.agent == edgewise_agent.__version__, "the base install runs", 120
        )
        own = hub.reported.models[AGENT]
        assert (hub.reported.generation, own.running, own.confirmed) == (3, None, None)
        wait_for(lambda: hub.runs(model), "and serves the model")
    finally:
        agent.stop()


def test_an_agent_that_nobody_launched_says_so(tmp_path: Path, key: HubKey, broker: Broker, hub: MiniHub) -> None:
    agent = AgentProcess(tmp_path / "agent", key, broker.url)
    try:
        agent.start()
        own = release(key, 2)
        hub.publish(wishes(1, None, own), own)
        wait_for(lambda: "failed" in hub.steps(own), "refused")
        assert next(p.code for p in hub.progress if p.step == "failed") == "not-launched"
    finally:
        agent.stop()
