"""What is compiled: an ONNX file with data, or a recipe with weights. Both open to the same thing.

Rules that hold here:
- the ONNX way never imports torch;
- data keeps its order of time, and is bounded: ``MAX_REFERENCE`` items are the reference, ``MAX_CALIBRATE`` calibrate.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.recipe import Array, Predict, build_model, load_recipe, load_split, predict_with

if TYPE_CHECKING:
    import torch

FIDELITY = "fidelity"
"""The metric without labels: top-1 agreement with the source."""
MAX_REFERENCE = 20_000
MAX_CALIBRATE = 512
MAX_FILE = 2 * 1024**3


@dataclass(frozen=True)
class OnnxSource:
    """``data``: an npz with ``inputs`` [n, ...] and, where known, ``labels`` int [n] and ``class_names``."""

    model: Path
    data: Path


@dataclass(frozen=True)
class RecipeSource:
    """A recipe, its weights (safetensors) and its configuration (JSON-able)."""

    recipe: Path
    weights: Path
    config: dict[str, Any]


Source = OnnxSource | RecipeSource


@dataclass(frozen=True)
class Opened:
    """A source, read and checked. ``module`` is the torch model to export; with an ONNX source it is None.

    ``evaluate``: figures of whatever predicts, or None without labels. ``baseline``: how the torch model predicts.
    """

    calibrate: Array
    reference: Array
    labels: npt.NDArray[np.int64] | None
    classes: list[str]
    metric: str
    evaluate: Callable[[Predict, Array, Array], dict[str, float]] | None
    digests: dict[str, str]
    model: Path | None = None
    module: torch.nn.Module | None = None
    baseline: Predict | None = None
    notes: list[str] = field(default_factory=list)

    def judge(self, predict: Predict) -> tuple[float, dict[str, float]]:
        """(metric, all figures) of whatever predicts, over the reference; only with labels.

        Raises CompileError (code ``bad-recipe``).
        """
        assert self.evaluate is not None and self.labels is not None
        try:
            found = self.evaluate(predict, self.reference, self.labels)
            figures = {str(name): float(value) for name, value in found.items()}
        except CompileError:
            raise
        except Exception as error:  # the recipe is somebody's code and may raise anything
            raise CompileError(f"evaluate: {type(error).__name__}: {one_line(error)}", code="bad-recipe") from error
        if not np.isfinite(list(figures.values())).all() or self.metric not in figures:
            raise CompileError(
                f"evaluate: expected finite figures with {self.metric!r} among them, got {figures!r:.200}",
                code="bad-recipe",
            )
        return figures[self.metric], figures

    def check_classes(self, classes: int) -> None:
        """Do the labels and the class names fit scores [n, classes]? Raises CompileError (code ``bad-data``)."""
        if self.classes and len(self.classes) != classes:
            raise CompileError(
                f"class names: expected {classes}, as the scores are wide, got {len(self.classes)}", code="bad-data"
            )
        if self.labels is not None and not (self.labels.min() >= 0 and self.labels.max() < classes):
            raise CompileError(
                f"labels: expected 0 to {classes - 1}, got {self.labels.min()} to {self.labels.max()}",
                code="bad-data",
            )


def open_source(source: Source) -> Opened:
    """Read a source. Raises CompileError (code ``bad-source``, ``bad-recipe`` or ``bad-data``)."""
    return _open_onnx(source) if isinstance(source, OnnxSource) else _open_recipe(source)


def _open_recipe(source: RecipeSource) -> Opened:
    digests = {
        "recipe": digest_of(source.recipe),
        "weights": digest_of(source.weights),
        "config": hashlib.sha256(json.dumps(source.config, sort_keys=True, default=str).encode()).hexdigest(),
    }
    recipe = load_recipe(source.recipe)
    module = build_model(recipe, source.config, source.weights)
    calibrate, _ = load_split(recipe, "calibrate", source.config)
    reference, labels = load_split(recipe, "reference", source.config)
    digests |= {"calibrate": digest_of_arrays(calibrate), "reference": digest_of_arrays(reference, labels)}
    return Opened(
        calibrate=calibrate[:MAX_CALIBRATE],
        reference=reference[:MAX_REFERENCE],
        labels=labels[:MAX_REFERENCE],
        classes=list(recipe.CLASSES),
        metric=recipe.METRIC,
        evaluate=recipe.evaluate,
        digests=digests,
        module=module,
        baseline=predict_with(module),
        notes=_cut_note(len(reference)),
    )


def _open_onnx(source: OnnxSource) -> Opened:
    digests = {"model": digest_of(source.model), "data": digest_of(source.data)}
    try:
        with np.load(source.data, allow_pickle=False) as data:
            arrays = {name: data[name] for name in ("inputs", "labels", "class_names") if name in data}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CompileError(
            f"{source.data.name}: expected an npz with 'inputs': {one_line(error)}", code="bad-data"
        ) from error
    inputs, labels, names = arrays.get("inputs"), arrays.get("labels"), arrays.get("class_names")
    if inputs is None or inputs.ndim < 1 or not len(inputs):
        raise CompileError(f"{source.data.name}: expected an array 'inputs' [n, ...], n > 0", code="bad-data")
    if labels is not None and (labels.shape != (len(inputs),) or labels.dtype.kind not in "iu"):
        raise CompileError(
            f"{source.data.name}: labels: expected integers [{len(inputs)}], got {labels.dtype} {list(labels.shape)}",
            code="bad-data",
        )
    rows = np.unique(np.linspace(0, len(inputs) - 1, min(len(inputs), MAX_CALIBRATE)).astype(int))
    return Opened(
        calibrate=inputs[rows],
        reference=inputs[:MAX_REFERENCE],
        labels=None if labels is None else labels[:MAX_REFERENCE].astype(np.int64),
        classes=[] if names is None else [str(name) for name in names.ravel()],
        metric=FIDELITY if labels is None else "accuracy",
        evaluate=None if labels is None else accuracy,
        digests=digests,
        model=source.model,
        notes=_cut_note(len(inputs)),
    )


def accuracy(predict: Predict, inputs: Array, labels: Array) -> dict[str, float]:
    """Share of items whose highest score is the label's."""
    return {"accuracy": float(np.mean(predict(inputs).argmax(axis=1) == labels))}


def digest_of(path: Path) -> str:
    """sha256 of a file, hex. Raises CompileError (code ``bad-source``) when it cannot be read or is over the bound."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise CompileError(f"{path.name}: at most {MAX_FILE} bytes, got {path.stat().st_size}", code="bad-source")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CompileError(f"{path.name}: cannot be read: {error.strerror}", code="bad-source") from error


def digest_of_arrays(*arrays: Array) -> str:
    """sha256 of arrays with their dtypes and shapes, hex."""
    sha256 = hashlib.sha256()
    for array in arrays:
        sha256.update(f"{array.dtype.str}{array.shape}".encode())
        sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


def _cut_note(n: int) -> list[str]:
    return [f"reference: the first {MAX_REFERENCE} of {n} items"] if n > MAX_REFERENCE else []
