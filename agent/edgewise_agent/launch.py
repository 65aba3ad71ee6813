"""``python -m edgewise_agent.launch --data FOLDER [--port N]``: starts the agent from the slot in ``slots.json``.

It is the process that systemd starts, belongs to the base install, and is never updated by the hub; so it is small.

Rules that hold here:
- one agent at a time; ``slots.json`` is written here only while none runs;
- an agent without a sign of life for HANG_S is ended; one on trial that is not confirmed in time too, and it is over;
- what the agent says (ready, alive, stopping) is handed on to systemd; without one at all, it works the same.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edgewise_agent.notify import LAUNCH_FD_VARIABLE
from edgewise_agent.store.disk import Disk
from edgewise_agent.update import slots

HANG_S = 60.0
FIRST_START_S = 120.0
"""For the first sign of life: a slow board compiles every file once."""
BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)


class Launcher:
    """Starts the agent, again and again, until it is told to stop or the agent ends by its own wish."""

    def __init__(
        self,
        data: Path,
        arguments: Sequence[str],
        disk: Disk,
        hang_s: float = HANG_S,
        backoff_s: Sequence[float] = BACKOFF_S,
    ) -> None:
        self._data, self._arguments, self._disk = data, list(arguments), disk
        self._hang_s, self._backoff_s = hang_s, backoff_s
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._systemd = _systemd()

    def stop(self) -> None:
        """End the agent, and then this; safe in a signal handler."""
        self._stopping = True
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def run(self) -> int:
        """The last agent's exit status."""
        crashes = 0
        while True:
            kept = slots.load(self._data)
            self._save(kept, slots.count_start(kept))
            kept = slots.load(self._data)
            slot = slots.starts(kept, crashes)
            began = time.monotonic()
            code, was_ready = self._run_one(slot, kept.trial)
            if self._stopping or code == 0:
                return code
            if code == slots.RESTART:
                crashes = 0
                continue
            if not was_ready and slot == slots.BASE and code in (1, 2):
                return code  # it has said why: not enrolled, port taken, wrong usage
            crashes = crashes + 1 if time.monotonic() - began < slots.FAST_S else 1
            wait_s = self._backoff_s[min(crashes, len(self._backoff_s)) - 1]
            print(f"edgewise-agent: slot {slot} ended with {code}; again in {wait_s:g} s", file=sys.stderr, flush=True)
            self._wait(wait_s)
            if self._stopping:
                return code

    def _run_one(self, slot: str, trial: slots.Trial | None) -> tuple[int, bool]:
        """(exit status, was it ready?) of one agent."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        environment = {**os.environ, slots.SLOT_VARIABLE: slot, LAUNCH_FD_VARIABLE: str(theirs.fileno())}
        environment.pop("NOTIFY_SOCKET", None)
        if slot != slots.BASE:
            paths = [str(self._data / "agent" / slot), *filter(None, [os.environ.get("PYTHONPATH")])]
            environment["PYTHONPATH"] = os.pathsep.join(paths)
        command = [sys.executable, "-m", "edgewise_agent.main", "run", "--data", str(self._data), *self._arguments]
        with ours:
            with theirs:
                self._child = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])
            if self._stopping:
                self._child.terminate()
            was_ready = self._watch(self._child, ours, trial)
            return self._child.wait(), was_ready

    def _watch(self, child: subprocess.Popen[bytes], said: socket.socket, trial: slots.Trial | None) -> bool:
        """Until it ends; was it ready?"""
        began = heard = time.monotonic()
        was_ready = False
        while child.poll() is None:
            if select.select([said], [], [], 0.2)[0]:
                state = said.recv(4096)
                heard = time.monotonic()
                was_ready = was_ready or state == b"READY=1"
                self._tell(state)
            now = time.monotonic()
            if now - heard > (self._hang_s if was_ready else max(self._hang_s, FIRST_START_S)):
                print("edgewise-agent: no sign of life; it is ended", file=sys.stderr, flush=True)
                child.kill()
            elif trial is not None and now - began > trial.within_s and not self._stopping:
                trial = self._over(child)
        return was_ready

    def _over(self, child: subprocess.Popen[bytes]) -> slots.Trial | None:
        """Its time is up: is it still on trial? Then end it, and that is that."""
        kept = slots.load(self._data)
        if kept.trial is not None:
            child.kill()
            child.wait()
            self._save(kept, slots.fail(kept, "not-confirmed", f"not within {kept.trial.within_s:g} s"))
        return None

    def _save(self, before: slots.Slots, after: slots.Slots) -> None:
        if after != before:
            self._disk.replace(self._data / slots.FILE, slots.encode(after))

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            time.sleep(0.1)
            self._tell(b"WATCHDOG=1")

    def _tell(self, state: bytes) -> None:
        if self._systemd is not None:
            try:
                self._systemd.send(state)
            except OSError:
                pass


def _systemd() -> socket.socket | None:
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return None
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        found.connect("\0" + path[1:] if path.startswith("@") else path)
    except OSError:
        return None
    found.setblocking(False)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m edgewise_agent.launch", description="Start the agent.")
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--hang-s", type=float, default=HANG_S, help="seconds without a sign of life")
    arguments, rest = parser.parse_known_args(argv)
    launcher = Launcher(arguments.data, rest, Disk(), arguments.hang_s)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: launcher.stop())
    sys.exit(launcher.run())


if __name__ == "__main__":
    main()
