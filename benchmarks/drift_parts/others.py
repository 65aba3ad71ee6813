"""The peers: what they are given, and what each says, or its error."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from compile_tasks.data import BenchError

from drift_parts import embeddings, environments, kept

HERE = Path(__file__).parent
REFERENCE = 1000
"""Items of the reference that peers are given: most are too slow for more."""
REST = 12_000
TOLD = ("noise .1", "rotation 10", "shift 2 px", "zeros doubled")
"""Shifts that the peers are given."""
EMBEDDING, NUMBER = 64 * 4, 4
"""Bytes an item of what a peer reads: the embedding as float32, or the confidence."""
SENT = {"River ADWIN, on confidence": NUMBER, "River KSWIN, on confidence": NUMBER, "NannyML CBPE": 10 * NUMBER}
"""Bytes an item that a device would send; EMBEDDING of those not named."""
SCRIPTS = {
    "River ADWIN, on confidence": "peers",
    "River KSWIN, on confidence": "peers",
    "Evidently distance": "peers",
    "Evidently ratio": "peers",
    "Evidently model": "peers",
    "Evidently MMD, bootstrap": "peers",
    "alibi-detect KSDrift": "peers",
    "alibi-detect MMDDrift": "peers",
    "alibi-detect MMDDriftOnline": "peers",
    "NannyML reconstruction": "nannyml",
    "NannyML univariate KS": "nannyml",
    "NannyML domain classifier": "nannyml",
    "NannyML CBPE": "nannyml",
}
"""Peer -> its environment."""


def rows(count: int) -> tuple[Any, Any]:
    """Rows of the peers' reference and of their rest, out of ``count`` clean ones."""
    order = np.random.default_rng(3).permutation(count)
    return order[:REFERENCE], order[REFERENCE : REFERENCE + REST]


@cache
def given() -> Path:
    """MNIST's embeddings, as ``harness.py`` reads them."""
    arrays: dict[str, Any] = {}
    with np.load(embeddings.make("mnist")) as raw:
        reference, rest = rows(len(raw["clean_e"]))
        sets = {"reference": ("clean", reference), "rest": ("clean", rest)}
        sets |= {f"shift:{shift}": (shift, slice(0, 2000)) for shift in TOLD}
        for name, (source, chosen) in sets.items():
            scores = raw[f"{source}_s"][chosen].astype(np.float64)
            chances = np.exp(scores - scores.max(axis=1, keepdims=True))
            arrays[name] = raw[f"{source}_e"][chosen]
            arrays[f"{name}:scores"] = scores
            arrays[f"{name}:confidence"] = chances.max(axis=1) / chances.sum(axis=1)
            arrays[f"{name}:labels"] = raw[f"{source}_y"][chosen]
    path = kept.PLACE / "given.npz"
    np.savez(path, **arrays)
    return path


def ask(peer: str) -> dict[str, Any]:
    """What it says, or ``error``."""
    environment = SCRIPTS[peer]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "found.json"
        try:
            environments.run(environment, f"{environment}_run.py", given(), target, peer)
        except BenchError as error:
            return {"error": str(error)}
        found: dict[str, Any] = json.loads(target.read_text())
        return found


def everyone() -> dict[str, dict[str, Any]]:
    """Every peer's, each kept."""
    of = {
        name: kept.digest(HERE / "others.py", HERE / "harness.py", HERE / f"{name}_run.py", HERE / f"{name}.txt")
        for name in ("peers", "nannyml")
    }
    made = embeddings.digest("mnist")
    return {peer: kept.part(peer, f"{of[name]}-{made}", lambda peer=peer: ask(peer)) for peer, name in SCRIPTS.items()}
