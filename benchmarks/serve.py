"""The agent's serving beside MLServer, BentoML, LitServe, a bare Starlette handler and the bare run, interleaved.

All serve a small CNN (1x3x96x96, 110 KB) and then MiniLM-L3 (64 tokens, 69 MB) with onnxruntime on one thread. The
agent is the real one: ``edgewise-agent run`` over an enrolled data folder, with quality check, answers that labels
find, sketches and windows. Peers live in environments of their own under ``.data/bench/serve``; one that cannot be
installed or started is named with its error.
"""

from __future__ import annotations

import json
import os
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

from report import write
from serve_peers.device import DATATYPES, enroll, install
from serve_peers.goals import BARE, LOAD_S, LOCAL, Measured, judge
from serve_peers.servers import (
    Server,
    agent,
    ask,
    connect,
    cpu_seconds,
    measure_sizes,
    open_port,
    post,
    prepare,
    servers,
    start,
    stop,
)
from serve_peers.workloads import Workload, workloads

from edgewise_agent import LocalModel
from edgewise_agent.runtimes import open_runtime
from edgewise_agent.serving.oip.messages import read_request

ROUNDS, EACH, CLIENTS, IDLE_S = 20, 30, 16, 3.0


COLUMNS = [
    "model",
    "case",
    "CPU, us",
    "p50, us",
    "p99, us",
    "16 clients, 1/s",
    "16 clients, p50 us",
    "16 clients, p99 us",
    "RSS, MiB",
    "ready, s",
    "CPU to ready, s",
]
EXPLANATION = f"""A small CNN (1x3x96x96 fp32, 110 KB) and MiniLM-L3 (sentence embedding, 64 tokens, 69 MB),
onnxruntime on one thread, on 127.0.0.1. The agent runs as on a device: supervisor and serve child, with quality check,
answers that labels find later, sketches and windows; the others run the model and no more. Microseconds are medians and
99th percentiles of {ROUNDS} interleaved rounds of one client; CPU: what the server's processes use for a request, which
other work on the machine moves least. `16 clients` is a load of {LOAD_S:g} s. RSS: MiB of each process, the first one
first, after the load. Servers and clients share the machine's {os.cpu_count()} cores. The
CNN's JSON carries each float32 with the 17 digits that Python writes: 570 KB."""
NOTES = """What the time and memory go to, and what was tried:

- **LocalModel**: the least and the greatest value of an input of 27,648 take 3.5 us, the rest of the check, the counts
  and what labels find later some 18; the sketches are filled once in 128 calls. Of the 30 calls of a round the first
  ones find the caches used by others.
- **JSON**: 27,648 numbers of 17 digits. simdjson reads them straight into an array in 480 us of CPU, of which 450 are
  its parser's: more than a quarter of MLServer's overhead. The same body in isolation: cysimdjson 450 (to parse alone),
  orjson 640 and 280 for the array, msgspec 840, pandas' and pyarrow's readers of CSV 1,080 and 1,150, numpy.fromstring
  4,000. To receive 570 KB takes 100 more. Send binary.
- **Idle**: without a model the supervisor answers by itself. A bare Python takes 11 MiB, MQTT with TLS 11 more,
  signatures 7, msgspec 4.
- **MiniLM-L3, one client**: a model of 69 MB leaves no cache as it was. The Python around it, 35 us behind a small
  model, takes 110 to 150 behind this one, and the kernel's part of a request grows likewise. It was worse while each
  long inference moved to another thread, and so to another core (three changes of threads a request, now less than
  one), and while NumPy's BLAS shared the sketches' product with a thread that spins: 2 ms of CPU in LocalModel.
- **MiniLM-L3, memory**: the weights are 69 MB, Python with NumPy and onnxruntime 43 MiB, what it computes with 9, the
  supervisor 38. What loading leaves behind (14 MiB) is given back; without onnxruntime's arena or its packed weights it
  takes no less, or a quarter more time.
- **MiniLM-L3, 16 clients**: two cores give at most 2 / 4.3 ms = 460 inferences a second, to whatever server; the peers
  run one at a time, and so half of it."""


@dataclass
class Case:
    """One server and one way to ask it. ``request``: the bytes of one request."""

    name: str
    server: str
    request: bytes
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)


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
    alive: list[Case], by_name: dict[str, Server], inside: dict[str, Callable[[], object]]
) -> list[Measured]:
    """Interleaved rounds, in each one connection a case: on a busy machine a peer may close an idle one between two."""
    found = {name: Measured(name, []) for name in inside}
    for _ in range(ROUNDS):
        for name, call in inside.items():
            used = time.process_time()
            for _ in range(EACH):
                began = time.perf_counter()
                call()
                found[name].seconds.append(time.perf_counter() - began)
            found[name].cpu.append((time.process_time() - used) / EACH)
        for case in alive:
            _block(case, by_name[case.server])
    return list(found.values())


def _block(case: Case, server: Server) -> None:
    """One round of a case."""
    with connect(server.port) as sock:
        used = cpu_seconds(server)
        for i in range(EACH):
            began = time.perf_counter()
            status = ask(sock, case.request)
            if i >= EACH // 5:  # the first ones find cold caches
                case.seconds.append(time.perf_counter() - began)
            if status != 200:
                raise RuntimeError(f"{case.name}: expected 200, got {status}")
        case.cpu.append((cpu_seconds(server) - used) / EACH)


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


def idle(folder: Path) -> list[float]:
    """MiB of an agent that serves no model: supervisor, serve child."""
    data = folder / "idle"
    enroll(data)
    server = agent(folder, data, open_port(), "/v2/health/ready")
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
    oip = memoryview(cases(workload)[2].request.partition(b"\r\n\r\n")[2])
    runtime, local = open_runtime("onnxruntime", model), LocalModel(data, workload.name)
    inside: dict[str, Callable[[], object]] = {
        BARE: lambda: runtime.infer(dict(workload.inputs)),
        LOCAL: lambda: local.infer(dict(workload.inputs)),
        "agent's reading of the JSON alone, in process": lambda: read_request(oip, None, floats=workload.name == "cnn"),
    }
    dead = {server.name: server.error for server in running if server.error}
    by_name = {server.name: server for server in running}
    alive = [case for case in cases(workload) if case.server not in dead]
    found = one_client(alive, by_name, inside)
    for case in alive:
        many_clients(case, by_name[case.server].port)
    for server in running:
        if not server.error:
            measure_sizes(server)
    found += [Measured(case.name, case.seconds, case.cpu, case.load, by_name[case.server]) for case in alive]
    return found, "".join(f" {workload.title}: {name} {error}." for name, error in dead.items())


def main() -> None:
    """Run and write."""
    rows: list[list[Any]] = []
    before = os.getloadavg()[0]
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
            goals += judge(workload.title, {one.name: one for one in found}, nothing, workload.name == "cnn")
    busy = f" Other work ran meanwhile: the load was {before:.0f} before this run." if before > 1 else ""
    judged = "The goals, of times by CPU (and by the clock):\n\n" + "\n".join(goals)
    text = f"{EXPLANATION}{busy}{notes}\n\n{judged}"
    write("serve", "Serving", f"{text}\n\n{NOTES}", COLUMNS, rows)


if __name__ == "__main__":
    main()
