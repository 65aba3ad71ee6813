"""A model to a hundred devices over a real mosquitto: asked for, cast, and as a delta; and the same over plain HTTP."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import psutil
from report import write
from transfer_parts import finetunes, world

PARTS = Path(__file__).parent / "transfer_parts"
DEVICES, PROCESSES, SIZE, ROUNDS = 100, 4, 20 * 1024 * 1024, 3
NEVER = 10**9
DELTA, HTTP = "delta of an int8 fine-tune", "HTTP (uvicorn, FileResponse)"
COLUMNS = ["how", "bytes of the blob", "time, s", "hub CPU, s", "broker CPU, s", "broker peak, MB", "bytes a device"]


def main(devices: int = DEVICES, rounds: int = ROUNDS) -> None:
    """Run and write."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        blob = folder / "blob"
        blob.write_bytes(os.urandom(SIZE))
        models = finetunes.make(folder / "models")
        tuned = models["everything"]
        cases: dict[str, Any] = {
            "requested": lambda at: over_mqtt(at, devices, blob, None, NEVER),
            "broadcast": lambda at: over_mqtt(at, devices, blob, None, 4),
            DELTA: lambda at: over_mqtt(at, devices, tuned, models["base"], 4),
            HTTP: lambda at: over_http(at, devices, blob),
        }
        taken: dict[str, list[list[float]]] = {case: [] for case in cases}
        for number in range(rounds):
            for case, run in cases.items():
                at = folder / f"run-{number}"
                taken[case].append(run(at))
                shutil.rmtree(at)
                print(f"round {number}: {case}: {[round(value, 3) for value in taken[case][-1]]}", flush=True)
        rows: list[list[Any]] = []
        for case, runs in taken.items():
            size = (tuned if "delta" in case else blob).stat().st_size
            rows.append([case, size, *(statistics.median(values) for values in zip(*runs, strict=True))])
            rows[-1][-1] = int(rows[-1][-1])
        for kind, methods in finetunes.compare(models).items():
            rows += [[f"delta, {kind}: {method}", size, "", "", "", "", made] for method, size, made in methods]
    explanation = "\n\n".join((_explanation(devices, rounds), "\n".join(_goals({row[0]: row[1:] for row in rows}))))
    write("transfer", "A model to a fleet", explanation, COLUMNS, rows)


def _goals(found: dict[str, list[Any]]) -> list[str]:
    """What was promised beside what came. ``found``: rows without their first column, by it."""
    cast, http, tuned = found["broadcast"], found[HTTP], found[DELTA]
    goals = [
        ("broadcast takes no longer than HTTP", f"{cast[1]:.2f} s, HTTP {http[1]:.2f} s", cast[1] <= http[1]),
        ("hub CPU of a broadcast at most 0.3 s", f"{cast[2]:.2f} s", cast[2] <= 0.3),
        ("broker at most 60 MB", f"{cast[4]:.0f} MB", cast[4] <= 60),
        (
            "delta of an int8 fine-tune at most 8% of the file, at worst 15%",
            f"{tuned[-1] / tuned[0]:.1%}",
            tuned[-1] <= 0.08 * tuned[0],
        ),
    ]
    return [f"- **{'met' if met else 'missed'}**: {goal}: {came}" for goal, came, met in goals]


def over_mqtt(folder: Path, devices: int, model: Path, base: Path | None, cast_from: int) -> list[float]:
    """One run: time, hub CPU, broker CPU, broker's peak memory (MB), bytes a device."""
    task = world.make(folder / "hub", devices, model, base)
    with _child("world.py", str(folder / "hub"), str(devices), str(cast_from)) as hub:
        task |= json.loads(_line(hub))
        broker = psutil.Process(int((folder / "hub" / "broker" / "pid").read_text()))
        taken, received = _race(folder, "mqtt", devices, task, psutil.Process(hub.pid), broker)
        return [*taken, received / devices]


def over_http(folder: Path, devices: int, model: Path) -> list[float]:
    """The same row for plain HTTP; there is no broker."""
    task = world.make(folder / "hub", devices, model, None)
    with _child("http_server.py", str(folder / "hub" / "blobs")) as server:
        task["http_port"] = int(_line(server))
        taken, received = _race(folder, "http", devices, task, psutil.Process(server.pid), None)
        return [*taken, received / devices]


def _race(
    folder: Path, kind: str, devices: int, task: dict[str, Any], hub: psutil.Process, broker: psutil.Process | None
) -> tuple[list[float], int]:
    """Let all devices go at once: [time, hub CPU, broker CPU, broker peak MB], and the bytes that all received."""
    each = -(-devices // PROCESSES)
    with ExitStack() as stack:
        children = []
        for first in range(0, devices, each):
            count = min(each, devices - first)
            arguments = ("devices.py", kind, str(folder / "devices"), str(first), str(count))
            children.append(stack.enter_context(_child(*arguments)))
            _say(children[-1], json.dumps(task))
        for child in children:
            _line(child)
        if broker is not None:
            Path(f"/proc/{broker.pid}/clear_refs").write_text("5")  # the peak from here on (proc(5))
        before = _cpu(hub), _cpu(broker)
        start = time.monotonic()
        for child in children:
            _say(child, "go")
        for child in children:
            _line(child)
        took = time.monotonic() - start
        row = [took, _cpu(hub) - before[0], _cpu(broker) - before[1], _peak_mb(broker)]
        results = [json.loads(_line(child)) for child in children]
        dropped = sum(result["dropped"] for result in results)
        if dropped:
            print(f"  {dropped} messages were dropped or refused by the devices", flush=True)
        return row, sum(result["bytes"] for result in results)


def _explanation(devices: int, rounds: int) -> str:
    return (
        f"{devices} devices fetch one model at once, from a hub's own messaging and the mosquitto that it spawns, all "
        f"on one machine of {os.cpu_count()} cores and in memory (no disk). Medians of {rounds} interleaved rounds. "
        "Time is from the first device's start to the last one's whole, verified bundle. A device is the agent's own "
        "connection, fetch and blob store, a full MQTT client with an account of its own; they share "
        f"{PROCESSES} processes, since a hundred Python processes on this machine would measure its scheduler. Hub CPU "
        "is that of the hub's messaging process, making the delta included (of the HTTP server: its whole process). "
        "Applying a delta is the devices' own work (0.2 s of CPU for one alone), which all share here: one device by "
        "itself has its delta, made, fetched and applied, in 1.7 s. Broker peak is its resident memory. Bytes a device "
        "are MQTT payloads received (HTTP: body); in the rows of deltas, the delta's own size.\n\n"
        "The fine-tunes are of MiniLM-L3 (int8 by onnxruntime's dynamic quantization, a scale a channel): the last "
        "linear layer, LoRA of rank 8 on every layer, merged, and everything, 40 steps each on sentences of mails. "
        "Ours is a BSDIFF40 file: bytes subtracted in place, or after `align`, and bzip2. bsdiff4 and zstandard are "
        "peers, and run where they are installed."
    )


@contextmanager
def _child(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process of ours; its standard input is closed at the end, and it must end by itself."""
    process = subprocess.Popen(
        [sys.executable, str(PARTS / script), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(600, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.stdout.read()
        process.wait(60)
        process.stdout.close()
        watchdog.cancel()


def _say(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"{child.args}: ended without a word")
    return line


def _cpu(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


def _peak_mb(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
