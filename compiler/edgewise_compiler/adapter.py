"""Adapters kept apart: a model whose adapters' values are the defaults of inputs that may be left out, taken in two.

One half is the base, where those defaults are zero: it answers as the model before it was fine-tuned, and is the same
file whatever was learned. The other is a file that onnxruntime takes by ``RunOptions.add_active_adapter``.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from edgewise_compiler.data import Array

PREFIX = "lora/"
"""Of the inputs' names."""


def split(model: onnx.ModelProto) -> dict[str, Array]:
    """Take the adapters' values out, in place: by input. Empty for a model without adapters."""
    inputs = {value.name for value in model.graph.input if value.name.startswith(PREFIX)}
    values: dict[str, Array] = {}
    for tensor in model.graph.initializer:
        if tensor.name in inputs:
            values[tensor.name] = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(values[tensor.name]), tensor.name))
    return values


def write(values: dict[str, Array], path: Path) -> None:
    """An adapter file: the same bytes for the same values."""
    adapter = onnxruntime.AdapterFormat()
    adapter.set_adapter_version(1)
    adapter.set_model_version(1)
    adapter.set_parameters({name: onnxruntime.OrtValue.ortvalue_from_numpy(values[name]) for name in sorted(values)})
    adapter.export_adapter(str(path))
