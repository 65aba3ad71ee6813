"""The guide "Serve on a device" does what it says: its shell blocks are run, in order, in one shell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "serve-on-a-device.md"


def test_the_guide_does_what_it_says(new_world, good, tmp_path):
    world = new_world()
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    script = "\n".join(blocks)
    for said, here in (
        ("https://hub.example:8443", world.url),
        ("digits:1", f"clusters:{good}"),
        ("quality digits", "quality clusters"),
        ("--port 8600", "--port 0"),
    ):
        assert said in script, f"the guide does not say {said!r} any more"
        script = script.replace(said, here)
    folder = tmp_path / "guide"
    folder.mkdir()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "EDGEWISE_JOIN_TOKEN": world.client.tokens.create(groups=["all-cameras"], uses=1).token,
        "EDGEWISE_URL": world.url,
        "EDGEWISE_TOKEN": (world.data / "operator.token").read_text().strip(),
    }
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:  # the agent lives on: no pipes
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        shell.wait(timeout=240)
        world.until("the agent is there", lambda: (folder / "device" / "run.json").exists(), 1)
    finally:
        try:
            os.killpg(shell.pid, signal.SIGTERM)  # the agent that it left running
        except ProcessLookupError:
            pass
    out, err = ((tmp_path / name).read_text() for name in ("out", "err"))
    assert shell.returncode == 0, f"{out[-3000:]}\n{err[-3000:]}"
    assert "enrolled as main/camera-1 (linux-x86-64)" in out
    assert f"clusters version {good}" in out
    assert "WRONG" not in out
    world.until("the agent is gone", lambda: not (folder / "device" / "run.json").exists())
