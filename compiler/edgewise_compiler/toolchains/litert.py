"""ONNX -> TFLite, in the toolchain ``litert``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from edgewise_compiler.toolchains import process

NAME = "litert"
Mode = Literal["fp32", "fp16", "int8", "int8x16", "dynamic", "weight4"]
CALIBRATED: frozenset[Mode] = frozenset({"int8", "int8x16"})
TIMEOUT_S = 1800.0


class TensorSpec(msgspec.Struct, frozen=True):
    """A tensor of a model. ``dtype``: numpy's name; ``shape``: static, batch 1."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion. ``calibration``: an npz with an array [n, ...] for each input, in the ONNX model's layout.

    ``float_model``: where the float conversion is kept. When it is there, it is used instead of ``model``, so that the
    modes of one model with one ``nhwc`` share it. ``nhwc``: 4-d float inputs take channels last.
    """

    model: Path
    out: Path
    mode: Mode
    inputs: Sequence[TensorSpec]
    outputs: Sequence[str]
    float_model: Path = msgspec.field(name="float")
    calibration: Path | None = None
    nhwc: bool = False


class Converted(msgspec.Struct, frozen=True):
    """What the file takes and gives: 64-bit tensors have become 32-bit."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


def convert(job: Job, progress: Callable[[float, str], None], *, timeout: float = TIMEOUT_S) -> Converted:
    """Write ``job.out``. ``timeout``: seconds.

    Raises ToolchainError (not installed) and ToolchainFailed (with the nodes that cannot be converted).
    """
    result = process.run(
        NAME, "convert_litert", msgspec.to_builtins(job, enc_hook=str), timeout=timeout, progress=progress
    )
    return msgspec.convert(result, Converted)
