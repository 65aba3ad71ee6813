"""torch -> ONNX, held against torch on real inputs. BatchNorm stays: what prunes and trains wants it.

What leaves here is one self-contained file without traces of the machine that wrote it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx

from edgewise_compiler.data import Array, Data
from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.model import Model

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

OPSET = 20
PARITY_LIMIT = 1e-3
PARITY_ITEMS = 256
TWO_OUTPUTS = ("scores", "embedding")


def export_module(
    module: torch.nn.Module | ExportedProgram, data: Data | None, path: Path, outputs: tuple[str, ...] = ()
) -> list[str]:
    """Write a module as ONNX, inputs by the names in ``data`` with a dynamic batch, and return notes.

    Without names for the ``outputs``: ``scores`` and ``embedding`` where there are two, ``scores`` where there is one.
    A program that is exported already keeps its own names and axes (``data`` is None then).
    Raises CompileError (code ``cannot-export``) with one line that names what could not be exported.
    """
    import torch

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    arguments: dict[str, Any] = {}
    try:
        if data is not None:
            examples = [torch.from_numpy(_example(array)) for array in data.inputs.values()]
            arguments = {
                "args": tuple(examples),
                "input_names": list(data.inputs),
                "output_names": list(outputs or _names(module, examples)),
                "dynamic_shapes": ({0: torch.export.Dim("batch")},) * len(examples),
            }
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations, about nothing that the user wrote
            program = torch.onnx.export(
                module, dynamo=True, opset_version=OPSET, verbose=False, optimize=False, **arguments
            )
        if program is None:
            raise CompileError("the exporter gave no model", code="cannot-export")
        model = program.model_proto
    except CompileError:
        raise
    except Exception as error:  # the module is somebody's code, and torch raises classes of many families
        raise CompileError(f"cannot export the model to ONNX: {explain(error)}", code="cannot-export") from error
    finally:
        logger.setLevel(level)
    anonymous(model)
    onnx.save_model(model, str(path))
    got = opset_of(model)
    return [] if got == OPSET else [f"ONNX opset {got}: the exporter could not write {OPSET}"]


def _example(array: Array) -> Array:
    """Two items: a batch of one would be taken for a constant."""
    return np.ascontiguousarray(array[:2] if len(array) > 1 else array[[0, 0]])


def _names(module: Any, examples: list[torch.Tensor]) -> tuple[str, ...]:
    """Names of the outputs that forward gives. Raises CompileError (code ``cannot-export``)."""
    import torch

    with torch.no_grad():
        outputs = module(*examples)
    parts = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    if not all(isinstance(part, torch.Tensor) for part in parts) or (
        len(parts) > 2 or not parts or (len(parts) == 2 and not all(part.ndim == 2 for part in parts))
    ):
        raise CompileError(
            "expected a model that returns (scores [n, classes], embedding [n, d]), or one tensor, or names for its "
            f"outputs; got {type(outputs).__name__} of {_shapes(outputs)}",
            code="cannot-export",
        )
    return TWO_OUTPUTS[: len(parts)]


def _shapes(outputs: object) -> str:
    parts = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return ", ".join(str(list(part.shape)) if hasattr(part, "shape") else type(part).__name__ for part in parts)


def explain(error: BaseException) -> str:
    """torch's wall of text as one line: the innermost cause, the operator or the line of code it names."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    operator = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", text)
    if operator:
        return f"operator {operator[1]} has no ONNX form; write that part with other operators"
    line = one_line(type(error)(text) if type(error) in (RuntimeError, ValueError, TypeError) else Exception(text))
    places = re.findall(r'File "([^"]+)", line (\d+), in \w+\n\s+(.+)', text)
    if places:
        file, number, code = places[-1]
        return f"{line} at {Path(file).name}, line {number}: {code.strip()[:100]}"
    return line


def check_parity(module: torch.nn.Module, model: Model, data: Data) -> float:
    """Largest difference between torch and the exported model over real items, in all outputs.

    It may be at most ``PARITY_LIMIT``, times the largest output where that is above one. Items that torch itself gives
    NaN or infinity for are left to the check on finite outputs. Raises CompileError (code ``parity``).
    """
    import torch

    items = data.take(slice(None, None, max(1, len(data) // PARITY_ITEMS))).take(slice(0, PARITY_ITEMS))
    with torch.no_grad():
        given = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in items.inputs.values()))
    expected = [part.numpy() for part in (given if isinstance(given, (tuple, list)) else (given,))]
    answers = model.answer(items)
    largest = 0.0
    for tensor, want in zip(model.outputs, expected, strict=True):
        got = answers.outputs[tensor.name]
        if got.shape != want.shape:
            raise CompileError(f"exported model: expected {tensor.name} {list(want.shape)}", code="parity")
        rows = np.isfinite(want).reshape(len(want), -1).all(axis=1)
        if not rows.any():
            continue
        difference = float(np.abs(want[rows].astype(np.float64) - got[rows]).max())
        limit = PARITY_LIMIT * max(1.0, float(np.abs(want[rows]).max()))
        if not difference <= limit:
            raise CompileError(
                f"exported model: {tensor.name} differs from torch by {difference:.2g} over {len(items)} real items, "
                f"expected at most {limit:.2g}; does forward() depend on values that were fixed at export?",
                code="parity",
            )
        largest = max(largest, difference)
    return largest


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def anonymous(model: onnx.ModelProto) -> None:
    """Take out what exporters leave behind: documentation, stack traces with the paths of a machine."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    for part in [*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output, *model.functions]:
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    for function in model.functions:
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]
