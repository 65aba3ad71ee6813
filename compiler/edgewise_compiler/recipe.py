"""A recipe: how the hub builds, trains and judges somebody's model again. One Python file.

Rules that hold here:
- a recipe imports the standard library and installed packages only: it travels as one file;
- a recipe is somebody's code and runs with this process's rights: only job workers load one;
- weights are safetensors, never pickles.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from edgewise_compiler.errors import CompileError, one_line

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[np.generic]
Config = dict[str, Any]
Scores = npt.NDArray[np.floating]
Predict = Callable[[Array], Scores]
"""inputs [n, ...] -> scores [n, classes]"""
Progress = Callable[[float, str], None]
"""(fraction done, what is being done)"""

MAX_RECIPE = 1024 * 1024
FUNCTIONS = {
    "build": "build(config) -> torch.nn.Module that gives (scores, embedding)",
    "load": "load(split, config) -> (inputs, labels) for split 'train', 'calibrate', 'reference'",
    "train": "train(model, inputs, labels, config, *, seed, weights=None, progress) -> model",
    "evaluate": "evaluate(predict, inputs, labels) -> dict of figures",
}


class Recipe(Protocol):
    """A loaded recipe: its module's functions and, where it has them, ``CLASSES`` and ``METRIC``."""

    CLASSES: list[str]
    """Names of the classes, in the order of the scores; empty when the recipe has none."""
    METRIC: str
    """The figure of ``evaluate`` that versions are compared by; higher is better."""

    def build(self, config: Config) -> torch.nn.Module:
        """A fresh model. It takes the raw input tensor and returns (scores [n, classes], embedding [n, d])."""

    def load(self, split: str, config: Config) -> tuple[Array, Array]:
        """Inputs [n, ...] and labels [n] of a split, in the order of time."""

    def train(
        self,
        model: torch.nn.Module,
        inputs: Array,
        labels: Array,
        config: Config,
        *,
        seed: int,
        weights: Array | None = None,
        progress: Progress,
    ) -> torch.nn.Module:
        """Train, or fine-tune a model that comes with weights loaded. ``weights`` [n]: how much each item counts."""

    def evaluate(self, predict: Predict, inputs: Array, labels: Array) -> dict[str, float]:
        """Figures of whatever predicts: the torch model and the compiled bundle alike."""


def load_recipe(path: Path) -> Recipe:
    """Import a recipe file. Raises CompileError (code ``bad-recipe``) that names what is missing."""
    if not path.is_file():
        raise CompileError(f"{path}: expected a recipe (a Python file), got none", code="bad-recipe")
    if path.stat().st_size > MAX_RECIPE:
        raise CompileError(
            f"{path}: expected a recipe of at most {MAX_RECIPE} bytes, got {path.stat().st_size}", code="bad-recipe"
        )
    # A name of its own per content, so that two recipes called recipe.py can be loaded side by side.
    name = f"edgewise_recipe_{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CompileError(f"{path}: expected a Python file that ends in .py", code="bad-recipe")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the recipe is somebody's code and may raise anything
        del sys.modules[name]
        raise CompileError(
            f"{path.name}: cannot be imported: {type(error).__name__}: {one_line(error)}", code="bad-recipe"
        ) from error
    for function, signature in FUNCTIONS.items():
        if not callable(getattr(module, function, None)):
            raise CompileError(f"{path.name}: expected a function {signature}, got none", code="bad-recipe")
    classes = module.__dict__.setdefault("CLASSES", [])
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise CompileError(f"{path.name}: CLASSES: expected a list of names, got {classes!r:.100}", code="bad-recipe")
    if not isinstance(module.__dict__.setdefault("METRIC", "accuracy"), str):
        raise CompileError(f"{path.name}: METRIC: expected a name, got {module.METRIC!r:.100}", code="bad-recipe")
    return cast(Recipe, module)


def load_split(recipe: Recipe, split: str, config: Config) -> tuple[Array, npt.NDArray[np.int64]]:
    """A split's inputs and labels, checked. Raises CompileError (code ``bad-data``)."""
    try:
        inputs, labels = recipe.load(split, config)
    except Exception as error:  # the recipe is somebody's code and may raise anything
        raise CompileError(
            f"recipe: load({split!r}): {type(error).__name__}: {one_line(error)}", code="bad-data"
        ) from error
    inputs, labels = np.asarray(inputs), np.asarray(labels)
    if not len(inputs) or labels.shape != (len(inputs),) or labels.dtype.kind not in "iu":
        raise CompileError(
            f"recipe: load({split!r}): expected inputs [n, ...] and integer labels [n], n > 0; "
            f"got {list(inputs.shape)} and {labels.dtype} {list(labels.shape)}",
            code="bad-data",
        )
    return inputs, labels.astype(np.int64)


def build_model(recipe: Recipe, config: Config, weights: Path | None = None) -> torch.nn.Module:
    """The recipe's model in evaluation mode, with weights where given. Raises CompileError."""
    try:
        model = recipe.build(config)
    except Exception as error:  # the recipe is somebody's code and may raise anything
        raise CompileError(f"recipe: build: {type(error).__name__}: {one_line(error)}", code="bad-recipe") from error
    if weights is not None:
        load_weights(model, weights)
    return model.eval()


def predict_with(model: torch.nn.Module, batch: int = 512) -> Predict:
    """The torch model as ``evaluate`` takes it."""
    import torch

    def predict(inputs: Array) -> Scores:
        parts = [inputs[i : i + batch] for i in range(0, len(inputs), batch)]
        with torch.no_grad():
            return np.concatenate([model(torch.from_numpy(np.ascontiguousarray(part)))[0].numpy() for part in parts])

    return predict


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """Write the model's state as safetensors; tensors that share memory are written once."""
    from safetensors.torch import save_model

    save_model(model, str(path))


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load safetensors into the model; every name must match. Raises CompileError (code ``bad-source``)."""
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    try:
        load_model(model, str(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CompileError(
            f"{path.name}: expected safetensors weights of this recipe's model: {one_line(error)}", code="bad-source"
        ) from error
