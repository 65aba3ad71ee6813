"""Compiling a file on this machine: what the command asks of the compiler, and what it hears back.

The sdk imports no compiler. ``edgewise-compiler`` brings it by the entry point ``local`` of the group
``edgewise.compile``: a function ``(Request, progress) -> list[Made]``. Nothing here needs typer or rich.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec

from edgewise.errors import EdgewiseError
from edgewise.profile import Profile

ENTRY_POINTS, NAME = "edgewise.compile", "local"
SUFFIXES = (".onnx", ".tflite", ".pt2", ".safetensors")
"""Of files that can be compiled."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A file to compile for some profiles into ``out``. ``budget``: the fields of a ``Budget``; ``data``: an npz;
    ``metric``: FILE.py:FUNCTION. ``recipe`` and ``config`` belong to weights (safetensors), in place of ``data``.
    ``techniques``: the fields of the compiler's ``Techniques`` that were asked for, by name."""

    model: Path
    profiles: list[Profile]
    out: Path
    data: Path | None = None
    budget: dict[str, float] = {}
    metric: str | None = None
    recipe: Path | None = None
    config: dict[str, Any] = {}
    scores: str | None = None
    embedding: str | None = None
    explore: bool = False
    training: bool | None = None
    techniques: dict[str, Any] = {}
    seed: int = 0


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """One profile's bundle: its folder, the report's page, and the report."""

    profile: str
    folder: Path
    page: Path
    report: dict[str, Any]


Compile = Callable[[Request, Callable[[float, str], None]], list[Made]]


def is_file(model: str) -> bool:
    """Is it a file that is meant, not a model of the hub?"""
    return Path(model).suffix.lower() in SUFFIXES or Path(model).is_file()


def compiler() -> Compile:
    """What compiles here. Raises EdgewiseError (code ``not-installed`` or ``bad-command``)."""
    for point in entry_points(group=ENTRY_POINTS, name=NAME):
        try:
            found: Compile = point.load()
        except (ImportError, AttributeError) as error:
            raise EdgewiseError(
                f"compile: edgewise-compiler is installed, but cannot be loaded: {error}; install it again",
                code="bad-command",
            ) from error
        return found
    raise EdgewiseError(
        "compile: to compile a file here, install the compiler: pip install edgewise-compiler; "
        "or name a model of the hub, MODEL[:VERSION]",
        code="not-installed",
    )
