"""ONNX and TFLite files, with their data in an npz. Neither needs torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.export import anonymous, opset_of
from edgewise_compiler.metric import Metric
from edgewise_compiler.model import Model
from edgewise_compiler.sources.embedding import with_embedding
from edgewise_compiler.sources.names import rename
from edgewise_compiler.sources.opened import Opened, default_metric, digest_of, read_data

MIN_OPSET = 7
"""Older ones have operators that changed their meaning."""
QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger",
             "DynamicQuantizeLinear", "QGemm", "QAttention", "MatMulNBits"}  # fmt: skip


@dataclass(frozen=True)
class OnnxSource:
    """``data``: an npz as ``sources.opened.read_data`` reads it. ``scores``, ``embedding``: names of those outputs,
    where the naming rule of ``model`` does not find them. ``metric``: the user's; else accuracy, or fidelity without
    labels."""

    model: Path
    data: Path
    metric: Metric | None = None
    scores: str | None = None
    embedding: str | None = None


@dataclass(frozen=True)
class TfliteSource:
    """As ``OnnxSource``. Inputs and outputs keep the file's names and layout."""

    model: Path
    data: Path
    metric: Metric | None = None
    scores: str | None = None
    embedding: str | None = None


def open_onnx(source: OnnxSource, folder: Path) -> Opened:
    """Check an ONNX file and its data. Raises CompileError (code ``bad-source``, ``bad-data``, ``not-finite``)."""
    digests = {"model": digest_of(source.model), "data": digest_of(source.data)}
    return _opened(source, read_onnx(source.model), folder / "source.onnx", digests)


def open_tflite(source: TfliteSource, folder: Path) -> Opened:
    """Read a TFLite file as ONNX, and check it as such. Raises CompileError (besides: code ``unsupported``)."""
    from edgewise_compiler.sources.tflite import tflite_to_onnx

    digests = {"model": digest_of(source.model), "data": digest_of(source.data)}
    model = tflite_to_onnx(source.model.read_bytes(), float_io=True)
    anonymous(model)
    return _opened(source, model, folder / "source.onnx", digests, source.model)


def _opened(
    source: OnnxSource | TfliteSource,
    proto: onnx.ModelProto,
    path: Path,
    digests: dict[str, str],
    original: Path | None = None,
) -> Opened:
    renamed = rename(proto)
    onnx.save_model(proto, str(path))
    model = Model(path)
    notes = [f"{old!r} is called {new!r} from here on: names must travel" for old, new in renamed.items()]
    read = read_data(source.data, model, renamed)
    if wrong := redeclare(proto.graph, model.shapes(read.reference)):
        notes += wrong
        onnx.save_model(proto, str(path))
        model = Model(path)
    scores = _named(model, source.scores, renamed) or model.scores
    if original is None:
        wanted = None if source.embedding is None else renamed.get(source.embedding, source.embedding)
        embedding = with_embedding(path, model, scores, wanted, notes)
    else:  # the file itself goes to the device: its outputs are those that it has
        embedding = _named(model, source.embedding, renamed) or model.embedding
    model = Model(path, named=(scores, embedding))
    return Opened(
        model=path,
        traits=traits_of(proto),
        data=read.data,
        reference=read.reference,
        metric=source.metric or default_metric(model, read.reference),
        classes=read.classes,
        digests=digests,
        named=(model.scores, model.embedding),
        # The file itself has the old names: it cannot be passed on as it came.
        original=None if renamed else original,
        notes=[*read.notes, *notes],
        columns=read.columns,
        categorical=read.categorical,
    )


def redeclare(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Take back, in place, what the graph declares of its outputs and an item's answer (``shapes``) contradicts: passes
    build on it, runtimes do not. Returns what was taken back, in words."""
    said = []
    for output in graph.output:
        declared, got = output.type.tensor_type.shape, shapes[output.name]
        dims = [dim.dim_value or -1 for dim in declared.dim]
        if not output.type.tensor_type.HasField("shape"):
            continue
        if len(dims) == len(got) and all(want in (-1, size) for want, size in zip(dims, got, strict=True)):
            continue
        said.append(f"output {output.name!r} is declared as {dims}, and an item's is {list(got)}: not relied on")
        kept = dims if len(dims) == len(got) else [-1] * len(got)
        declared.ClearField("dim")
        for want, size in zip(kept, got, strict=True):
            dim = declared.dim.add()
            if want == size:
                dim.dim_value = size
    return said


def _named(model: Model, name: str | None, renamed: dict[str, str]) -> str | None:
    name = None if name is None else renamed.get(name, name)
    if name is not None and name not in {tensor.name for tensor in model.outputs}:
        names = ", ".join(tensor.name for tensor in model.outputs)
        raise CompileError(f"output {name!r}: expected one of {names}", code="bad-source")
    return name


def read_onnx(path: Path) -> onnx.ModelProto:
    """An ONNX file, with its external data if it has some, checked. Raises CompileError."""
    try:
        model = onnx.load_model(str(path))
    except Exception as error:  # protobuf and external data each raise their own
        missing = isinstance(error, FileNotFoundError) or "external" in str(error).lower()
        wanted = "expected its external data beside it" if missing else "expected an ONNX model"
        raise CompileError(f"{path.name}: {wanted}: {one_line(error)}", code="bad-source") from error
    if not model.graph.output:
        raise CompileError(f"{path.name}: expected an ONNX model, got a file without outputs", code="bad-source")
    if opset_of(model) < MIN_OPSET:
        raise CompileError(
            f"{path.name}: expected ONNX opset {MIN_OPSET} or newer, got {opset_of(model)}; export it anew",
            code="bad-source",
        )
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker raises classes of its own and others
        raise CompileError(f"{path.name}: not a valid ONNX model: {one_line(error)}", code="bad-source") from error
    check_weights(model)
    anonymous(model)
    return model


def check_weights(model: onnx.ModelProto) -> None:
    """Raises CompileError (code ``not-finite``) that names a weight which is NaN or infinite.

    A few infinite values are a mask's (attention), and a single one is a bound (Clip): only NaN, and whole tensors of
    infinity, are refused.
    """
    for tensor in model.graph.initializer:
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
            continue
        values = numpy_helper.to_array(tensor)
        if values.size and (np.isnan(values).any() or (values.size > 1 and np.isinf(values).all())):
            bad = int((~np.isfinite(values)).sum())
            raise CompileError(
                f"weight {tensor.name!r}: {bad} of {values.size} values are NaN or infinite; train or export it anew",
                code="not-finite",
            )


def traits_of(model: onnx.ModelProto) -> frozenset[str]:
    """What holds of a model as it comes, in the words of ``plan``."""
    operators = {node.op_type for node in model.graph.node}
    if operators & QUANTIZED:
        return frozenset(("quantized",))
    halves = any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return frozenset(("half",)) if halves else frozenset(("float32",))
