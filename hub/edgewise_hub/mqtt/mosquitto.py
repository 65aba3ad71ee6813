"""mosquitto, spawned and configured by the hub: loopback, persistence, dynamic security; started again when it dies.

Rules that hold here:
- everything it needs lies in one folder that only its owner reads: configuration, accounts, password, port, store, log;
- its port is kept, so that devices find it again after a restart of the hub;
- it ends with the hub, killed as that may be (where the system has setpriv); one that was left behind all the same
  is ended before ours starts.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from pathlib import Path

from edgewise_hub.metrics import BROKER_DENIED, BROKER_RESTARTS
from edgewise_hub.mqtt.accounts import HUB_CLIENT, initial_state
from edgewise_hub.mqtt.connection import MAX_PACKET, RECEIVE_MAXIMUM, BrokerAddress, BrokerError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PLUGIN = "mosquitto_dynamic_security.so"
START_DEADLINE_S = 10.0
STOP_DEADLINE_S = 5.0
MAX_RESTART_DELAY_S = 10.0
MAX_LOG_BYTES = 1 << 20
_SYSTEM_PATHS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_LIBRARY_PATTERNS = ("usr/lib/*/", "usr/lib/", "usr/lib64/", "usr/local/lib/", "opt/homebrew/lib/", "usr/local/lib/*/")


class Mosquitto:
    """The broker process. ``port`` 0 takes the one used before, or a free one."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder = folder
        self._wanted_port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="mosquitto", daemon=True)
        self._last_lines: deque[str] = deque(maxlen=20)

    def start(self) -> BrokerAddress:
        """Start it, wait until it accepts connections, and keep it running: its address with the hub's account.

        Raises BrokerError: mosquitto or its plugin is missing, the port is in use, or it does not start.
        """
        executable, plugin = find_mosquitto(), find_plugin()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        self._end_orphan()
        port = self._choose_port()
        password = self._password()
        state = self._folder / "dynamic-security.json"
        if not state.exists():
            _write(state, initial_state(password))
        config = self._folder / "mosquitto.conf"
        _write(config, configuration(self._folder, plugin, port, os.geteuid() == 0).encode())
        self._command = [*_dying_with_us(), executable, "-c", str(config)]
        self._port = port
        self._spawn()
        _write(self._folder / "port", str(port).encode())
        self._watchdog.start()
        return BrokerAddress(f"mqtt://{HUB_CLIENT}:{password}@{HOST}:{port}")

    def stop(self) -> None:
        """End it; it saves its store."""
        self._stopping.set()
        if self._process is not None:
            _end(self._process)
        if self._watchdog.is_alive():
            self._watchdog.join()
        (self._folder / "pid").unlink(missing_ok=True)

    def _spawn(self) -> None:
        """Start the process and wait until its port accepts."""
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,  # Ctrl-C in a terminal is for the hub, which then ends this
        )
        self._process = process
        _write(self._folder / "pid", str(process.pid).encode())
        threading.Thread(target=self._read_log, args=(process,), name="mosquitto-log", daemon=True).start()
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection((HOST, self._port), timeout=1).close()
                return
            except OSError:
                self._stopping.wait(0.05)
                if self._stopping.is_set():
                    return
        _end(process)
        raise BrokerError(f"mosquitto did not start on port {self._port}: {' | '.join(self._last_lines)[-500:]}")

    def _watch(self) -> None:
        """Start it again when it dies, waiting longer each time it does not live for a minute."""
        delay = 0.5
        while not self._stopping.is_set():
            assert self._process is not None
            started = time.monotonic()
            status = self._process.wait()
            if self._stopping.is_set():
                return
            delay = 0.5 if time.monotonic() - started > 60 else min(delay * 2, MAX_RESTART_DELAY_S)
            log.error("mosquitto ended with status %d; starting it again in %.1f s", status, delay)
            if self._stopping.wait(delay):
                return
            BROKER_RESTARTS.inc()
            try:
                self._spawn()
            except (BrokerError, OSError):
                log.exception("mosquitto did not start")

    def _read_log(self, process: subprocess.Popen[bytes]) -> None:
        """Keep its log, bounded and without the debug lines that it writes a message; count what it denied."""
        assert process.stderr is not None
        with _LogFile(self._folder / "mosquitto.log") as file, process.stderr:
            for raw in process.stderr:
                line = raw.decode(errors="replace").rstrip()
                text = line.partition(": ")[2]
                if text.startswith("Denied "):
                    BROKER_DENIED.inc()
                elif text.startswith(("Received ", "Sending ", "No will ", "Will message ", "\t")):
                    continue
                self._last_lines.append(text or line)
                file.write(line)

    def _choose_port(self) -> int:
        kept = self._folder / "port"
        port = self._wanted_port or (int(kept.read_text()) if kept.exists() else 0)
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
        except OSError as error:
            raise BrokerError(
                f"port {port} for the broker is in use: stop what uses it, or choose another with --broker-port",
                code="port-in-use",
            ) from error

    def _password(self) -> str:
        path = self._folder / "password"
        if not path.exists():
            (self._folder / "dynamic-security.json").unlink(missing_ok=True)
            _write(path, secrets.token_urlsafe(32).encode())
        return path.read_text()

    def _end_orphan(self) -> None:
        """End a broker of this folder whose hub was killed, and wait until its port is free."""
        try:
            pid = int((self._folder / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return
        if str(self._folder / "mosquitto.conf").encode() in command:
            log.warning("ending the broker that a killed hub left behind (process %d)", pid)
            os.kill(pid, signal.SIGTERM)
        elif command != [b""]:  # a process that is ending has no command line any more
            return
        deadline = time.monotonic() + STOP_DEADLINE_S
        while running(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        if running(pid):
            os.kill(pid, signal.SIGKILL)


def running(pid: int) -> bool:
    """Is there such a process (Linux)? One that has ended and that nobody has reaped yet (a zombie) is none."""
    try:
        # pid (name) state ...: the name may hold blanks and parentheses.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] not in ("Z", "X")
    except OSError:
        return False


def configuration(folder: Path, plugin: Path, port: int, as_root: bool) -> str:
    """The text of mosquitto.conf (2.0)."""
    lines = [
        "# Written by the Edgewise hub at every start.",
        "per_listener_settings false",
        f"listener {port} {HOST}",
        "allow_anonymous false",
        f"plugin {plugin}",
        f"plugin_opt_config_file {folder / 'dynamic-security.json'}",
        "persistence true",
        f"persistence_location {folder}/",
        "persistence_file mosquitto.db",
        "autosave_interval 5",
        "persistent_client_expiration 14d",
        f"max_packet_size {MAX_PACKET}",
        f"max_inflight_messages {RECEIVE_MAXIMUM}",
        "max_queued_messages 1000",
        "sys_interval 0",
        "connection_messages true",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type debug",  # the one that says what was denied
    ]
    if as_root:  # else it would become user mosquitto, who may not read this folder
        lines.append("user root")
    return "\n".join(lines) + "\n"


def find_mosquitto() -> str:
    """The executable. Raises BrokerError that says how to get it."""
    path = os.environ.get("PATH", "")
    # Debian keeps it where only root's PATH looks; an empty PATH is a wish to find nothing.
    found = shutil.which("mosquitto", path=os.pathsep.join([path, *_SYSTEM_PATHS]) if path else path)
    if found is None:
        raise BrokerError(
            "mosquitto not found: apt-get install mosquitto (or brew install mosquitto), or set EDGEWISE_BROKER_URL",
            code="no-mosquitto",
        )
    return found


def find_plugin() -> Path:
    """mosquitto's dynamic security plugin. Raises BrokerError."""
    for pattern in _LIBRARY_PATTERNS:
        for path in sorted(Path("/").glob(pattern + PLUGIN)):
            return path
    raise BrokerError(
        f"{PLUGIN} not found: it comes with mosquitto 2; update mosquitto, or set EDGEWISE_BROKER_URL",
        code="no-mosquitto",
    )


def _dying_with_us() -> list[str]:
    """What makes a child end when we are killed: Linux's parent-death signal, by way of util-linux."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


class _LogFile:
    """A log of at most MAX_LOG_BYTES; the one before it is kept as ``.1``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size if path.exists() else 0
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> _LogFile:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def write(self, line: str) -> None:
        """Append one line."""
        if self._size > MAX_LOG_BYTES:
            self._file.close()
            self._path.replace(self._path.with_suffix(".log.1"))
            self._file = self._path.open("a", encoding="utf-8")
            self._size = 0
        self._size += self._file.write(line + "\n")
        self._file.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _write(path: Path, data: bytes) -> None:
    """Replace a file whole, readable by its owner alone."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
