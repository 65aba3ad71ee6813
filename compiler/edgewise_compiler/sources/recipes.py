"""A recipe with weights: what the hub can train again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgewise_compiler.data import Array, Data
from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.metric import Metric
from edgewise_compiler.model import Answers
from edgewise_compiler.recipe import Predict, Recipe, build_model, load_recipe, load_split, predict_with
from edgewise_compiler.sources.opened import MAX_CALIBRATE, MAX_REFERENCE, Opened, digest_of
from edgewise_compiler.sources.program import PACKAGES, export

INPUT = "input"
MAX_TRAIN = 200_000


@dataclass(frozen=True)
class RecipeSource:
    """A recipe, its weights (safetensors) and its configuration (JSON-able)."""

    recipe: Path
    weights: Path
    config: dict[str, Any]


def open_recipe(source: RecipeSource, folder: Path) -> Opened:
    """Build, load weights and data, export. Raises CompileError (code ``bad-recipe`` and those of the export)."""
    config = hashlib.sha256(json.dumps(source.config, sort_keys=True, default=str).encode()).hexdigest()
    digests = {"recipe": digest_of(source.recipe), "weights": digest_of(source.weights), "config": config}
    recipe = load_recipe(source.recipe)
    module = build_model(recipe, source.config, source.weights)
    splits = {name: _split(recipe, name, source.config) for name in ("calibrate", "reference", "train")}
    digests |= {name: splits[name].digest() for name in ("calibrate", "reference")}
    total, reference = len(splits["reference"]), splits["reference"].take(slice(0, MAX_REFERENCE))
    path = folder / "source.onnx"
    parity, notes = export(module, reference, path)
    if total > MAX_REFERENCE:
        notes.append(f"reference: the first {MAX_REFERENCE} of {total} items")
    metric = Metric(recipe.METRIC, lambda answers, data: _judge(recipe, answers, data), digests["recipe"])
    return Opened(
        model=path,
        traits=frozenset(("float32",)),
        data={
            "calibrate": splits["calibrate"].take(slice(0, MAX_CALIBRATE)),
            "train": splits["train"].take(slice(0, MAX_TRAIN)),
        },
        reference=reference,
        metric=metric,
        classes=list(recipe.CLASSES),
        digests=digests,
        named=("scores", "embedding"),
        baseline=lambda: evaluate(recipe, predict_with(module), reference),
        parity=parity,
        packages=PACKAGES,
        notes=notes,
    )


def _split(recipe: Recipe, name: str, config: dict[str, Any]) -> Data:
    inputs, labels = load_split(recipe, name, config)
    return Data({INPUT: inputs}, labels)


def _judge(recipe: Recipe, answers: Answers, data: Data) -> dict[str, float]:
    """The recipe's figures of a candidate. What it answered to the reference already is not run again."""

    def predict(items: Array) -> Array:
        if items is data.inputs[INPUT]:
            assert answers.scores is not None
            return answers.scores
        raise CompileError(
            "evaluate: expected to predict the inputs that it was given, whole and as they are; got others",
            code="bad-recipe",
        )

    return evaluate(recipe, predict, data)  # type: ignore[arg-type]


def evaluate(recipe: Recipe, predict: Predict, data: Data) -> dict[str, float]:
    """The recipe's figures of whatever predicts. Raises CompileError (code ``bad-recipe``)."""
    assert data.labels is not None
    try:
        found = recipe.evaluate(predict, data.inputs[INPUT], data.labels)
        figures = {str(name): float(value) for name, value in found.items()}
    except CompileError:
        raise
    except Exception as error:  # the recipe is somebody's code and may raise anything
        raise CompileError(f"evaluate: {type(error).__name__}: {one_line(error)}", code="bad-recipe") from error
    if not np.isfinite(list(figures.values())).all() or recipe.METRIC not in figures:
        raise CompileError(
            f"evaluate: expected finite figures with {recipe.METRIC!r} among them, got {figures!r:.200}",
            code="bad-recipe",
        )
    return figures
