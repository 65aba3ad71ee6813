"""How fast a model file is, and how much memory it takes, on the runtime that a device will run.

Each candidate has a process of its own, held to the same processors, with the threads that the profile allows. They
work in turn, round by round, so that a machine that slows down slows all of them. One item at a time. With one thread
the processor's time is taken: on a quiet machine it is the clock's, and on a busy one what others run does not count.

``python -m edgewise_compiler.measure`` is such a process: a job as one line of JSON on standard input, then ``round``
for each round; it answers each with a line.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from edgewise.profile import Profile
from edgewise_agent.runtimes import open_runtime
from edgewise_agent.runtimes.tensors import NUMPY
from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.report import Latency

ROUNDS = 12
ROUND_S = 0.06
MIN_RUNS = 3
WARM_UP = 5
DEADLINE_S = 120.0


class Job(msgspec.Struct, frozen=True):
    """What one process measures. ``inputs``: items as ``Data.save`` writes them; they are taken in turn."""

    runtime: str
    model: str
    threads: int
    inputs: str
    processors: list[int]


class Round(msgspec.Struct, frozen=True):
    """One round's times in milliseconds, and the peak resident set so far."""

    times_ms: list[float]
    peak_rss_mb: float


@dataclass(frozen=True)
class Measured:
    """One file to measure, on one of the agent's runtimes."""

    runtime: str
    path: Path


def why_not(profile: Profile) -> str | None:
    """Why this profile cannot be measured here; None when it can."""
    machine = platform.machine()
    if profile.architecture == machine:
        return None
    return f"not measured: {profile.name} is {profile.architecture}, this machine is {machine}"


def measure(threads: int, models: Mapping[str, Measured], inputs: Path) -> dict[str, Latency]:
    """Latency of each file by name, in turn and round by round. ``inputs``: as in ``Job``.

    Raises CompileError (code ``cannot-load``) when a process dies or is not done within ``DEADLINE_S``.
    """
    processors = _processors(threads)
    workers: dict[str, subprocess.Popen[bytes]] = {}
    rounds: dict[str, list[Round]] = {name: [] for name in models}
    watchdog = threading.Timer(DEADLINE_S, _kill, [workers])
    watchdog.start()
    try:
        for name, model in models.items():
            job = Job(model.runtime, str(model.path), threads, str(inputs), processors)
            workers[name] = subprocess.Popen(
                [sys.executable, "-m", "edgewise_compiler.measure"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            _tell(workers[name], msgspec.json.encode(job))
        for name, worker in workers.items():  # all of them load meanwhile
            _hear(name, worker)
        for _ in range(ROUNDS):
            for name, worker in workers.items():
                rounds[name].append(msgspec.json.decode(_ask(name, worker, b"round"), type=Round))
    finally:
        watchdog.cancel()
        _kill(workers)
        for worker in workers.values():
            worker.communicate()
    return {name: summarize(got) for name, got in rounds.items()}


def summarize(rounds: list[Round]) -> Latency:
    """Median and 95th percentile over all runs; spread of the rounds' medians."""
    times = np.concatenate([np.array(part.times_ms) for part in rounds])
    low, high = np.percentile([np.median(part.times_ms) for part in rounds], [25, 75])
    middle = float(np.median(times))
    return Latency(
        p50_ms=round(middle, 4),
        p95_ms=round(float(np.percentile(times, 95)), 4),
        spread=round(float(high - low) / 2 / middle, 4),
        peak_rss_mb=round(max(part.peak_rss_mb for part in rounds), 1),
    )


def _kill(workers: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for worker in list(workers.values()):
        worker.kill()


def _ask(name: str, worker: subprocess.Popen[bytes], line: bytes) -> bytes:
    _tell(worker, line)
    return _hear(name, worker)


def _tell(worker: subprocess.Popen[bytes], line: bytes) -> None:
    assert worker.stdin is not None
    try:
        worker.stdin.write(line + b"\n")
        worker.stdin.flush()
    except BrokenPipeError:  # heard as the end of its answers
        pass


def _hear(name: str, worker: subprocess.Popen[bytes]) -> bytes:
    assert worker.stdout is not None
    answer = worker.stdout.readline()
    if not answer:
        raise CompileError(
            f"measuring {name}: the process ended (or took more than {DEADLINE_S:.0f} s); its message is above",
            code="cannot-load",
        )
    return answer


def _processors(threads: int) -> list[int]:
    """The processors to hold to: as many as threads; none where the system cannot say."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[-threads:]


def _serve(stdin: IO[bytes], stdout: IO[bytes]) -> None:
    job = msgspec.json.decode(stdin.readline(), type=Job)
    if job.processors:
        os.sched_setaffinity(0, job.processors)
    runtime = open_runtime(job.runtime, Path(job.model), job.threads)
    inputs = runtime.describe()[0]
    given = Data.load(Path(job.inputs)).inputs
    data = Data({tensor.name: given[tensor.name] for tensor in inputs})
    data = data.narrowed({tensor.name: np.dtype(NUMPY[tensor.datatype]) for tensor in inputs})
    items = list(data.feeds({tensor.name: len(tensor.shape) for tensor in inputs}, 1))
    for i in range(WARM_UP):
        runtime.infer(items[i % len(items)])
    stdout.write(b"ready\n")
    stdout.flush()
    now = time.process_time if job.threads == 1 else time.perf_counter
    for _ in stdin:
        times: list[float] = []
        end = time.perf_counter() + ROUND_S
        while len(times) < MIN_RUNS or time.perf_counter() < end:
            start = now()
            runtime.infer(items[len(times) % len(items)])
            times.append((now() - start) * 1e3)
        stdout.write(msgspec.json.encode(Round(times, _peak_rss_mb())) + b"\n")
        stdout.flush()


def _peak_rss_mb() -> float:
    """Of this process since it began: VmHWM on Linux, where ru_maxrss would count the parent's memory before exec."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss: bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
