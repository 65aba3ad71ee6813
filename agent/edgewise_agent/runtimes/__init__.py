"""Runtimes: one file each behind one small protocol. Imported only when a model needs it.

The compiler measures with these very classes, so what it measures is what a device will run.
A new runtime: one file, one line in ``RUNTIMES``.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from edgewise.bundle import Tensor
from edgewise.errors import EdgewiseError

if TYPE_CHECKING:  # the supervisor reads RUNTIMES and must not pay for numpy
    import numpy as np
    import numpy.typing as npt

Arrays: TypeAlias = "dict[str, npt.NDArray[np.generic]]"


class RuntimeFailure(EdgewiseError):
    """The runtime is missing, cannot load the model, or failed to run it."""

    code = "runtime-failed"


class Runtime(Protocol):
    """A loaded model. ``infer`` may be called from several threads."""

    @property
    def version(self) -> str:
        """Name and version of the library, such as ``onnxruntime 1.32.0``."""

    def describe(self) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and outputs as the file says; -1 for a dynamic axis."""

    def infer(self, inputs: Arrays) -> Arrays:
        """Run once: arrays by input name (batch first) -> arrays by output name. Raises RuntimeFailure."""


RUNTIMES = {"onnxruntime": "edgewise_agent.runtimes.ort:OrtRuntime"}


def open_runtime(name: str, path: Path, threads: int = 1) -> Runtime:
    """Load the model file at ``path`` with the named runtime. Raises RuntimeFailure."""
    if name not in RUNTIMES:
        raise RuntimeFailure(f"runtime {name!r}: expected one of {', '.join(RUNTIMES)}", code="unknown-runtime")
    module, _, attribute = RUNTIMES[name].partition(":")
    try:
        opener = getattr(import_module(module), attribute)
    except ImportError as error:
        raise RuntimeFailure(f"runtime {name} is not installed here: {error}", code="runtime-missing") from error
    runtime: Runtime = opener(path, threads)
    return runtime
