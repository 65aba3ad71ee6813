"""What others say of the same embeddings: run in an environment of their own, one JSON after each peer.

    python peers.py INPUT.npz OUTPUT.json

INPUT: ``reference`` and ``rest`` [n, 64] clean, ``shift:NAME`` [n, 64], and each with ``:confidence``. OUTPUT: peer ->
{false_alarms, windows, power: {shift: share}, delay: {shift: items}, run_length, window_ms, item_us, memory_mb}.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

N = 50
NULL, DRIFTED = 40, 20
STREAMS, MOST = 24, 1500
ALPHA = 0.05


def main(source: Path, target: Path) -> None:
    """Run every peer that is not in ``target`` yet."""
    warnings.simplefilter("ignore")
    with np.load(source) as raw:
        data = {name: raw[name] for name in raw.files}
    done = json.loads(target.read_text()) if target.is_file() else {}
    for name, peer in PEERS.items():
        if name in done:
            continue
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            done[name] = peer(data) | {
                "memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            }
        except Exception as error:  # a peer that fails is named with its error
            done[name] = {"error": f"{type(error).__name__}: {error}"[:200]}
        target.write_text(json.dumps(done, indent=1))


def _windows(
    data: dict[str, Any], drifted: Callable[[Any], bool], null: int = NULL, each: int = DRIFTED
) -> dict[str, Any]:
    """A test of windows: false alarms, power, milliseconds of CPU a window."""
    rng = np.random.default_rng(1)

    def share(pool: Any, count: int) -> float:
        return float(np.mean([drifted(pool[rng.choice(len(pool), N, replace=False)]) for _ in range(count)]))

    start = time.process_time()
    found = {"false_alarms": share(data["rest"], null), "windows": null}
    took = time.process_time() - start
    shifts = [name for name in data if name.startswith("shift:") and not name.endswith(":confidence")]
    power = {name[6:]: share(data[name], each) for name in shifts}
    return found | {"power": power, "window_ms": took / null * 1000, "item_us": took / null / N * 1e6}


def _streams(data: dict[str, Any], make: Callable[[], Callable[[Any], bool]], suffix: str = "") -> dict[str, Any]:
    """A test of streams: run length where nothing drifts, delay from item 200 on, microseconds of CPU an item."""
    rng = np.random.default_rng(2)
    rest = data["rest" + suffix]
    alarms, items, start = 0, 0, time.process_time()
    for _ in range(STREAMS):
        step = make()
        for _ in range(MOST):
            items += 1
            if step(rest[rng.integers(len(rest))]):
                alarms += 1
                break
    took = time.process_time() - start
    delays = {}
    names = [name for name in data if name.startswith("shift:") and name.endswith(":confidence") == bool(suffix)]
    for name in names:
        found = []
        for _ in range(STREAMS):
            step, quiet = make(), True
            for _ in range(100):
                quiet = quiet and not step(rest[rng.integers(len(rest))])
            late = 1000
            for at in range(1, 1001):
                if step(data[name][rng.integers(len(data[name]))]):
                    late = at
                    break
            found += [late] if quiet else []
        delays[name[6:].removesuffix(":confidence")] = float(np.median(found)) if found else None
    return {"run_length": items / max(alarms, 0.5), "delay": delays, "item_us": took / items * 1e6}


def mmd(data: dict[str, Any]) -> dict[str, Any]:
    from alibi_detect.cd import MMDDrift

    detector = MMDDrift(data["reference"].astype(np.float32), backend="pytorch", p_val=ALPHA)
    return _windows(data, lambda x: bool(detector.predict(x.astype(np.float32))["data"]["is_drift"]), 24, 12)


def ks(data: dict[str, Any]) -> dict[str, Any]:
    from alibi_detect.cd import KSDrift

    detector = KSDrift(data["reference"], p_val=ALPHA)
    return _windows(data, lambda x: bool(detector.predict(x)["data"]["is_drift"]))


def mmd_online(data: dict[str, Any]) -> dict[str, Any]:
    from alibi_detect.cd import MMDDriftOnline

    start = time.process_time()
    reference = data["reference"].astype(np.float32)
    detector = MMDDriftOnline(reference, ert=1000, window_size=50, backend="pytorch", n_bootstraps=2000, verbose=False)
    setup = time.process_time() - start

    def make() -> Callable[[Any], bool]:
        detector.reset_state()
        return lambda x: bool(detector.predict(x.astype(np.float32), return_test_stat=False)["data"]["is_drift"])

    return _streams(data, make) | {"setup_s": setup}


def _evidently(
    method: str, null: int = NULL, each: int = DRIFTED, **options: Any
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def peer(data: dict[str, Any]) -> dict[str, Any]:
        import pandas as pd
        from evidently.legacy.metrics.data_drift import embedding_drift_methods

        test = getattr(embedding_drift_methods, method)(**options)
        reference = pd.DataFrame(data["reference"])
        return _windows(data, lambda x: bool(test(reference, pd.DataFrame(x))[1]), null, each)

    return peer


def _river(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def peer(data: dict[str, Any]) -> dict[str, Any]:
        from river import drift

        def make() -> Callable[[Any], bool]:
            detector = getattr(drift, name)(seed=1) if name == "KSWIN" else getattr(drift, name)()

            def step(x: Any) -> bool:
                detector.update(float(x))
                return bool(detector.drift_detected)

            return step

        return _streams(data, make, ":confidence")

    return peer


PEERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "River ADWIN, on confidence": _river("ADWIN"),
    "River KSWIN, on confidence": _river("KSWIN"),
    "Evidently distance": _evidently("distance"),
    "Evidently ratio": _evidently("ratio", 20, 8),
    "Evidently model": _evidently("model"),
    "alibi-detect KSDrift": ks,
    "alibi-detect MMDDrift": mmd,
    "Evidently MMD, bootstrap": _evidently("mmd", 10, 4, bootstrap=True),
    "alibi-detect MMDDriftOnline": mmd_online,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
