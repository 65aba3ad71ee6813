"""A whole Edgewise on this machine: hub, broker and agents as the processes that a user starts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

import edgewise
from edgewise.client import Client

BIN = Path(sys.executable).parent
T = TypeVar("T")


def until(what: str, probe: Callable[[], T | None], seconds: float = 120.0) -> T:
    """Wait for a condition: the first true value of ``probe``. AssertionError at the deadline."""
    deadline = time.monotonic() + seconds
    last: BaseException | None = None
    while time.monotonic() < deadline:
        try:
            value = probe()
            if value:
                return value
        except (OSError, edgewise.EdgewiseError) as error:
            last = error
        threading.Event().wait(0.05)
    raise AssertionError(f"not within {seconds:.0f} s: {what}" + (f" ({last})" if last else ""))


class Process:
    """A process in a group of its own, its output in a file."""

    def __init__(self, name: str, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.name, self.folder = name, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log, (folder / f"{name}.out").open("ab") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines printed so far, by all runs of this name."""
        out = (self.folder / f"{self.name}.out").read_text()
        return [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith("\n") and line[0] == "{"]

    def suspend(self) -> None:
        """SIGSTOP: it lives and does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """kill -9 of this one process (not of its children), and wait for it."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """SIGTERM, as a user's Ctrl-C; then, should it hang, kill -9 of the whole group."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)


class Agent:
    """One device: its folder, its process, its address."""

    def __init__(self, world: World, name: str, profile: str, folder: str | None = None) -> None:
        self.world, self.name, self.profile = world, name, profile
        self.data = world.folder / "devices" / (folder or name)
        self.process: Process | None = None

    def enroll(self, token: str) -> subprocess.CompletedProcess[str]:
        """``edgewise-agent enroll``."""
        return subprocess.run(
            [
                str(BIN / "edgewise-agent"), "enroll", "--hub", self.world.url, "--name", self.name,
                "--profile", self.profile, "--data", str(self.data),
            ],
            env={**os.environ, "EDGEWISE_JOIN_TOKEN": token},
            capture_output=True,
            text=True,
            timeout=60,
        )  # fmt: skip

    def start(self, *, launched: bool = False) -> None:
        """``edgewise-agent run``, or, ``launched``, as systemd does it; returns once it is listening."""
        (self.data / "run.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "edgewise_agent.launch"] if launched else [str(BIN / "edgewise-agent"), "run"]
        self.process = Process(
            self.name,
            [*command, "--data", str(self.data), "--port", "0"],
            self.world.folder / "logs",
            {},
        )
        until(f"{self.name} listens", lambda: self.run_file() and self.run_file().get("url"))

    def run_file(self) -> dict[str, Any]:
        """What the agent wrote of itself: pid, url, child."""
        try:
            return json.loads((self.data / "run.json").read_text())  # type: ignore[no-any-return]
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    @property
    def url(self) -> str:
        """Where it serves."""
        return str(self.run_file()["url"])

    def serving(self, model: str) -> int | None:
        """The version that answers now, or None."""
        try:
            with urllib.request.urlopen(f"{self.url}/v2/models/{model}", timeout=5) as answer:
                return int(json.load(answer)["versions"][0])
        except (OSError, KeyError):
            return None

    def infer(self, model: str, inputs: list[list[float]], request: str | None = None) -> tuple[int, dict[str, Any]]:
        """One request: (HTTP status, body). Status 0 when nothing answered."""
        body: dict[str, Any] = {
            "inputs": [{"name": "input", "datatype": "FP32", "shape": [len(inputs), len(inputs[0])], "data": inputs}]
        }
        if request:
            body["id"] = request
        return self.post(f"/v2/models/{model}/infer", body)

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """POST JSON."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                data = answer.read()
                return answer.status, json.loads(data) if data else {}
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")
        except OSError:
            return 0, {}

    def sequence(self) -> int:
        """The highest window number given so far, as the spool on disk shows."""
        spool = self.data / "spool" / "inference"
        acked = int(json.loads((spool / "cursor.json").read_text())["acked"])
        return max([acked, *(int(path.stem.split("-")[1]) for path in spool.glob("*.msg"))])

    def child(self) -> psutil.Process | None:
        """The serve child that runs now."""
        if self.process is None or self.process.process.poll() is not None:
            return None
        children = psutil.Process(self.process.pid).children()
        return children[-1] if children else None


class World:
    """A hub in a folder, and the devices that joined it."""

    until = staticmethod(until)

    def __init__(self, folder: Path, *, window_s: float = 1.0, trial_s: float = 1.0) -> None:
        self.folder, self.data = folder, folder / "hub"
        self.window_s, self.trial_s = window_s, trial_s
        self.agents: dict[str, Agent] = {}
        self.hub: Process | None = None
        self.url = ""
        self.port = 0

    def start_hub(self, **environment: str) -> None:
        """``edgewise hub up``; returns once it is ready. The port stays the same over restarts."""
        before = len([line for line in self.hub.lines() if line.get("event") == "ready"]) if self.hub else 0
        self.hub = hub = Process(
            "hub",
            [
                str(BIN / "edgewise"), "hub", "up", "--data", str(self.data), "--port", str(self.port), "--json",
                "--window-seconds", str(self.window_s), "--trial-seconds", str(self.trial_s),
            ],
            self.folder / "logs",
            {"EDGEWISE_TICK_S": "0.2", **environment},
        )  # fmt: skip

        def ready() -> dict[str, Any] | None:
            assert hub.process.poll() is None, hub.log.read_text()[-2000:]
            lines = [line for line in hub.lines() if line.get("event") == "ready"]
            return lines[-1] if len(lines) > before else None

        self.url = until("the hub is ready", ready)["url"]
        self.port = int(self.url.rsplit(":", 1)[1])

    @property
    def client(self) -> Client:
        """Connected as the operator."""
        return edgewise.connect(self.url, (self.data / "operator.token").read_text().strip())

    def broker(self) -> psutil.Process:
        """The broker that the hub spawned."""
        assert self.hub is not None
        for process in psutil.Process(self.hub.pid).children(recursive=True):
            if process.name() == "mosquitto":
                return process
        raise OSError("the hub has no broker now")

    def agent(self, name: str, profile: str = "linux-x86-64", folder: str | None = None) -> Agent:
        """A device that has not joined yet."""
        return Agent(self, name, profile, folder)

    def join(
        self, *names: str, group: str = "all-cameras", profile: str = "linux-x86-64", launched: bool = False
    ) -> list[Agent]:
        """Enroll and start devices."""
        token = self.client.tokens.create(groups=[group], uses=len(names)).token
        agents = []
        for name in names:
            agent = Agent(self, name, profile)
            enrolled = agent.enroll(token)
            assert enrolled.returncode == 0, enrolled.stderr
            self.agents[name] = agent
            agents.append(agent)
        for agent in agents:
            agent.start(launched=launched)
        return agents

    def roll_out(self, version: int, *, wait: bool = True, **settings: Any) -> str:
        """Start a rollout of ``clusters``; returns its id. With ``wait``, asserts that it completes."""
        settings.setdefault("stages", [{"percent": 100}])
        settings.setdefault("gates", {"errors": None, "latency_ratio": None, "mix_distance": None, "deadline": 60})
        rollout = self.client.rollouts.create(model="clusters", version=version, **settings)
        if wait:
            until(f"rollout of version {version} ends", lambda: self.client.rollouts.get(rollout.id).state != "running")
            done = self.client.rollouts.get(rollout.id)
            assert done.state == "completed", done.reason
        return rollout.id

    def stop(self) -> None:
        """Stop everything, agents first."""
        for agent in self.agents.values():
            if agent.process:
                agent.process.stop()
        if self.hub:
            self.hub.stop()


def _copy(source: str, target: str) -> None:
    """A file of a hub's folder for another world. Blobs never change: a link will do, and a disk holds many worlds."""
    (os.link if "blobs" in Path(source).parts else shutil.copy2)(source, target)


@contextmanager
def world(folder: Path, template: Path | None = None, **settings: float) -> Iterator[World]:
    """A world that is stopped at the end, and that left no process behind. ``template``: a hub folder to start from."""
    made = World(folder, **settings)
    if template:
        shutil.copytree(template, made.data, copy_function=_copy, ignore=shutil.ignore_patterns("compile-cache"))
        (made.data / "broker" / "port").unlink()  # worlds may run side by side
    try:
        yield made
    finally:
        made.stop()
        left = [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]
        for process in left:
            process.kill()
    assert not left, f"left behind: {[p.info['cmdline'] for p in left]}"
