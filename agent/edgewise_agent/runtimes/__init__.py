"""Runtimes: one file each behind one small protocol. Imported only when a model needs it.

The compiler measures with these very classes, so what it measures is what a device will run.
A new runtime: one file, one line in ``RUNTIMES``, and a line in the contract suite (``tests/agent/runtimes``).

Rules that hold in each of them:
- ``infer`` is safe to call from several threads, and never uses more cores than ``threads`` a call;
- what it answers are copies: the caller may keep them, change them, and infer again;
- what goes wrong is a ``RuntimeFailure`` of one line.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from edgewise.bundle import Tensor
from edgewise.errors import EdgewiseError

if TYPE_CHECKING:  # the supervisor reads RUNTIMES and must not pay for numpy
    import numpy as np
    import numpy.typing as npt

Arrays: TypeAlias = "dict[str, npt.NDArray[np.generic]]"

MAX_REASON = 500
"""Characters that are kept of a library's message."""


class RuntimeFailure(EdgewiseError):
    """The runtime is missing, cannot load the model, or failed to run it.

    Codes: ``unknown-runtime``, ``runtime-missing``, ``adapter-refused``, ``load-failed``, ``runtime-failed``.
    """

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


@dataclass(frozen=True)
class Entry:
    """Where a runtime's class is, and what it needs.

    ``libraries``: modules, of which any one will do; ``install``: how to get one; ``adapters``: does it take them?
    """

    opener: str
    libraries: tuple[str, ...]
    install: str
    adapters: bool = False


RUNTIMES = {
    "onnxruntime": Entry(
        "edgewise_agent.runtimes.ort:OrtRuntime", ("onnxruntime",), "pip install edgewise-agent", adapters=True
    ),
    "litert": Entry(
        "edgewise_agent.runtimes.litert:LiteRtRuntime",
        ("ai_edge_litert", "tflite_runtime"),
        "pip install 'edgewise-agent[litert]'",
    ),
    "openvino": Entry(
        "edgewise_agent.runtimes.openvino:OpenVinoRuntime", ("openvino",), "pip install 'edgewise-agent[openvino]'"
    ),
}


def available() -> list[str]:
    """Names of the runtimes whose library is installed here. Imports none of them."""
    return [name for name, entry in RUNTIMES.items() if any(find_spec(library) for library in entry.libraries)]


def open_runtime(name: str, path: Path, threads: int = 1, adapter: Path | None = None) -> Runtime:
    """Load the model file at ``path`` with the named runtime. Raises RuntimeFailure.

    ``adapter``: a LoRA adapter that is active in every inference; onnxruntime alone takes one.
    """
    entry = RUNTIMES.get(name)
    if entry is None:
        raise RuntimeFailure(f"runtime {name!r}: expected one of {', '.join(RUNTIMES)}", code="unknown-runtime")
    if threads < 1:
        raise RuntimeFailure(f"runtime {name}: expected one thread or more, got {threads}")
    if adapter is not None and not entry.adapters:
        raise RuntimeFailure(
            f"runtime {name} takes no LoRA adapter: merge it into the model, or compile for onnxruntime",
            code="adapter-refused",
        )
    module, _, attribute = entry.opener.partition(":")
    try:
        opener = getattr(import_module(module), attribute)
    except ImportError as error:
        raise RuntimeFailure(
            f"runtime {name} cannot be imported here ({reason(error)}); {entry.install}", code="runtime-missing"
        ) from error
    runtime: Runtime = opener(path, threads) if adapter is None else opener(path, threads, adapter)
    return runtime


def reason(error: BaseException) -> str:
    """A library's message as one line of at most ``MAX_REASON`` characters."""
    return " ".join(str(error).split())[:MAX_REASON]
