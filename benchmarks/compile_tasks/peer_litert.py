"""Run by ``peers`` with the litert toolchain's Python: torch -> LiteRT, then the default static int8 recipe.

A job on stdin. It imports what that environment has, and the recipe: not the rest of this benchmark.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import litert_torch
import numpy as np
import torch
from ai_edge_quantizer import quantizer, recipe
from safetensors.torch import load_model

SIGNATURE = "serving_default"


def main(job: dict[str, Any]) -> None:
    """Convert and quantize."""
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("recipe_of_task", job["recipe"])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.build(job["config"])
    load_model(model, job["weights"])
    with np.load(job["calibrate"], allow_pickle=False) as data:
        items = data["inputs/input"]
    floating = Path(job["out"]).with_suffix(".float.tflite")
    litert_torch.convert(model.eval(), (torch.from_numpy(items[:1]),)).export(str(floating))
    tool = quantizer.Quantizer(str(floating))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    ranges = tool.calibrate({SIGNATURE: [{"args_0": items[row : row + 1]} for row in range(len(items))]})
    tool.quantize(ranges).export_model(job["out"], overwrite=True)


if __name__ == "__main__":
    main(json.load(sys.stdin))
