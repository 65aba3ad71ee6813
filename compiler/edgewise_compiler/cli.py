"""``edgewise compile FILE``: what the sdk's command asks for, found by the entry point ``edgewise.compile``."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgewise.cli.local import Made, Request
from edgewise.wire.codec import encode_json
from edgewise_compiler.budget import Budget
from edgewise_compiler.compile import compile
from edgewise_compiler.errors import CompileError
from edgewise_compiler.metric import load_metric
from edgewise_compiler.sources import OnnxSource, ProgramSource, RecipeSource, Source, TfliteSource
from edgewise_compiler.techniques import Techniques

TENANT = "main"
MANIFEST = "manifest.json"


def run(request: Request, progress: Callable[[float, str], None]) -> list[Made]:
    """Compile a file into ``request.out``: a folder a profile, with its manifest, unsigned, beside the bundle's files.

    It is version 1 of a model called as the file is. Raises CompileError.
    """
    try:
        budget = msgspec.convert(request.budget, Budget)
    except msgspec.ValidationError as error:
        raise CompileError(f"budget: {error}", code="bad-budget") from error
    refused: dict[str, CompileError] = {}
    try:
        compiled = compile(
            source_of(request),
            request.profiles,
            request.out,
            tenant=TENANT,
            model=name_of(request.model),
            version=1,
            release=1,
            created_at=_now(),
            budget=budget,
            training=request.training,
            techniques=techniques_of(request),
            explore=request.explore,
            seed=request.seed,
            refused=lambda profile, error: refused.update({profile: error}),
            progress=progress,
        )
        made = []
        for bundle in compiled:
            folder = request.out / bundle.manifest.profile
            (folder / MANIFEST).write_bytes(encode_json(bundle.manifest))
            made.append(
                Made(profile=bundle.manifest.profile, folder=folder, page=folder / "report.html", report=bundle.report)
            )
    except OSError as error:
        raise CompileError(f"{error.filename or request.out}: {error.strerror or error}", code="no-room") from error
    if refused:
        reasons = "; ".join(f"{profile}: {error}" for profile, error in refused.items())
        others = f" ({', '.join(one.profile for one in made)}: compiled into {request.out})" if made else ""
        raise CompileError(f"{reasons}{others}", code="refused")
    return made


def techniques_of(request: Request) -> Techniques:
    """Those that were asked for. Raises CompileError (code ``cannot-plan``)."""
    try:
        asked = msgspec.convert(request.techniques, Techniques, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise CompileError(f"techniques: {error}", code="cannot-plan") from error
    if asked.student is not None and not asked.student.is_file():
        raise CompileError(f"--student {asked.student}: there is no such file", code="bad-source")
    return asked


def source_of(request: Request) -> Source:
    """What is to be compiled, by the file's suffix. Raises CompileError (code ``bad-source``, ``bad-metric``)."""
    suffix = request.model.suffix.lower()
    if not request.model.is_file():
        raise CompileError(f"{request.model}: there is no such file", code="bad-source")
    if suffix == ".safetensors":
        _refuse(request, "--data", "--metric", "--scores", "--embedding")
        if request.recipe is None:
            raise CompileError(f"{request.model.name}: weights need their --recipe FILE.py", code="bad-source")
        return RecipeSource(request.recipe, request.model, request.config)
    _refuse(request, "--recipe", "--config")
    if suffix not in (".onnx", ".tflite", ".pt2"):
        raise CompileError(
            f"{request.model.name}: expected .onnx, .tflite, .pt2 or .safetensors, got {suffix or 'no suffix'}",
            code="bad-source",
        )
    if request.data is None:
        raise CompileError(
            f"{request.model.name}: expected --data FILE.npz with its inputs and, if known, labels", code="bad-data"
        )
    metric = None if request.metric is None else load_metric(request.metric)
    if suffix == ".pt2":
        _refuse(request, "--scores", "--embedding")
        return ProgramSource(request.model, request.data, metric)
    kind = OnnxSource if suffix == ".onnx" else TfliteSource
    return kind(request.model, request.data, metric, request.scores, request.embedding)


def name_of(path: Path) -> str:
    """A model's name of a file's: what a name may not hold becomes ``-``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:64] or "model"


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise NotImplementedError(kind)


def _refuse(request: Request, *options: str) -> None:
    given = [option for option in options if getattr(request, option.removeprefix("--"))]
    if given:
        raise CompileError(
            f"{', '.join(given)}: not for a {request.model.suffix} file; leave it out", code="bad-source"
        )


def _now() -> float:
    """``SOURCE_DATE_EPOCH`` where it is set, so that equal inputs give equal manifests."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return float(given) if given.isdecimal() else time.time()
