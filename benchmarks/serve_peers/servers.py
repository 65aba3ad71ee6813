"""The servers that are measured: their environments, their processes, and a client that costs little."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from serve_peers.workloads import Workload

PEERS = Path(__file__).parent
VENVS = PEERS.parents[1] / ".data" / "bench" / "serve"
PINS = {"mlserver": "mlserver==1.7.1", "bentoml": "bentoml==1.4.39", "litserve": "litserve==0.2.19"}
ONNXRUNTIME = "onnxruntime==1.32.0"
START_S = 60.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass
class Server:
    """A process that serves. ``sizes``: RSS of it and its children, MiB, after the load."""

    name: str
    command: list[str]
    folder: Path
    environment: dict[str, str]
    port: int
    health: str
    process: subprocess.Popen[bytes] | None = None
    ready_s: float = 0.0
    ready_cpu_s: float = 0.0
    error: str = ""
    sizes: list[float] = field(default_factory=list)


def open_port() -> int:
    """A port that nobody has, below those that the system gives to outgoing connections."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise RuntimeError("no port is free from 20000 to 31999")


def agent(folder: Path, data: Path, port: int, health: str) -> Server:
    """The agent as on a device."""
    command = [sys.executable, "-m", "edgewise_agent.main", "run", "--data", str(data), "--port", str(port)]
    return Server("edgewise-agent", command, folder, ONE_THREAD, port, health)


def servers(folder: Path, workload: Workload, model: Path, data: Path) -> list[Server]:
    """All that shall be measured."""
    ports = [open_port() for _ in range(7)]
    settings = folder / "mlserver"
    settings.mkdir()
    (settings / "settings.json").write_text(
        json.dumps(
            {
                "host": "127.0.0.1",
                "http_port": ports[4],
                "grpc_port": open_port(),
                "metrics_port": open_port(),
                "parallel_workers": 0,
                "debug": False,
            }
        )
    )
    (settings / "model-settings.json").write_text(
        json.dumps({"name": workload.name, "implementation": "mlserver_model.OnnxModel"})
    )
    peers = {**ONE_THREAD, **workload.environment(model), "PYTHONPATH": str(PEERS)}
    ready = f"/v2/models/{workload.name}/ready"
    uvicorn = ["-m", "uvicorn", "--log-level", "warning", "--no-access-log", "--host", "127.0.0.1", "bare:app"]
    python = sys.executable

    def bin_of(peer: str, program: str) -> str:
        return str(VENVS / peer / "bin" / program)

    return [
        agent(folder, data, ports[0], ready),
        Server("starlette-uvicorn", [python, *uvicorn, "--port", str(ports[1])], folder, peers, ports[1], "/infer"),
        Server(
            "mlserver",
            [bin_of("mlserver", "mlserver"), "start", str(settings)],
            folder,
            peers,
            ports[4],
            ready,
        ),
        Server(
            "bentoml",
            [
                bin_of("bentoml", "bentoml"),
                "serve",
                f"bentoml_service:{'One' if len(workload.inputs) == 1 else 'Two'}",
                "--port",
                str(ports[5]),
                "--host",
                "127.0.0.1",
            ],
            folder,
            {**peers, "BENTOML_HOME": str(folder / "bento"), "BENTOML_DO_NOT_TRACK": "True"},
            ports[5],
            "/readyz",
        ),
        Server(
            "litserve",
            [bin_of("litserve", "python"), str(PEERS / "litserve_server.py"), str(ports[6])],
            folder,
            peers,
            ports[6],
            "/health",
        ),
    ]


def post(path: str, body: bytes, **headers: object) -> bytes:
    """The bytes of one request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def connect(port: int) -> socket.socket:
    """A connection to this machine."""
    sock = socket.create_connection(("127.0.0.1", port), 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def ask(sock: socket.socket, request: bytes) -> int:
    """One request, to the end of its answer; its status."""
    sock.sendall(request)
    data = sock.recv(65536)
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _more(sock)
    head = data[:end].lower()
    if b"transfer-encoding: chunked" in head:
        while not data.endswith(b"0\r\n\r\n"):
            data += _more(sock)
    else:
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        while len(data) < end + 4 + length:
            data += _more(sock)
    return int(data[9:12])


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def prepare(server: Server) -> None:
    """Make a peer's environment, once; ``error`` says why there is none."""
    pin, folder = PINS.get(server.name), VENVS / server.name
    if pin is None or (folder / "pinned").exists():
        return
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "pip"), "install", "-q", "--no-input", pin, ONNXRUNTIME],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            server.error = f"cannot be installed: {done.stderr.strip().splitlines()[-1][:200]}"
            return
    (folder / "pinned").write_text(pin)


def start(server: Server) -> None:
    """Start it, and wait until it says that it is ready; else ``error`` says why not."""
    log = server.folder / f"{server.name}.log"
    began = time.perf_counter()
    with log.open("wb") as output:
        server.process = subprocess.Popen(
            server.command,
            cwd=server.folder,
            env={**os.environ, **server.environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    while time.perf_counter() - began < START_S and server.process.poll() is None:
        try:
            with connect(server.port) as sock:
                if ask(sock, f"GET {server.health} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) in (200, 405):
                    server.ready_s, server.ready_cpu_s = time.perf_counter() - began, cpu_seconds(server)
                    return
        except OSError:
            time.sleep(0.005)
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    server.error = f"did not start: {(last or ['no output'])[0][:200]}"
    stop(server)


def stop(server: Server) -> None:
    """End the process and what it started."""
    if server.process is None:
        return
    family = [server.process.pid, *(child.pid for child in _children(server))]
    server.process.terminate()
    try:
        server.process.wait(20)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    for pid in family[1:]:
        try:
            psutil.Process(pid).kill()
        except psutil.NoSuchProcess:
            pass
    server.process = None


def _children(server: Server) -> list[psutil.Process]:
    assert server.process is not None
    try:
        return psutil.Process(server.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(server: Server) -> float:
    """CPU time of all its threads so far: what a request costs, however busy the machine is."""
    assert server.process is not None
    total = 0
    for pid in (server.process.pid, *(child.pid for child in _children(server))):
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                total += int(task.read_text().split()[0])
    return total / 1e9


def measure_sizes(server: Server) -> None:
    """RSS of the process, then of each child, MiB."""
    assert server.process is not None
    family = [psutil.Process(server.process.pid), *_children(server)]
    server.sizes = [one.memory_info().rss / 2**20 for one in family]
