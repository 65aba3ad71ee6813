"""CPU an item of Edgewise and of the one peer that also watches item by item, in one round, and what a device sends."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from drift_parts import embeddings, environments, others, ours, watching
from edgewise.sketch import SketchSpec
from edgewise_compiler.sketches import confidence_edges, embedding_parts

HERE = Path(__file__).parent
ROUNDS = 3
WINDOWS = (50, 200, 1000)
"""Items a window whose bytes are told."""
REFERENCES = ("1,000", "10,000")
"""Of MMDDriftOnline: the peers', and one as large as Edgewise's."""


def once() -> dict[str, float]:
    """Microseconds an item by name, bytes of a window, peak MB of the device's process."""
    device = _device()
    with tempfile.TemporaryDirectory() as folder:
        target, peer = Path(folder) / "found.json", {}
        for reference in REFERENCES:
            environments.run("peers", "online_cost_run.py", others.given(), target, reference)
            peer[f"alibi, {reference}"] = json.loads(target.read_text())["item_us"]
    return {
        **{f"device, {batch}": float(took) for batch, took in device["us"].items()},
        **{f"bytes, {n}": float(device["bytes"][str(n)]) for n in WINDOWS},
        "device, MB": device["peak_mb"],
        "panel, 50": ours.panel_cost(),
        "watch, 50": watching.cost(50),
        "watch, 1": watching.cost(1),
        "watch, many": watching.cost_of_many(),
        **peer,
    }


def _device() -> dict[str, Any]:
    """What ``device_run.py`` prints of MNIST's items, with sketches made by the compiler's own rules."""
    with np.load(embeddings.make("mnist")) as raw:
        held, scores = raw["clean_e"][:4000], raw["clean_s"][:4000]
        e, s = raw["clean_e"][4000:8000], raw["clean_s"][4000:8000]
    parts = embedding_parts(held, 0)
    assert parts is not None
    edges = confidence_edges(ours.confidence(scores), None)
    spec = SketchSpec(embedding=parts.spec, classes=scores.shape[1], confidence_edges=edges)
    with tempfile.TemporaryDirectory() as folder:
        given = [Path(folder) / name for name in ("spec.json", "projection.bin", "items.npz")]
        given[0].write_bytes(msgspec.json.encode(spec))
        given[1].write_bytes(parts.projection)
        np.savez(given[2], e=e, s=s)
        command = [sys.executable, str(HERE / "device_run.py"), *map(str, [*given, *WINDOWS])]
        found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found
