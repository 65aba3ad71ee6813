"""What every peer is put through, in a process and an environment of its own.

INPUT: ``reference`` and ``rest`` [n, 64] clean embeddings, ``shift:NAME`` [n, 64], each also with ``:confidence`` [n],
``:scores`` [n, classes] and ``:labels`` [n]. OUTPUT: what the peer's function returns, with ``peak_mb`` of its process.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

N = 50
NULL, DRIFTED = 40, 20
"""Windows, where a peer is not too slow for so many."""
STREAMS, MOST, BEFORE, LATEST = 60, 2000, 200, 1000
"""Streams; items of one that nothing happens to; items before a change, and after it."""
ALPHA = 0.05

Data = Mapping[str, Any]
Peer = Callable[[Data], dict[str, Any]]


def main(peers: Mapping[str, Peer]) -> None:
    """``INPUT.npz OUTPUT.json PEER`` on the command line."""
    warnings.simplefilter("ignore")
    source, target, name = sys.argv[1:]
    with np.load(source) as raw:
        data = {key: raw[key] for key in raw.files}
    found = peers[name](data)
    found["peak_mb"] = peak_mb()
    Path(target).write_text(json.dumps(found))


def peak_mb() -> float:
    """Of this process alone: ``getrusage`` would count the one that started it too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def shifts(data: Data, suffix: str = "") -> dict[str, Any]:
    """Shift -> its items' embeddings, or what ``suffix`` names."""
    names = [key.split(":")[1] for key in data if key.startswith("shift:") and key.count(":") == 1]
    return {name: data[f"shift:{name}{suffix}"] for name in names}


def windows(data: Data, drifted: Callable[[Any], list[bool]], null: int = NULL, each: int = DRIFTED) -> dict[str, Any]:
    """A test of windows [k, N, 64] -> k alarms: false alarms, power, microseconds of CPU an item."""
    rng = np.random.default_rng(1)

    def share(pool: Any, count: int) -> float:
        rows = np.stack([rng.choice(len(pool), N, replace=False) for _ in range(count)])
        return float(np.mean(drifted(pool[rows])))

    drifted(data["rest"][None, :N])  # what is made once is no cost of an item
    start = time.process_time()
    false = share(data["rest"], null)
    took = time.process_time() - start
    power = {name: share(pool, each) for name, pool in shifts(data).items()}
    return {"false_alarms": false, "windows": null, "power": power, "item_us": took / null / N * 1e6}


def streams(
    data: Data, make: Callable[[], Callable[[Any], bool]], suffix: str = "", count: int = STREAMS
) -> dict[str, Any]:
    """A test of streams: alarms where nothing drifts, delay after a change at item BEFORE, microseconds of CPU an item.
    ``run_length``: items an alarm, streams that had none counted to their end."""
    rng = np.random.default_rng(2)
    rest = data["rest" + suffix]
    alarms, items, took = 0, 0, 0.0
    for _ in range(count):
        step, stream = make(), rest[rng.integers(len(rest), size=MOST)]
        start = time.process_time()
        at = _first(step, stream)
        took += time.process_time() - start
        alarms, items = alarms + (at is not None), items + (MOST if at is None else at)
    delays = {}
    for name, pool in shifts(data, suffix).items():
        found = []
        for _ in range(count):
            step = make()
            if _first(step, rest[rng.integers(len(rest), size=BEFORE)]) is None:
                found.append(_first(step, pool[rng.integers(len(pool), size=LATEST)]) or LATEST)
        delays[name] = float(np.median(found)) if found else None
    length = items / max(alarms, 0.5)
    return {"run_length": length, "alarms": alarms, "items": items, "delay": delays, "item_us": took / items * 1e6}


def _first(step: Callable[[Any], bool], stream: Any) -> int | None:
    """The place, from 1, of the first item that alarms."""
    return next((at for at, item in enumerate(stream, 1) if step(item)), None)
