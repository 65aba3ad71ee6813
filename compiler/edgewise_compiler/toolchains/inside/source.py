"""An ONNX model as a torch module for converters.

The importer to torch is ours and lies beside this package; it is loaded by path, since we are not installed here.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from .job import Refused

IMPORTER = Path(__file__).resolve().parents[2] / "training" / "onnx_torch"


def load(path: Path, inputs: Sequence[dict[str, Any]]) -> nn.Module:
    """The model: tensors in the order of the graph's inputs in, the tuple of its outputs out. Raises Refused.

    Its inputs' shapes are fixed first: what only asks for sizes, an ``If`` among it, is then known.
    """
    importer = _importer()
    model = importer.with_shapes(onnx.load(str(path)), {spec["name"]: spec["shape"] for spec in inputs})
    try:
        module: nn.Module = importer.to_module(model)
    except importer.UnsupportedGraphError as error:
        nodes = [{"node": n.node, "op": n.op, "why": n.why, "rewrite": n.rewrite} for n in error.nodes]
        raise Refused(str(error), nodes) from error
    return module.eval()


def samples(inputs: Sequence[dict[str, Any]], seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Tensors to trace with, one an input ({"name", "dtype", "shape"}): noise for floats, zeros for the rest."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.rand(tuple(spec["shape"]), generator=generator).to(dtype)
        if (dtype := torch.from_numpy(np.zeros(0, spec["dtype"])).dtype).is_floating_point
        else torch.zeros(tuple(spec["shape"]), dtype=dtype)
        for spec in inputs
    )


def _importer() -> Any:
    spec = importlib.util.spec_from_file_location(
        "onnx_torch", IMPORTER / "__init__.py", submodule_search_locations=[str(IMPORTER)]
    )
    if spec is None or spec.loader is None:
        raise FileNotFoundError(IMPORTER)
    module = importlib.util.module_from_spec(spec)
    sys.modules["onnx_torch"] = module
    spec.loader.exec_module(module)
    return module
