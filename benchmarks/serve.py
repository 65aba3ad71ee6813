"""The agent's serving beside MLServer, BentoML, LitServe, a bare Starlette handler and the bare run, interleaved.

All serve a small CNN (1x3x96x96, 110 KB) and then MiniLM-L3 (64 tokens, 69 MB) with onnxruntime on one thread. The
agent is the real one: ``edgewise-agent run`` over an enrolled data folder, with quality check, answers that labels
find, sketches and windows. Peers live in environments of their own under ``.data/bench/serve``; one that cannot be
installed or started is named with its error.
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

import psutil
from agent_builders import free_port
from report import write
from serve_peers.device import DATATYPES, enroll, install
from serve_peers.workloads import Workload, workloads

from edgewise_agent import LocalModel
from edgewise_agent.runtimes import open_runtime

HERE = Path(__file__).parent
VENVS = HERE.parent / ".data" / "bench" / "serve"
PEERS = HERE / "serve_peers"
PINS = {"mlserver": "mlserver==1.7.1", "bentoml": "bentoml==1.4.39", "litserve": "litserve==0.2.19"}
ONNXRUNTIME = "onnxruntime==1.32.0"
ROUNDS, EACH, CLIENTS, LOAD_S, START_S = 20, 30, 16, 3.0, 60.0
IDLE_S = 3.0


ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
BARE, LOCAL = "bare run, in process", "agent's LocalModel, in process"
COLUMNS = [
    "model",
    "case",
    "p50, us",
    "p99, us",
    "16 clients, 1/s",
    "16 clients, p50 us",
    "16 clients, p99 us",
    "RSS, MiB",
    "ready, s",
]
EXPLANATION = f"""A small CNN (1x3x96x96 fp32, 110 KB) and MiniLM-L3 (sentence embedding, 64 tokens, 69 MB), onnxruntime on
one thread, on 127.0.0.1. The agent runs as on a device: supervisor and serve child, with quality check, answers that labels find later, sketches and
windows; the others run the model and no more. Microseconds are medians and 99th percentiles of {ROUNDS} interleaved rounds of one client; `16 clients` is a
load of {LOAD_S:g} s. RSS: MiB of each process, the first one first, after the load. Servers and clients share the machine's {os.cpu_count()} cores.
The CNN's JSON carries each float32 with the 17 digits that Python writes: 570 KB."""


@dataclass
class Measured:
    """A row of the table."""

    name: str
    seconds: list[float]
    load: list[float] = field(default_factory=list)
    server: Server | None = None

    @property
    def p50(self) -> float:
        """Microseconds, one client."""
        return at(self.seconds, 0.5)

    @property
    def rate(self) -> float:
        """Requests a second of ``CLIENTS``."""
        return len(self.load) / LOAD_S

    @property
    def sizes(self) -> list[float]:
        """MiB of each process."""
        return self.server.sizes if self.server is not None else []

    def row(self) -> list[Any]:
        """As in ``COLUMNS``, without the model."""
        times = [self.p50, at(self.seconds, 0.99)]
        if self.server is None:
            return [self.name, *times, "", "", "", "", ""]
        load = [self.rate, at(self.load, 0.5), at(self.load, 0.99)]
        return [self.name, *times, *load, " + ".join(f"{size:.0f}" for size in self.sizes), self.server.ready_s]


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


def agent(folder: Path, data: Path, port: int, health: str) -> Server:
    """The agent as on a device."""
    command = [sys.executable, "-m", "edgewise_agent.main", "run", "--data", str(data), "--port", str(port)]
    return Server("edgewise-agent", command, folder, ONE_THREAD, port, health)


def servers(folder: Path, workload: Workload, model: Path, data: Path) -> list[Server]:
    """All that shall be measured."""
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


def cases(workload: Workload) -> list[Case]:
    """What each is asked."""
    arrays, name = workload.inputs, workload.name
    raw = b"".join(array.tobytes() for array in arrays.values())
    tensors: list[dict[str, Any]] = [
        {"name": key, "datatype": DATATYPES[array.dtype.name], "shape": list(array.shape)}
        for key, array in arrays.items()
    ]
    sizes = [{"parameters": {"binary_data_size": array.nbytes}} for array in arrays.values()]
    data = [{"data": array.ravel().tolist()} for array in arrays.values()]
    output = {"name": workload.output}
    binary = {
        "inputs": [tensor | size for tensor, size in zip(tensors, sizes, strict=True)],
        "outputs": [{**output, "parameters": {"binary_data": True}}],
    }
    head = json.dumps(binary).encode()
    inputs = [tensor | values for tensor, values in zip(tensors, data, strict=True)]
    oip = json.dumps({"inputs": inputs, "outputs": [output]}).encode()
    bento = json.dumps(dict(zip("ab", (array.tolist() for array in arrays.values()), strict=False))).encode()
    infer = f"/v2/models/{name}/infer"
    octets, as_json = {"Content_Type": "application/octet-stream"}, {"Content_Type": "application/json"}
    length = {"Inference_Header_Content_Length": len(head)}
    return [
        Case("agent, binary", "edgewise-agent", post(infer, head + raw, **length, **octets)),
        Case("Starlette + uvicorn, binary, bare", "starlette-uvicorn", post("/infer", raw, **octets)),
        Case("agent, JSON", "edgewise-agent", post(infer, oip, **as_json)),
        Case("MLServer, JSON", "mlserver", post(infer, oip, **as_json)),
        Case("BentoML, JSON", "bentoml", post("/infer", bento, **as_json)),
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


def judge(title: str, found: dict[str, Measured], nothing: list[float]) -> list[str]:
    """The goals of this benchmark, and how they came out."""
    bare, local, binary = found[BARE].p50, found[LOCAL].p50, found["agent, binary"]
    peers = {name: one for name, one in found.items() if one.server is not None and not name.startswith("agent")}
    bare_handler, mlserver = peers.pop("Starlette + uvicorn, binary, bare", None), peers.get("MLServer, JSON")
    best = max((one.rate for one in peers.values()), default=0.0)
    supervisor, child = (binary.sizes + [0.0, 0.0])[:2]
    ready = binary.server.ready_s if binary.server is not None else 0.0
    goals = [
        ("LocalModel within 25 us of the bare run", local - bare, 25.0, "us"),
        ("supervisor at most 40 MiB", supervisor, 40.0, "MiB"),
        ("serve child at most 80 MiB", child, 80.0, "MiB"),
        ("idle at most 45 MiB in all", sum(nothing), 45.0, "MiB"),
        ("ready within 0.8 s", ready, 0.8, "s"),
    ]
    if bare_handler is not None:
        share = (binary.p50 - bare) / (bare_handler.p50 - bare)
        goals.append(("binary: overhead at most 0.7x the bare handler's", share, 0.7, "x"))
    if mlserver is not None:
        share = (found["agent, JSON"].p50 - bare) / (mlserver.p50 - bare)
        goals.append(("JSON: overhead at most 0.25x MLServer's", share, 0.25, "x"))
        goals.append(("all processes under MLServer's", sum(binary.sizes), sum(mlserver.sizes), "MiB"))
    if "BentoML, JSON" in peers:
        goals.append(("half of BentoML's", sum(binary.sizes), sum(peers["BentoML, JSON"].sizes) / 2, "MiB"))
    lines = [f"- {title}: {goal}: {_short(value)} {unit}{_met(value <= limit)}" for goal, value, limit, unit in goals]
    if best:
        times = binary.rate / best
        lines.append(f"- {title}: 16 clients at least 3x the best of the three: {_short(times)}x{_met(times >= 3)}")
    return lines


def _short(value: float) -> str:
    return f"{value:.3g}"


def _met(met: bool) -> str:
    return "" if met else " (**missed**)"


def idle(folder: Path) -> list[float]:
    """MiB of an agent that serves no model: supervisor, serve child."""
    data = folder / "idle"
    enroll(data)
    server = agent(folder, data, free_port(), "/v2/health/ready")
    start(server)
    try:
        time.sleep(IDLE_S)
        measure_sizes(server)
    finally:
        stop(server)
    return server.sizes


def measure(workload: Workload, folder: Path) -> tuple[list[Measured], str]:
    """Every case of a model, and which servers there are none of."""
    model, data = folder / "model.onnx", folder / "device"
    workload.write(model)
    install(data, model, workload)
    running = servers(folder, workload, model, data)
    try:
        for server in running:
            prepare(server)
            if not server.error:
                start(server)
            print(f"{server.name}: {server.error or f'ready in {server.ready_s:.2f} s'}", file=sys.stderr)
        return _measure(workload, running, model, data)
    finally:
        for server in running:
            stop(server)


def _measure(workload: Workload, running: list[Server], model: Path, data: Path) -> tuple[list[Measured], str]:
    runtime, local = open_runtime("onnxruntime", model), LocalModel(data, workload.name)
    inside: dict[str, Callable[[], object]] = {
        BARE: lambda: runtime.infer(dict(workload.inputs)),
        LOCAL: lambda: local.infer(dict(workload.inputs)),
    }
    dead = {server.name: server.error for server in running if server.error}
    ports = {server.name: server.port for server in running}
    alive = [case for case in cases(workload) if case.server not in dead]
    taken = one_client(alive, ports, inside)
    for case in alive:
        many_clients(case, ports[case.server])
    for server in running:
        if not server.error:
            measure_sizes(server)
    by_name = {server.name: server for server in running}
    found = [Measured(name, seconds) for name, seconds in taken.items()]
    found += [Measured(case.name, case.seconds, case.load, by_name[case.server]) for case in alive]
    return found, "".join(f" {workload.title}: {name} {error}." for name, error in dead.items())


def main() -> None:
    """Run and write."""
    rows: list[list[Any]] = []
    goals: list[str] = []
    notes = ""
    with tempfile.TemporaryDirectory() as place:
        nothing = idle(Path(place))
        for workload in workloads():
            folder = Path(place) / workload.name
            folder.mkdir()
            found, missing = measure(workload, folder)
            notes += missing
            rows += [[workload.title, *one.row()] for one in found]
            goals += judge(workload.title, {one.name: one for one in found}, nothing)
    write("serve", "Serving", EXPLANATION + notes + "\n\n" + "\n".join(goals), COLUMNS, rows)


if __name__ == "__main__":
    main()
