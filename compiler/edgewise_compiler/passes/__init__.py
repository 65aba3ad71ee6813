"""Passes: each makes one file out of files. One file of code a pass; third parties add theirs by an entry point.

A pass says in its class what it is: what it **takes** and **makes**, what traits its model **needs**, **forbids**,
**gives** and **drops**, whether it is **lossy**, **trains** or needs **data**. A plan is checked against that before
anything is computed, and the runner holds every pass to its word afterwards (see ``plan`` and ``runner``).

Rules that hold here:
- a pass reads its inputs, its configuration, its data and its seed, and nothing else: the same give the same bytes;
- a pass knows no device profile: what it shall know of one is in its configuration;
- what cannot be done is refused (``Refusal``), with the nodes, the reason and the rewrite; an unexpected error is a
  failure, kept on disk so that it can be run again;
- a pass that trains, or that may crash, runs in a process of its own (``isolated``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError, Unsupported

Kind = Literal["onnx", "tflite", "openvino", "pte", "ranges", "sensitivity", "latency", "adapter"]
"""What a file is. The first four are models."""
MODELS: tuple[Kind, ...] = ("onnx", "tflite", "openvino", "pte")
Needs = Literal["none", "calibrate", "train"]
"""Which data a pass reads; one that trains gets ``calibrate`` where the source has no ``train``."""

GROUP = "edgewise.passes"
BUILT_IN = {
    "optimize": "optimize:Optimize",
    "fuse": "fuse:Fuse",
    "half": "half:Half",
    "calibrate": "calibrate:Calibrate",
    "quantize": "quantize:Quantize",
    "dynamic": "dynamic:Dynamic",
    "weights": "weights:Weights",
    "lighten": "lighten:Lighten",
    "equalize": "equalize:Equalize",
    "correct": "correct:Correct",
    "sensitivity": "sensitivity:Sensitivity",
    "layer_latency": "layer_latency:LayerLatency",
    "mixed": "mixed:Mixed",
    "qat": "qat:Qat",
    "prune": "prune:Prune",
    "mask": "mask:Mask",
    "distill": "distill:Distill",
    "lora": "lora:Lora",
    "strip": "strip:Strip",
    "litert": "litert:LiteRt",
    "litert_quantize": "litert:LiteRtQuantize",
    "openvino": "openvino:OpenVino",
    "executorch": "executorch:ExecuTorch",
}


class PassConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every pass's configuration: plain values with defaults, JSON-able, part of the cache's key."""


Config = PassConfig


@dataclass
class Work:
    """What one run of a pass is given. ``inputs``: files by role, as in ``Pass.takes``; ``out``: the file to write.

    ``scores`` and ``embedding``: names of those outputs of the model, where it has them. ``data``: what the pass asked
    for; it has at least one item. ``folder``: for scratch files, empty. ``notes``: sentences for the report.
    """

    inputs: dict[str, Path]
    out: Path
    folder: Path
    config: Any
    data: Data | None
    seed: int
    scores: str | None
    embedding: str | None
    progress: Callable[[float, str], None]
    notes: list[str] = field(default_factory=list)


class Pass:
    """Base of all passes. The class attributes are its word; ``run`` does the work.

    ``takes``: kind of file by role; the role ``model`` is the model that is changed, where there is one, and its
    traits go on to what is made. ``paper``: where the method is from. ``packages``: distributions whose versions
    change what comes out (part of the cache's key). ``tolerance``: the largest difference, relative to the largest
    output, that a pass which is not lossy may make.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    title: ClassVar[str]
    """In the present tense, for progress: ``equalize channel ranges``."""
    paper: ClassVar[str] = ""
    takes: ClassVar[dict[str, Kind]] = {"model": "onnx"}
    makes: ClassVar[Kind] = "onnx"
    needs: ClassVar[frozenset[str]] = frozenset()
    forbids: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    drops: ClassVar[frozenset[str]] = frozenset()
    lossy: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    data: ClassVar[Needs] = "none"
    seeded: ClassVar[bool] = False
    measures: ClassVar[bool] = False
    """What it makes was measured: never the same twice, and never cached."""
    isolated: ClassVar[bool] = False
    deadline_s: ClassVar[float] = 3600.0
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "numpy")
    tolerance: ClassVar[float] = 1e-3
    Config: ClassVar[type[PassConfig]] = PassConfig

    def missing(self) -> str | None:
        """What must be installed first, as one line with the command; None when nothing is missing."""
        return None

    def tools(self) -> dict[str, str]:
        """Digests of what it works with beside ``packages`` (part of the cache's key)."""
        return {}

    def run(self, work: Work) -> None:
        """Read ``work.inputs``, write ``work.out``. Raises Refusal for what it cannot do."""
        raise NotImplementedError


class Refusal(CompileError):
    """A pass or a target cannot take this model: always the same for the same inputs. ``unsupported``: node by node."""

    code = "refused"

    def __init__(self, message: str, unsupported: list[Unsupported] | None = None, *, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.unsupported = unsupported or []


@cache
def find(name: str) -> Pass:
    """A pass by name: built in, or by an entry point of the group ``edgewise.passes``.

    Raises CompileError (code ``cannot-plan``).
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        made: Pass = getattr(import_module(f"{__name__}.{module}"), attribute)()
        return made
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name not in others:
        known = ", ".join(sorted({*BUILT_IN, *others}))
        raise CompileError(f"unknown pass {name!r}: expected one of {known}", code="cannot-plan")
    other: Pass = others[name].load()()
    return other
