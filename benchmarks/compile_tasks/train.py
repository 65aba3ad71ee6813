"""Train the float source of each task once, seeded and on one thread, and export it: what every tool starts from.

    python -m compile_tasks.train [TASK ...]

Weights are kept as ``weights/TASK.safetensors`` under the benchmark's data, with ``TASK.json`` beside: figures, seconds
and the digest of recipe and configuration. A recipe that changed is trained again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compile_tasks import ALL, Task, minilm
from compile_tasks.data import BENCH, BenchError
from edgewise_compiler.recipe import build_model, load_recipe, load_split, predict_with, save_weights

OPSET = 20


@dataclass(frozen=True)
class Trained:
    """``weights``: safetensors. ``figures``: the recipe's, over the reference. ``seconds``: of training, wall-clock."""

    weights: Path
    figures: dict[str, float]
    parameters: int
    seconds: float


def train(task: Task, root: Path = BENCH) -> Trained:
    """The task's float source, trained where it is not there yet. Raises BenchError, and CompileError of the recipe.

    For tasks with a recipe only.
    """
    import torch

    if task.recipe is None:
        raise BenchError(f"{task.name}: expected a task with a recipe; its source is an ONNX file: nothing is trained")
    weights = root / "weights" / f"{task.name}.safetensors"
    record = weights.with_suffix(".json")
    # Of the configuration, not of where the data lies.
    key = hashlib.sha256(
        task.recipe.read_bytes() + json.dumps([task.config, task.seed], sort_keys=True).encode()
    ).hexdigest()
    if weights.is_file() and record.is_file():
        kept = json.loads(record.read_text())
        if kept["key"] == key:
            return Trained(weights, kept["figures"], kept["parameters"], kept["seconds"])
    torch.set_num_threads(1)
    config = task.configuration(root)
    recipe = load_recipe(task.recipe)
    torch.manual_seed(task.seed)
    model = build_model(recipe, config)
    inputs, labels = load_split(recipe, "train", config)
    start = time.monotonic()

    def progress(done: float, doing: str) -> None:
        print(f"\r{task.name}: {done:4.0%} {doing}", end="", file=sys.stderr, flush=True)

    model = recipe.train(model, inputs, labels, config, seed=task.seed, progress=progress).eval()
    print(file=sys.stderr)
    seconds = time.monotonic() - start
    figures = recipe.evaluate(predict_with(model), *load_split(recipe, "reference", config))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_weights(model, weights)
    record.write_text(
        json.dumps({"key": key, "figures": figures, "parameters": parameters, "seconds": seconds}, indent=1) + "\n"
    )
    return Trained(weights, figures, parameters, seconds)


def source_onnx(task: Task, root: Path = BENCH) -> Path:
    """The float model as ONNX with a dynamic batch, outputs ``scores`` and ``embedding``: the peers' source.

    Raises BenchError, and CompileError of the recipe.
    """
    if task.recipe is None:
        return minilm(root)
    import torch

    trained = train(task, root)
    path = trained.weights.with_suffix(".onnx")
    if path.is_file() and path.stat().st_mtime >= trained.weights.stat().st_mtime:
        return path
    config = task.configuration(root)
    recipe = load_recipe(task.recipe)
    model = build_model(recipe, config, trained.weights)
    items, _ = load_split(recipe, "calibrate", config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        program = torch.onnx.export(
            model,
            (torch.from_numpy(np.ascontiguousarray(items[:2])),),
            dynamo=True,
            input_names=["input"],
            output_names=["scores", "embedding"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise BenchError(f"{task.name}: torch exported no ONNX model")
    program.save(str(path), external_data=False)
    return path


def main() -> int:
    """Train what is named, or all; one line each."""
    parser = argparse.ArgumentParser(description="Train the float sources of the compile benchmark.")
    trainable = [name for name, task in ALL.items() if task.recipe]
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(trainable)}; all by default")
    for name in parser.parse_args().tasks or trainable:
        if name not in trainable:
            parser.error(f"expected one of {', '.join(trainable)}, got {name}")
        trained = train(ALL[name])
        figures = ", ".join(f"{figure} {value:.4f}" for figure, value in trained.figures.items())
        print(f"{name}: {figures}; {trained.parameters} parameters; trained in {trained.seconds:.0f} s", flush=True)
        source_onnx(ALL[name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
