"""What every strategy is given and gives back, and the few steps that all of them take."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewise_compiler.recipe import Array, Config, Predict, Recipe
from edgewise_hub.learning.compare import Slice, Verdict
from edgewise_hub.learning.errors import LearningError
from edgewise_hub.learning.options import Options
from edgewise_hub.learning.samples import Labelled

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Parent:
    """The version to start from: safetensors weights, and the config that its model was built with."""

    version: int
    weights: Path
    config: Config


@dataclass(frozen=True)
class Lesson:
    """What a strategy is given. ``config`` is the recipe's; ``samples`` are those collected, or None."""

    recipe: Recipe
    config: Config
    options: Options
    parent: Parent | None
    samples: Labelled | None
    progress: Callable[[float, str], None]


@dataclass(frozen=True)
class Learned:
    """What came of it. ``model`` is None where nothing is worth keeping. ``data``: sha256 of each set of arrays."""

    verdict: Verdict
    model: torch.nn.Module | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)
    standard_error: float | None = None
    data: dict[str, str] = field(default_factory=dict)


def evaluate(recipe: Recipe, predict: Predict, inputs: Array, labels: Array) -> dict[str, float]:
    """The recipe's figures, checked to hold its METRIC. Raises LearningError (code ``bad-recipe``)."""
    figures = recipe.evaluate(predict, inputs, labels)
    if not isinstance(figures, dict) or not isinstance(figures.get(recipe.METRIC), (int, float)):
        raise LearningError(
            f"recipe: evaluate: expected a figure {recipe.METRIC!r}, got {figures!r:.200}", code="bad-recipe"
        )
    return {name: float(value) for name, value in figures.items()}


def digest_of(*arrays: Array) -> str:
    """sha256 over dtype, shape and bytes (C order) of arrays, one after the other."""
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(f"{array.dtype.str}{list(array.shape)}".encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()
