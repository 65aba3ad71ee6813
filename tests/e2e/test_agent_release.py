"""The agent's own update, as an operator does it: wheels, one command, a rollout; a bad release goes back by itself."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgewise
import edgewise_agent

pytestmark = pytest.mark.e2e

AGENT = "edgewise-agent"
CRASHES = "import sys; sys.exit(3)"


def wheel(path, package, changed):
    """A package of this tree as a wheel. ``changed``: other text for some of its files."""
    root = Path(package.__file__).parent
    files = {
        file.relative_to(root.parent).as_posix(): file.read_text()
        for file in sorted(root.rglob("*"))
        if file.suffix in (".py", ".toml", ".json")
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in {**files, **changed}.items():
            archive.writestr(name, text)
        archive.writestr(f"{root.name}-9.dist-info/METADATA", "Metadata-Version: 2.1\n")
    path.write_bytes(data.getvalue())
    return path


def release(folder, version, **changed):
    """The two wheels of an agent that says that it is of ``version``."""
    folder.mkdir()
    init = Path(edgewise_agent.__file__).read_text().replace(f'"{edgewise_agent.__version__}"', f'"{version}"')
    ours = {"edgewise_agent/__init__.py": init, **{f"edgewise_agent/{name}.py": text for name, text in changed.items()}}
    return [
        wheel(folder / "edgewise-9-py3-none-any.whl", edgewise, {}),
        wheel(folder / "edgewise_agent-9-py3-none-any.whl", edgewise_agent, ours),
    ]


@pytest.fixture
def command(tmp_path):
    """``edgewise ...`` as a process: (exit status, what it printed)."""

    def run(world, *arguments):
        ran = subprocess.run(
            [sys.executable, "-c", "from edgewise.cli import main; main()", *map(str, arguments)],
            env={
                **os.environ,
                "EDGEWISE_URL": world.url,
                "EDGEWISE_TOKEN": (world.data / "operator.token").read_text().strip(),
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        return ran.returncode, ran.stdout + ran.stderr

    return run


def test_a_release_of_the_agent_is_rolled_out_and_a_bad_one_goes_back_by_itself(new_world, good, command, tmp_path):
    world = new_world()
    cameras = world.join("camera-1", "camera-2", launched=True)
    world.roll_out(good)

    def agents():
        return {device.id: device.agent for device in world.client.devices.list()}

    def confirmed(version):
        """Every device runs and has confirmed this release, and serves the model as before."""
        found = [own for d in world.client.devices.list() for own in d.models if own.model == AGENT]
        return (
            len(found) == 2
            and all(own.confirmed_version == own.running_version == version for own in found)
            and [camera.serving("clusters") for camera in cameras] == [good, good]
        )

    assert set(agents().values()) == {edgewise_agent.__version__}
    code, said = command(world, "agent", "release", *release(tmp_path / "nine", "9.1"), "--note", "the ninth")
    assert code == 0 and f"{AGENT}:1 is registered; next: edgewise rollout create {AGENT}:1" in said, said
    code, said = command(world, "rollout", "create", f"{AGENT}:1", "--stage", "1", "--stage", "100%", "--watch")
    assert code == 0 and "completed" in said, said
    assert set(agents().values()) == {"9.1"}
    world.until("both serve again", lambda: confirmed(1))
    assert "9.1" in command(world, "device", "show", "camera-1")[1]

    code, said = command(world, "agent", "release", *release(tmp_path / "ten", "9.2", main=CRASHES), "--json")
    assert code == 0 and json.loads(said)["version"] == 2, said
    code, said = command(world, "rollout", "create", f"{AGENT}:2", "--stage", "1", "--stage", "100%", "--watch")
    assert code == 3 and "rolled-back" in said and "crash-loop" in said, said
    world.until("both run the release of before", lambda: confirmed(1))
    assert set(agents().values()) == {"9.1"}
    rollout = world.client.rollouts.get(world.client.rollouts.list(model=AGENT)[0].id)
    assert sorted(device.state for device in rollout.devices) == ["rolled-back", "waiting"], "one device alone tried it"


def test_the_first_release_is_taken_back_to_what_pip_installed(new_world, good, command, tmp_path):
    world = new_world()
    (camera,) = world.join("camera-1", launched=True)
    world.roll_out(good)
    assert command(world, "agent", "release", *release(tmp_path / "nine", "9.1"))[0] == 0
    gates = {"soak": 3600, "deadline": 7200}  # so long that a hand comes first
    rollout = world.client.rollouts.create(AGENT, 1, stages=["100%"], gates=gates).id
    world.until("it runs", lambda: world.client.rollouts.get(rollout).devices[0].state == "confirmed")
    assert world.client.devices.get("camera-1").agent == "9.1"
    world.client.rollouts.abort(rollout)
    world.until(
        "the base install runs again", lambda: world.client.devices.get("camera-1").agent == edgewise_agent.__version__
    )
    world.until("and serves", lambda: camera.serving("clusters") == good)
    assert world.client.rollouts.get(rollout).devices[0].state == "rolled-back"
