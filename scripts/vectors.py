#!/usr/bin/env python
"""Writes docs/spec/sketch.json, what another implementation of sketches is tested with; --check holds ours against it.

Encoding and merging are exact. What an update adds may differ by one in each of an embedding's sums an item: products
of floats round by the machine. The inputs keep clear of the edges of every bin.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewise.bundle import digest
from edgewise.errors import SketchError
from edgewise.sketch import SketchSpec, WindowSketches, vector
from edgewise.sketch.base import ENCODING
from edgewise.sketch.spec import CategorySpec, EmbeddingSpec, FeatureSpec, projection_matrix

FILE = Path(__file__).parent.parent / "docs" / "spec" / "sketch.json"
VECTORS: list[list[int]] = [[], [0], [0] * 200, [1, -1, 63, -64, 64, -65], [0, 7, 0, 0, -300], [2**53 - 1, 1 - 2**53]]
REFUSED = {"cut off": "ff", "idle bytes": "8200", "a run cut in two": "00000001", "too few": "02", "too many": "020202",
           "too large": "ffffffffffffff7f02", "a run too long": "0005"}  # fmt: skip
REFUSED_COUNT = 2


def make() -> dict[str, Any]:
    """The document, from a fixed seed."""
    rng = np.random.default_rng(11)
    weights, centres = rng.normal(size=(4, 3)) / 2, rng.normal(size=(3, 3)) * 3
    blob = np.concatenate([weights, centres, [[0.5, 0.5, 0.0]], [[0.25, -0.25, 0.0]]]).astype("<f4").tobytes()
    embedding = EmbeddingSpec(
        dimension=3, features=8, sigma=2.0, seed=11, projection=digest(blob), cells=3, axes=1, precision=2.0,
        distance_edges=[2.0, 8.0], expected=[90, 40, -20, 0, 10, 5, 0, -60],
    )  # fmt: skip
    spec = SketchSpec(
        embedding=embedding,
        classes=3,
        confidence_edges=[0.5, 0.8],
        features=[FeatureSpec(name="heat", input="row", column=1, edges=[-0.5, 0.5], low=-4.0, high=4.0)],
        categories=[CategorySpec(name="kind", input="kind", values=[0.0, 2.0])],
    )
    windows = [_window(spec, blob, rng, n) for n in (1, 5, 40)]
    nan = {**windows[0]["batch"], "embeddings": [[None, 0.0, 0.0]], "scores": [[None, 0.0, 0.0]]}
    windows += [_counted(spec, blob, nan)]
    return {
        "encoding": ENCODING,
        "vectors": [{"values": values, "hex": vector.encode(values).hex()} for values in VECTORS],
        "refused": {"count": REFUSED_COUNT, "hex": REFUSED},
        "spec": msgspec.to_builtins(spec),
        "projection": blob.hex(),
        "windows": windows,
        "merged": _hex(_merged(spec, windows).encode()),
    }


def _window(spec: SketchSpec, blob: bytes, rng: np.random.Generator, n: int) -> dict[str, Any]:
    batch = {
        "latencies": (16e-6 * 2 ** ((rng.integers(0, 60, n) + 0.5) / 4)).tolist(),
        "scores": rng.normal(size=(n, 3)).round(3).tolist(),
        "embeddings": rng.normal(size=(n, 3)).round(3).tolist(),
        "inputs": {"row": rng.normal(size=(n, 2)).round(3).tolist(), "kind": rng.integers(0, 4, n).tolist()},
        "labels": rng.integers(0, 4, n).tolist(),
        "predictions": rng.integers(0, 3, n).tolist(),
    }
    return _counted(spec, blob, batch)


def _counted(spec: SketchSpec, blob: bytes, batch: dict[str, Any]) -> dict[str, Any]:
    sketches = _update(spec, blob, batch)
    values = {name: part.values.tolist() for name, part in sketches.parts.items()}
    return {"batch": batch, "values": values, "hex": _hex(sketches.encode())}


def _update(spec: SketchSpec, blob: bytes, batch: dict[str, Any]) -> WindowSketches:
    """``null`` stands for NaN."""
    assert spec.embedding is not None
    sketches = WindowSketches(spec, projection_matrix(spec.embedding, blob))
    scores, embeddings = (np.array(batch[name], dtype=np.float32) for name in ("scores", "embeddings"))
    inputs = {name: np.array(values) for name, values in batch["inputs"].items()}
    sketches.update(batch["latencies"], scores, embeddings, inputs)
    assert sketches.labels is not None
    sketches.labels.update(np.array(batch["labels"]), np.array(batch["predictions"]))
    return sketches


def _merged(spec: SketchSpec, windows: list[dict[str, Any]]) -> WindowSketches:
    merged = WindowSketches(spec)
    for window in windows:
        encoded = {name: bytes.fromhex(data) for name, data in window["hex"].items()}
        merged.merge(WindowSketches.decode(spec, encoded))
    return merged


def _hex(encoded: dict[str, bytes]) -> dict[str, str]:
    return {name: data.hex() for name, data in encoded.items()}


def check(document: dict[str, Any]) -> list[str]:
    """What of the document does not hold here."""
    spec, blob = msgspec.convert(document["spec"], SketchSpec), bytes.fromhex(document["projection"])
    wrong = [] if document["encoding"] == ENCODING else ["encoding"]
    for case in document["vectors"]:
        data = bytes.fromhex(case["hex"])
        if vector.encode(case["values"]) != data or vector.decode(data, len(case["values"])).tolist() != case["values"]:
            wrong.append(f"vector {case['values']}")
    for name, data in document["refused"]["hex"].items():
        try:
            vector.decode(bytes.fromhex(data), document["refused"]["count"])
            wrong.append(f"vector that is {name}")
        except SketchError:
            pass
    for number, window in enumerate(document["windows"]):
        stored, updated = WindowSketches(spec), _update(spec, blob, window["batch"])
        n = len(window["batch"]["scores"])
        for name, part in stored.parts.items():
            part.values[:] = window["values"][name]
            slack = np.zeros(len(part.values), dtype=np.int64)
            if name == "embedding":
                slack[-document["spec"]["embedding"]["features"] :] = n
            if (np.abs(updated.parts[name].values - part.values) > slack).any():
                wrong.append(f"window {number}: update of {name}")
        if _hex(stored.encode()) != window["hex"]:
            wrong.append(f"window {number}: encoding")
    for windows in (document["windows"], document["windows"][::-1]):
        if _hex(_merged(spec, windows).encode()) != document["merged"]:
            wrong.append("merged")
    return wrong


def main() -> None:
    """Write the file, or with --check compare."""
    if "--check" not in sys.argv:
        FILE.write_text(json.dumps(make(), indent=1) + "\n")
    wrong = check(json.loads(FILE.read_text()))
    if wrong:
        sys.exit(f"{FILE.name}: does not hold: {'; '.join(wrong)}; if sketches were meant to change, run {sys.argv[0]}")


if __name__ == "__main__":
    main()
