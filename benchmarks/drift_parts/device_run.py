"""What a device's sketches cost, in a process of its own that imports what a device does.

    python device_run.py SPEC.json PROJECTION.bin ITEMS.npz N...

ITEMS: ``e`` float32 [n, 64] and ``s`` [n, classes]. Prints JSON: CPU an item by batch, bytes of a window of each N
items, peak memory of the process.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from harness import peak_mb

from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.sketch.spec import projection_matrix


def main() -> None:
    """Measure and print."""
    spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=SketchSpec)
    assert spec.embedding is not None
    matrix = projection_matrix(spec.embedding, Path(sys.argv[2]).read_bytes())
    with np.load(sys.argv[3]) as raw:
        embeddings, scores = raw["e"], raw["s"]
    took = {}
    for batch in (1, 32, 128):
        window = WindowSketches(spec, matrix)
        window.update([0.01] * batch, scores[:batch], embeddings[:batch])
        start = time.process_time()
        for at in range(0, 3200, batch):
            window.update([0.01] * batch, scores[at : at + batch], embeddings[at : at + batch])
        took[batch] = (time.process_time() - start) / 3200 * 1e6
    sent = {}
    for n in map(int, sys.argv[4:]):
        window = WindowSketches(spec, matrix)
        latencies = np.random.default_rng(0).lognormal(-6, 0.3, n)
        window.update(latencies, scores[:n], embeddings[:n])
        sent[n] = sum(map(len, window.encode().values()))
    print(json.dumps({"us": took, "bytes": sent, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
