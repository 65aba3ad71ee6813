"""ONNX -> ExecuTorch (.pte, XNNPACK), and what a .pte file answers, in the toolchain ``executorch``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from edgewise_compiler.toolchains import process
from edgewise_compiler.toolchains.litert import TensorSpec

NAME = "executorch"
Mode = Literal["fp32", "int8"]
TIMEOUT_S = 1800.0


class Job(msgspec.Struct, frozen=True, kw_only=True, tag_field="task", tag="convert"):
    """One conversion. ``calibration``: an npz with an array [n, ...] for each input; needed for int8."""

    model: Path
    out: Path
    mode: Mode
    inputs: Sequence[TensorSpec]
    calibration: Path | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True, tag_field="task", tag="verify"):
    """Run ``model`` (.pte) over ``data``, an npz with an array [n, ...] for each input.

    The answers go to ``out``: an npz with an array [n, ...] for each of ``outputs``, which are named in the graph's
    order. Then ``runs`` runs are timed.
    """

    model: Path
    data: Path
    out: Path
    inputs: Sequence[TensorSpec]
    outputs: Sequence[str]
    runs: int = 0


class Converted(msgspec.Struct, frozen=True):
    """``portable``: operators that XNNPACK does not take, run by ExecuTorch's portable kernels: slow, but right."""

    portable: list[str]


class Verified(msgspec.Struct, frozen=True):
    """``seconds``: of each timed run, of one item on one thread."""

    seconds: list[float]


def convert(job: Job, progress: Callable[[float, str], None], *, timeout: float = TIMEOUT_S) -> Converted:
    """Write ``job.out``. ``timeout``: seconds. Raises ToolchainError (not installed) and ToolchainFailed."""
    result = process.run(
        NAME, "convert_executorch", msgspec.to_builtins(job, enc_hook=str), timeout=timeout, progress=progress
    )
    return msgspec.convert(result, Converted)


def verify(check: Check, progress: Callable[[float, str], None], *, timeout: float = TIMEOUT_S) -> Verified:
    """Write ``check.out``. As ``convert``."""
    result = process.run(
        NAME, "convert_executorch", msgspec.to_builtins(check, enc_hook=str), timeout=timeout, progress=progress
    )
    return msgspec.convert(result, Verified)
