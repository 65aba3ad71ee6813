"""The agent's serving beside MLServer, BentoML, LitServe, a bare Starlette handler and the bare run, interleaved.

All serve one small CNN (1x3x96x96, 110 KB) with onnxruntime on one thread. The agent is the real one: ``edgewise-agent
run`` over an enrolled data folder, with quality check, sketches and windows. Peers live in environments of their own
under ``.data/bench/serve``; one that cannot be installed or started is named with its error.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "agent"))

import numpy as np
import psutil
from agent_builders import free_port
from report import write
from serve_peers.device import MODEL, install, network

from edgewise_agent import LocalModel
from edgewise_agent.runtimes import open_runtime

HERE = Path(__file__).parent
VENVS = HERE.parent / ".data" / "bench" / "serve"
PEERS = HERE / "serve_peers"
PINS = {"mlserver": "mlserver==1.7.1", "bentoml": "bentoml==1.4.39", "litserve": "litserve==0.2.19"}
ONNXRUNTIME = "onnxruntime==1.32.0"
ROUNDS, EACH, CLIENTS, LOAD_S, START_S = 20, 30, 16, 3.0, 60.0


@dataclass
class Case:
    """One server and one way to ask it. ``request``: the bytes of one request."""

    name: str
    server: str
    request: bytes
    seconds: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)


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
    error: str = ""
    sizes: list[float] = field(default_factory=list)


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
                    server.ready_s = time.perf_counter() - began
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


def measure_sizes(server: Server) -> None:
    """RSS of the process, then of each child, MiB."""
    assert server.process is not None
    family = [psutil.Process(server.process.pid), *_children(server)]
    server.sizes = [one.memory_info().rss / 2**20 for one in family]


def servers(folder: Path, model: Path, data: Path) -> list[Server]:
    """All that shall be measured."""
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "BENCH_MODEL": str(model)}
    ports = [free_port() for _ in range(7)]
    settings = folder / "mlserver"
    settings.mkdir()
    (settings / "settings.json").write_text(
        json.dumps(
            {
                "host": "127.0.0.1",
                "http_port": ports[4],
                "grpc_port": free_port(),
                "metrics_port": free_port(),
                "parallel_workers": 0,
                "debug": False,
            }
        )
    )
    (settings / "model-settings.json").write_text(
        json.dumps({"name": MODEL, "implementation": "mlserver_model.OnnxModel"})
    )
    peers = {**one_thread, "PYTHONPATH": str(PEERS)}
    uvicorn = ["-m", "uvicorn", "--log-level", "warning", "--no-access-log", "--host", "127.0.0.1", "bare:app"]
    python = sys.executable

    def bin_of(peer: str, program: str) -> str:
        return str(VENVS / peer / "bin" / program)

    return [
        Server(
            "edgewise-agent",
            [python, "-m", "edgewise_agent.main", "run", "--data", str(data), "--port", str(ports[0])],
            folder,
            one_thread,
            ports[0],
            f"/v2/models/{MODEL}/ready",
        ),
        Server("starlette-uvicorn", [python, *uvicorn, "--port", str(ports[1])], folder, peers, ports[1], "/infer"),
        Server(
            "mlserver",
            [bin_of("mlserver", "mlserver"), "start", str(settings)],
            folder,
            peers,
            ports[4],
            f"/v2/models/{MODEL}/ready",
        ),
        Server(
            "bentoml",
            [
                bin_of("bentoml", "bentoml"),
                "serve",
                "bentoml_service:Service",
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


def cases(image: np.ndarray) -> list[Case]:
    """What each is asked."""
    raw = image.tobytes()
    tensor: dict[str, Any] = {"name": "image", "datatype": "FP32", "shape": list(image.shape)}
    output = [{"name": "scores", "parameters": {"binary_data": True}}]
    head = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}], "outputs": output}
    ).encode()
    infer = f"/v2/models/{MODEL}/infer"
    oip = json.dumps({"inputs": [{**tensor, "data": image.ravel().tolist()}]}).encode()
    octets, as_json = {"Content_Type": "application/octet-stream"}, {"Content_Type": "application/json"}
    return [
        Case(
            "agent, binary",
            "edgewise-agent",
            post(infer, head + raw, Inference_Header_Content_Length=len(head), **octets),
        ),
        Case("Starlette + uvicorn, binary, bare", "starlette-uvicorn", post("/infer", raw, **octets)),
        Case("agent, JSON", "edgewise-agent", post(infer, oip, **as_json)),
        Case("MLServer, JSON", "mlserver", post(infer, oip, **as_json)),
        Case(
            "BentoML, JSON",
            "bentoml",
            post("/infer", json.dumps({"image": image.tolist()}).encode(), **as_json),
        ),
        Case("LitServe, JSON", "litserve", post("/predict", oip, **as_json)),
    ]


def one_client(
    alive: list[Case], ports: dict[str, int], inside: dict[str, Callable[[], object]]
) -> dict[str, list[float]]:
    """Interleaved rounds, one connection a case; seconds a call."""
    taken: dict[str, list[float]] = {name: [] for name in inside}
    connections = {case.name: connect(ports[case.server]) for case in alive}
    for _ in range(ROUNDS):
        for name, call in inside.items():
            for _ in range(EACH):
                began = time.perf_counter()
                call()
                taken[name].append(time.perf_counter() - began)
        for case in alive:
            for i in range(EACH):
                began = time.perf_counter()
                status = ask(connections[case.name], case.request)
                if i >= EACH // 5:  # the first ones find cold caches
                    case.seconds.append(time.perf_counter() - began)
                if status != 200:
                    raise RuntimeError(f"{case.name}: expected 200, got {status}")
    for sock in connections.values():
        sock.close()
    return taken


def many_clients(case: Case, port: int) -> None:
    """``CLIENTS`` connections at once, without a pause."""
    end = time.perf_counter() + LOAD_S

    def run(_: int) -> list[float]:
        seconds = []
        with connect(port) as sock:
            while (began := time.perf_counter()) < end:
                status = ask(sock, case.request)
                if status != 200:
                    raise RuntimeError(f"{case.name}: expected 200, got {status}")
                seconds.append(time.perf_counter() - began)
        return seconds

    with ThreadPoolExecutor(CLIENTS) as pool:
        case.load = [one for part in pool.map(run, range(CLIENTS)) for one in part]


def at(seconds: list[float], share: float) -> float:
    """A quantile, in microseconds."""
    return 1e6 * sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


def main() -> None:
    """Run and write."""
    image = np.random.default_rng(1).normal(size=(1, 3, 96, 96)).astype(np.float32)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model, data = folder / "cnn.onnx", folder / "device"
        network(model)
        install(data, model, image)
        running = servers(folder, model, data)
        try:
            for server in running:
                prepare(server)
                if not server.error:
                    start(server)
                print(f"{server.name}: {server.error or f'ready in {server.ready_s:.2f} s'}", file=sys.stderr)
            rows, notes = measure(running, cases(image), model, data, image)
        finally:
            for server in running:
                stop(server)
    write(
        "serve",
        "Serving",
        f"""One small CNN (1x3x96x96 fp32, 110 KB), onnxruntime on one thread, on 127.0.0.1. The agent runs as on a
device: supervisor and serve child, with quality check, sketches and windows; the others run the model and no more.
Microseconds are medians and 99th percentiles of {ROUNDS} interleaved rounds of one client; `16 clients` is a load of
{LOAD_S:g} s. RSS: MiB of each process, the first one first, after the load. Servers and clients share the machine's
{os.cpu_count()} cores. JSON carries each float32 with the 17 digits that Python writes: 540 KB, of which reading the
numbers alone takes the agent some 1.1 ms (msgspec 0.84, into an array 0.25): send binary.{notes}""",
        [
            "case",
            "p50, us",
            "p99, us",
            "16 clients, 1/s",
            "16 clients, p50 us",
            "16 clients, p99 us",
            "RSS, MiB",
            "ready, s",
        ],
        rows,
    )


def measure(
    running: list[Server], asked: list[Case], model: Path, data: Path, image: np.ndarray
) -> tuple[list[list[Any]], str]:
    """The table's rows, and what has to be said beside them."""
    runtime, local = open_runtime("onnxruntime", model), LocalModel(data, MODEL)
    inside: dict[str, Callable[[], object]] = {
        "bare run, in process": lambda: runtime.infer({"image": image}),
        "agent's LocalModel, in process": lambda: local.infer({"image": image}),
    }
    dead = {server.name: server.error for server in running if server.error}
    ports = {server.name: server.port for server in running}
    alive = [case for case in asked if case.server not in dead]
    taken = one_client(alive, ports, inside)
    for case in alive:
        many_clients(case, ports[case.server])
    for server in running:
        if not server.error:
            measure_sizes(server)
    by_name = {server.name: server for server in running}
    rows: list[list[Any]] = [[name, at(s, 0.5), at(s, 0.99), "", "", "", "", ""] for name, s in taken.items()]
    for case in alive:
        server = by_name[case.server]
        rate = len(case.load) / LOAD_S
        sizes = " + ".join(f"{size:.0f}" for size in server.sizes)
        load = [rate, at(case.load, 0.5), at(case.load, 0.99)]
        rows.append([case.name, at(case.seconds, 0.5), at(case.seconds, 0.99), *load, sizes, server.ready_s])
    notes = "".join(f" {name} {error}." for name, error in dead.items())
    return rows, notes


if __name__ == "__main__":
    main()
