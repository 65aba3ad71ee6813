"""A source that has been opened: its model as ONNX, its data, and how it is judged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgewise_compiler.data import Array, Data, read_npz
from edgewise_compiler.errors import CompileError
from edgewise_compiler.metric import Metric, accuracy
from edgewise_compiler.model import Model
from edgewise_compiler.passes import Needs

MAX_REFERENCE = 20_000
MAX_CALIBRATE = 512
MAX_FILE = 2 * 1024**3
SPLITS = ("train", "calibrate", "reference")


@dataclass(frozen=True)
class Opened:
    """``model``: an ONNX file; ``original``: the TFLite file that it was read from. ``traits`` as in ``plan``.

    ``data``: what passes read; without ``train`` they train on ``calibrate``. ``named``: (scores, embedding).
    ``baseline``: the metric of the source on its own runtime (torch), where that is another one. ``parity``: largest
    difference between the source and its ONNX form. ``packages``: distributions that the export depends on.
    ``columns``, ``categorical``: as in ``sketches.tabular``.
    """

    model: Path
    traits: frozenset[str]
    data: dict[Needs, Data]
    reference: Data
    metric: Metric
    classes: list[str]
    digests: dict[str, str]
    named: tuple[str | None, str | None]
    original: Path | None = None
    baseline: Callable[[], dict[str, float]] | None = None
    parity: float | None = None
    packages: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()

    def check_classes(self, classes: int | None) -> None:
        """Do the labels and the class names fit scores [n, classes]? Raises CompileError (code ``bad-data``)."""
        labels = self.reference.labels
        if classes is None:
            return
        if self.classes and len(self.classes) != classes:
            raise CompileError(
                f"class names: expected {classes}, as the scores are wide, got {len(self.classes)}", code="bad-data"
            )
        if labels is not None and not (labels.min() >= 0 and labels.max() < classes):
            raise CompileError(
                f"labels: expected 0 to {classes - 1}, got {labels.min()} to {labels.max()}", code="bad-data"
            )


@dataclass(frozen=True)
class DataFile:
    """What an npz of data says: its splits, the names of the classes, of all columns, and of those with categories."""

    data: dict[Needs, Data]
    reference: Data
    classes: list[str]
    notes: list[str]
    columns: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()


def read_data(path: Path, model: Model, renamed: Mapping[str, str] | None = None) -> DataFile:
    """Data for a model, from an npz.

    Arrays are called like the model's inputs (``inputs`` will do for a model with one), ``labels`` int [n] where known,
    ``class_names``; for tabular inputs ``feature_names`` of all columns in order, and ``categorical`` names among them.
    With ``train/``, ``calibrate/`` or ``reference/`` before a name it is of that split; what has no
    split is the reference, and calibrates as well where no split does. ``renamed``: new names of inputs by old ones,
    which do as well. Raises CompileError (code ``bad-data``).
    """
    arrays = read_npz(path)
    names = arrays.pop("class_names", None)
    columns, categorical = (
        () if found is None else tuple(str(name) for name in found.ravel())
        for found in (arrays.pop("feature_names", None), arrays.pop("categorical", None))
    )
    splits: dict[str, dict[str, Array]] = {}
    for key, array in arrays.items():
        split, name = _split(key)
        name = (renamed or {}).get(name, name)
        if not array.ndim:
            raise CompileError(
                f"{path.name}: expected arrays [n, ...] called like the model's inputs ({', '.join(model.ranks)}), "
                f"'labels', or 'SPLIT/NAME' with SPLIT one of {', '.join(SPLITS)}; got {key!r} {list(array.shape)}",
                code="bad-data",
            )
        splits.setdefault(split, {})[name] = array
    made = {split: _as_data(path, split, found, model) for split, found in splits.items()}
    reference = made.get("reference") or made.get("")
    if reference is None:
        raise CompileError(
            f"{path.name}: expected inputs to judge on ({', '.join(model.ranks)}), got "
            + (", ".join(arrays) or "nothing"),
            code="bad-data",
        )
    data: dict[Needs, Data] = {"calibrate": (made.get("calibrate") or made.get("") or reference).spread(MAX_CALIBRATE)}
    if "train" in made:
        data["train"] = made["train"]
    classes = [] if names is None else [str(name) for name in names.ravel()]
    notes = (
        [f"reference: the first {MAX_REFERENCE} of {len(reference)} items"] if len(reference) > MAX_REFERENCE else []
    )
    if "calibrate" not in made and "train" not in made:
        notes.append("calibration data is part of the reference: give a 'calibrate/' split for an unbiased metric")
    return DataFile(data, reference.take(slice(0, MAX_REFERENCE)), classes, notes, columns, categorical)


def _split(key: str) -> tuple[str, str]:
    """(split, name); a name may hold slashes of its own."""
    first, slash, rest = key.partition("/")
    return (first, rest) if slash and first in SPLITS else ("", key)


def _as_data(path: Path, split: str, arrays: dict[str, Array], model: Model) -> Data:
    what = f"{path.name}: {split or 'data'}"
    labels = arrays.pop("labels", None)
    if len(model.ranks) == 1 and len(arrays) == 1:
        arrays = {next(iter(model.ranks)): next(iter(arrays.values()))}
    data = Data(arrays)
    if not arrays or not len(data):
        raise CompileError(f"{what}: expected at least one item of {', '.join(model.ranks)}, got none", code="bad-data")
    model.check(data, what)
    if labels is None:
        return data
    if labels.shape != (len(data),) or labels.dtype.kind not in "iu":
        raise CompileError(
            f"{what}: labels: expected integers [{len(data)}], got {labels.dtype} {list(labels.shape)}", code="bad-data"
        )
    return Data(arrays, labels.astype(np.int64))


def default_metric(model: Model, reference: Data) -> Metric:
    """Accuracy where there are labels and class scores, else fidelity."""
    if reference.labels is None or model.scores is None:
        return Metric()
    return Metric("accuracy", accuracy, "accuracy-1")


def digest_of(path: Path) -> str:
    """sha256 of a file, hex. Raises CompileError (code ``bad-source``) when it cannot be read or is over the bound."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise CompileError(f"{path.name}: at most {MAX_FILE} bytes, got {path.stat().st_size}", code="bad-source")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CompileError(f"{path.name}: cannot be read: {error.strerror}", code="bad-source") from error
