"""The data sets of the drift benchmark as embeddings: small nets trained here, then clean and shifted items through
them.

Each set is one npz under ``.data/bench/drift/embeddings``: ``NAME_e`` float32 [n, 64], ``NAME_s`` scores, ``NAME_y``
labels, for ``clean`` (held out, never trained on) and for each shift. Its name holds the digest of the code that made
it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from drift_parts import kept, nets, other_sets, picture_sets
from drift_parts.nets import Array, Set

HERE = Path(__file__).parent
PLACE = kept.PLACE / "embeddings"
COMMON = [HERE / "embeddings.py", HERE / "nets.py"]
NAMES = ("mnist", "fashion", "watch", "letters", "mails", "molecules")
SETS: dict[str, tuple[Callable[[], tuple[nets.Net, Set]], list[Path]]] = {
    "mnist": (picture_sets.mnist, [HERE / "picture_sets.py", HERE / "corrupt.py"]),
    "fashion": (picture_sets.fashion, [HERE / "picture_sets.py", HERE / "corrupt.py"]),
    "watch": (other_sets.watch, [HERE / "other_sets.py"]),
    "letters": (other_sets.letters, [HERE / "other_sets.py"]),
    "molecules": (other_sets.molecules, [HERE / "other_sets.py", HERE / "molecules.py"]),
}
"""Name -> (what makes it, of which files besides COMMON). The mails' model is nobody's here, and has no scores."""


def digest(name: str) -> str:
    """Of the code that makes a set."""
    return kept.digest(*COMMON, *(SETS[name][1] if name in SETS else [HERE / "other_sets.py"]))


def make(name: str) -> Path:
    """The set's file, made where it is not there yet."""
    path = PLACE / f"{name}-{digest(name)}.npz"
    if path.is_file():
        return path
    torch.set_num_threads(1)
    PLACE.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Array] = {}
    if name == "mails":
        arrays = other_sets.mails()
    else:
        net, parts = SETS[name][0]()
        for shift, (inputs, labels) in parts.items():
            arrays[f"{shift}_e"], arrays[f"{shift}_s"] = nets.answer(net, inputs)
            arrays[f"{shift}_y"] = labels
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays)
    partial.replace(path)
    return path


def shifts(name: str) -> list[str]:
    """Names of a set's shifts."""
    with np.load(make(name)) as raw:
        return sorted(key[:-2] for key in raw.files if key.endswith("_e") and key != "clean_e")


def accuracy(name: str, shift: str) -> float | None:
    """The net's share of right answers; None of a set without labels."""
    with np.load(make(name)) as raw:
        if f"{shift}_y" not in raw.files:
            return None
        return float((raw[f"{shift}_s"].argmax(axis=1) == raw[f"{shift}_y"]).mean())
