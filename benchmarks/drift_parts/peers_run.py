"""alibi-detect, Evidently and River on the same embeddings: ``python peers_run.py INPUT.npz OUTPUT.json PEER``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import harness
import numpy as np
from harness import ALPHA, DRIFTED, NULL, Data, Peer

BOOTSTRAPS = 10_000
"""Of MMDDriftOnline: its own documentation asks for ten times the run length or more."""
REFERENCES = 3
"""MMDDriftOnline is set up on so many: its run length depends on the one reference that its limits come from."""


def ks(data: Data) -> dict[str, Any]:
    from alibi_detect.cd import KSDrift

    detector = KSDrift(data["reference"], p_val=ALPHA)
    return harness.windows(data, lambda many: [bool(detector.predict(x)["data"]["is_drift"]) for x in many])


def mmd(data: Data) -> dict[str, Any]:
    import torch
    from alibi_detect.cd import MMDDrift

    torch.set_num_threads(1)
    detector = MMDDrift(data["reference"].astype(np.float32), backend="pytorch", p_val=ALPHA)

    def drifted(many: Any) -> list[bool]:
        return [bool(detector.predict(x.astype(np.float32))["data"]["is_drift"]) for x in many]

    return harness.windows(data, drifted, 40, 20)


def mmd_online(data: Data) -> dict[str, Any]:
    """Of several references of 1,000: the first, and others out of the rest."""
    import torch
    from alibi_detect.cd import MMDDriftOnline

    torch.set_num_threads(1)
    size = len(data["reference"])
    extra = [data["rest"][i * size : (i + 1) * size] for i in range(REFERENCES - 1)]
    unseen = {**data, "rest": data["rest"][(REFERENCES - 1) * size :]}
    found = []
    for seed, reference in enumerate([data["reference"], *extra]):
        torch.manual_seed(seed)
        start = time.process_time()
        detector = MMDDriftOnline(
            reference.astype(np.float32),
            ert=1000,
            window_size=50,
            backend="pytorch",
            n_bootstraps=BOOTSTRAPS,
            verbose=False,
        )
        setup = time.process_time() - start

        def make(detector: Any = detector) -> Callable[[Any], bool]:
            detector.reset_state()
            return lambda x: bool(detector.predict(x.astype(np.float32), return_test_stat=False)["data"]["is_drift"])

        found.append(harness.streams(unseen, make, count=harness.STREAMS // REFERENCES) | {"setup_s": setup})
    items, alarms = sum(each["items"] for each in found), sum(each["alarms"] for each in found)
    return {
        "run_length": items / max(alarms, 0.5),
        "alarms": alarms,
        "items": items,
        "each": [each["run_length"] for each in found],
        "delay": {name: float(np.median([each["delay"][name] for each in found])) for name in found[0]["delay"]},
        "item_us": float(np.median([each["item_us"] for each in found])),
        "setup_s": float(np.median([each["setup_s"] for each in found])),
    }


def _evidently(method: str, null: int = NULL, each: int = DRIFTED, **options: Any) -> Peer:
    def peer(data: Data) -> dict[str, Any]:
        import pandas as pd
        from evidently.legacy.metrics.data_drift import embedding_drift_methods

        test = getattr(embedding_drift_methods, method)(**options)
        reference = pd.DataFrame(data["reference"])
        return harness.windows(data, lambda many: [bool(test(reference, pd.DataFrame(x))[1]) for x in many], null, each)

    return peer


def _river(name: str, **options: Any) -> Peer:
    def peer(data: Data) -> dict[str, Any]:
        from river import drift

        def make() -> Callable[[Any], bool]:
            detector = getattr(drift, name)(**options)

            def step(x: Any) -> bool:
                detector.update(float(x))
                return bool(detector.drift_detected)

            return step

        return harness.streams(data, make, ":confidence")

    return peer


PEERS: dict[str, Peer] = {
    "River ADWIN, on confidence": _river("ADWIN"),
    "River KSWIN, on confidence": _river("KSWIN", seed=1),
    "Evidently distance": _evidently("distance"),
    "Evidently ratio": _evidently("ratio"),
    "Evidently model": _evidently("model"),
    "Evidently MMD, bootstrap": _evidently("mmd", bootstrap=True),
    "alibi-detect KSDrift": ks,
    "alibi-detect MMDDrift": mmd,
    "alibi-detect MMDDriftOnline": mmd_online,
}

if __name__ == "__main__":
    harness.main(PEERS)
