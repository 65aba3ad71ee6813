"""Targets: each lowers a model for one runtime. One file each; third parties add theirs by an entry point.

A target says what it cannot take (``unsupported``: node, why, the rewrite that would help) and, rung by rung, which
candidates it has to offer: nodes of a plan. It computes nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import ClassVar

import onnx

from edgewise.profile import Profile
from edgewise_compiler.budget import Budget
from edgewise_compiler.errors import CompileError, Unsupported
from edgewise_compiler.passes import Kind
from edgewise_compiler.plan import Origin, Step
from edgewise_compiler.runner import Outcome
from edgewise_compiler.techniques import Techniques

GROUP = "edgewise.targets"
BUILT_IN = {
    "onnxruntime": "ort:OnnxRuntime",
    "onnxruntime-web": "ort:OnnxRuntimeWeb",
    "litert": "litert:LiteRt",
    "openvino": "openvino:OpenVino",
    "executorch": "executorch:ExecuTorch",
}


@dataclass(frozen=True)
class Ask:
    """What a target's candidates depend on. ``original``: the TFLite file that the source was read from. ``run``: the
    outcome of a node, where the next ones turn on it. ``has_labels``: of the training data."""

    source: Origin
    original: Origin | None
    profile: Profile
    budget: Budget
    run: Callable[[Step], Outcome]
    operators: frozenset[str]
    """Operator types of the source."""
    has_labels: bool
    techniques: Techniques
    student: Origin | None = None
    """``techniques.student``, opened."""


class Target:
    """Base of all targets. ``kind``: of the files it makes; ``suffix``: of their names."""

    name: ClassVar[str]
    kind: ClassVar[Kind] = "onnx"
    suffix: ClassVar[str] = ".onnx"
    runtime: ClassVar[str | None] = None
    """Which of the agent's runtimes can measure it here, if any."""

    def missing(self) -> str | None:
        """What must be installed first, as one line with the command; None when nothing is missing."""
        return None

    def unsupported(self, model: onnx.ModelProto) -> list[Unsupported]:
        """The nodes that it cannot take."""
        raise NotImplementedError

    def candidates(self, rung: str, ask: Ask) -> Iterator[tuple[str, Step]]:
        """(name, node) of each candidate of a rung, in the order in which they are tried."""
        raise NotImplementedError

    def check(self, made: Path) -> None:
        """Look at a finished file once more before it ships. Raises CompileError."""


@cache
def find(name: str) -> Target | None:
    """A target by name: built in, or by an entry point of the group ``edgewise.targets``; None when there is none."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        made: Target = getattr(import_module(f"{__name__}.{module}"), attribute)()
        return made
    for point in entry_points(group=GROUP):
        if point.name == name:
            other: Target = point.load()()
            return other
    return None


def names() -> list[str]:
    """All targets there are."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def first(profile: Profile) -> Target:
    """The target that the profile prefers, of those that there are. Raises CompileError (code ``cannot-plan``)."""
    for name in profile.runtimes:
        if target := find(name):
            return target
    raise CompileError(
        f"device profile {profile.name!r}: runtimes: expected one of {', '.join(names())}, "
        f"got {', '.join(profile.runtimes)}",
        code="cannot-plan",
    )
