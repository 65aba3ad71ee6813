"""torch -> ONNX, held against torch on real inputs; and an ONNX file that comes ready, checked.

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
from typing import TYPE_CHECKING

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx

from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.model import Model
from edgewise_compiler.recipe import Array

if TYPE_CHECKING:
    import torch

OPSET = 20
MIN_OPSET = 13
"""The first with per-channel QuantizeLinear."""
PARITY_LIMIT = 1e-3
PARITY_ITEMS = 256


def export_module(module: torch.nn.Module, items: Array, path: Path) -> list[str]:
    """Write ``module`` as ONNX: input ``input`` [batch, ...], outputs ``scores`` and ``embedding``. Returns notes.

    Raises CompileError (code ``cannot-export``) with one line that names what could not be exported.
    """
    import torch

    example = torch.from_numpy(np.ascontiguousarray(items[:2] if len(items) > 1 else items[[0, 0]]))
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        _check_outputs(module, example)
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations, about nothing that the user wrote
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                input_names=["input"],
                output_names=["scores", "embedding"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                verbose=False,
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
    _anonymous(model)
    onnx.save_model(model, str(path))
    got = _opset(model)
    return [] if got == OPSET else [f"ONNX opset {got}: the exporter could not write {OPSET}"]


def _check_outputs(module: torch.nn.Module, example: torch.Tensor) -> None:
    import torch

    with torch.no_grad():
        outputs = module(example)
    if not (
        isinstance(outputs, tuple)
        and len(outputs) == 2
        and all(isinstance(output, torch.Tensor) and output.ndim == 2 for output in outputs)
    ):
        raise CompileError(
            "expected a model that returns (scores [n, classes], embedding [n, d]), "
            f"got {type(outputs).__name__} of {_shapes(outputs)}",
            code="cannot-export",
        )


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


def check_parity(module: torch.nn.Module, model: Model, items: Array) -> float:
    """Largest difference between torch and the exported model over real items, in scores and embedding.

    It may be at most ``PARITY_LIMIT``, times the largest output where that is above one. Items that torch itself gives
    NaN or infinity for are left to the check on finite outputs. Raises CompileError (code ``parity``).
    """
    import torch

    items = items[:: max(1, len(items) // PARITY_ITEMS)][:PARITY_ITEMS]
    with torch.no_grad():
        expected = [output.numpy() for output in module(torch.from_numpy(np.ascontiguousarray(items)))]
    answers = model.answer(items)
    largest = 0.0
    for name, want, got in (("scores", expected[0], answers.scores), ("embedding", expected[1], answers.embedding)):
        if got is None or got.shape != want.shape:
            raise CompileError(f"exported model: expected {name} {list(want.shape)}", code="parity")
        rows = np.isfinite(want).all(axis=1)
        if not rows.any():
            continue
        difference = float(np.abs(want[rows] - got[rows]).max())
        limit = PARITY_LIMIT * max(1.0, float(np.abs(want[rows]).max()))
        if not difference <= limit:
            raise CompileError(
                f"exported model: {name} differs from torch by {difference:.2g} over {len(items)} real items, "
                f"expected at most {limit:.2g}; does forward() depend on values that were fixed at export?",
                code="parity",
            )
        largest = max(largest, difference)
    return largest


def copy_onnx(source: Path, path: Path) -> None:
    """Check an ONNX file that comes ready, and write it as one file. Raises CompileError (code ``bad-source``)."""
    try:
        model = onnx.load_model(str(source))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf, the checker and external data each raise their own
        raise CompileError(
            f"{source.name}: expected an ONNX model in one file: {one_line(error)}", code="bad-source"
        ) from error
    if _opset(model) < MIN_OPSET:
        raise CompileError(
            f"{source.name}: expected ONNX opset {MIN_OPSET} or newer, got {_opset(model)}; export it anew",
            code="bad-source",
        )
    _anonymous(model)
    onnx.save_model(model, str(path))


def _opset(model: onnx.ModelProto) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _anonymous(model: onnx.ModelProto) -> None:
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
