"""Microseconds of CPU an item of MMDDriftOnline: ``python online_cost_run.py INPUT.npz OUTPUT.json PEER``.

With a reference of 1,000, and with one of 10,000, which is what Edgewise has. The latter's bootstraps would take an
hour, and an item's cost does not depend on the thresholds that come of them, so they are left out.
"""

from __future__ import annotations

import time
from typing import Any

import harness
import numpy as np
import torch
from alibi_detect.cd.pytorch.mmd_online import MMDDriftOnlineTorch
from harness import Data

LARGE = 10_000


class WithoutThresholds(MMDDriftOnlineTorch):
    """Never alarms."""

    def _configure_thresholds(self) -> None:
        self.thresholds = [float("inf")] * self.window_size


def cost(kind: type[MMDDriftOnlineTorch], reference: Any, stream: Any) -> dict[str, Any]:
    torch.set_num_threads(1)
    detector = kind(reference, ert=1000, window_size=50, n_bootstraps=2000, verbose=False)
    start = time.process_time()
    for x in stream:
        detector.predict(x, return_test_stat=False)
    return {"item_us": (time.process_time() - start) / len(stream) * 1e6}


def as_run(data: Data) -> dict[str, Any]:
    rest = data["rest"].astype(np.float32)
    return cost(MMDDriftOnlineTorch, data["reference"].astype(np.float32), rest[:2000])


def as_large(data: Data) -> dict[str, Any]:
    rest = data["rest"].astype(np.float32)
    return cost(WithoutThresholds, rest[:LARGE], rest[LARGE:][:1000])


if __name__ == "__main__":
    harness.main({"1,000": as_run, "10,000": as_large})
