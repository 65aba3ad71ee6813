"""The processes of the story, started as a user starts them, and stopped without a trace."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

BIN = Path(sys.executable).parent
CAMERA = Path(__file__).parent.parent / "camera.py"


class StepFailed(Exception):
    """A step did not do what it should: says what was expected and what came."""


def until(what: str, probe: Callable[[], T | None], seconds: float, alive: Callable[[], None] | None = None) -> T:
    """Wait for the first value of ``probe`` that is not None or False. Raises StepFailed at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value is not None and value is not False:
            return value
        if alive:
            alive()
        if time.monotonic() > deadline:
            raise StepFailed(f"expected within {seconds:.0f} s: {what}")
        time.sleep(0.25)


class Running:
    """One process in a group of its own; its JSON lines on stdout are read, its log kept in a file."""

    def __init__(self, name: str, command: list[str], logs: Path, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue(1000)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                text=True,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                try:
                    self._lines.put_nowait(json.loads(line))
                except (queue.Full, json.JSONDecodeError):
                    pass

    def line(self) -> dict[str, Any] | None:
        """The next JSON line, or None."""
        try:
            return self._lines.get_nowait()
        except queue.Empty:
            return None

    def tell(self, message: dict[str, Any]) -> None:
        """Write one JSON line to its standard input."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def check(self) -> None:
        """Raises StepFailed when it has ended."""
        if self.process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise StepFailed(f"{self.name} ended with {self.process.returncode}:\n{tail}")

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait for the end; past ``seconds``, kill -9 of the group."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Processes:
    """All that the story started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self._running: list[Running] = []

    def hub(self, port: int, window_s: float, trial_s: float) -> tuple[Running, str, Path]:
        """``edgewise hub up``: the process, its address, its folder."""
        data = self.folder / "hub"
        hub = self.start(
            "hub",
            [
                str(BIN / "edgewise"), "hub", "up", "--json", "--data", str(data), "--port", str(port),
                "--window-seconds", str(window_s), "--trial-seconds", str(trial_s),
            ],
        )  # fmt: skip
        ready = until("the hub is ready", hub.line, 60, hub.check)
        return hub, str(ready["url"]), data

    def enroll(self, hub: str, name: str, profile: str, token: str) -> Path:
        """``edgewise-agent enroll``; gives the device's folder. Raises StepFailed."""
        data = self.folder / "devices" / name
        done = self._agent(
            ["enroll", "--hub", hub, "--name", name, "--profile", profile, "--data", str(data)],
            EDGEWISE_JOIN_TOKEN=token,
        )
        if done.returncode:
            raise StepFailed(f"{name} could not enroll: {done.stderr.strip()}")
        return data

    def consent(self, device: Path, model: str, count: int, size: int) -> None:
        """``edgewise-agent consent``: what the device's owner types. Raises StepFailed."""
        done = self._agent(
            ["consent", "--data", str(device), "--model", model, "--count", str(count), "--bytes", str(size)]
        )
        if done.returncode:
            raise StepFailed(f"{device.name} could not consent: {done.stderr.strip()}")

    def agent(self, device: Path) -> Running:
        """``edgewise-agent run``."""
        return self.start(device.name, [str(BIN / "edgewise-agent"), "run", "--data", str(device), "--port", "0"])

    def cameras(self, cameras: list[dict[str, Any]], rate: float) -> Running:
        """The applications beside the agents: they replay test pictures, and later tell the labels of some."""
        plan = self.folder / "cameras.json"
        plan.write_text(json.dumps(cameras))
        return self.start("cameras", [sys.executable, str(CAMERA), "--cameras", str(plan), "--rate", str(rate)])

    def start(self, name: str, command: list[str]) -> Running:
        """Start one process."""
        running = Running(name, command, self.logs)
        self._running.append(running)
        return running

    def named(self, names: Iterable[str]) -> list[Running]:
        """The processes of these names."""
        wanted = set(names)
        return [running for running in self._running if running.name in wanted]

    def stop(self) -> None:
        """Stop everything: the last one started goes first."""
        for running in reversed(self._running):
            running.ask_to_stop()
        for running in reversed(self._running):
            running.wait(20)

    @staticmethod
    def _agent(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "edgewise-agent"), *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
