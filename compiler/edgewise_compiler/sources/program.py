"""torch: a module with its data, or a program that ``torch.export`` saved. Both are exported to ONNX and held to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.export import check_parity, export_module
from edgewise_compiler.metric import Metric
from edgewise_compiler.model import Model
from edgewise_compiler.sources.embedding import with_embedding
from edgewise_compiler.sources.opened import MAX_CALIBRATE, MAX_REFERENCE, Opened, default_metric, digest_of, read_data

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "onnxscript", "onnx")


@dataclass(frozen=True)
class ModuleSource:
    """A module in memory. ``reference`` and ``calibrate`` (else part of the reference): inputs by name, in the order of
    the arguments of ``forward``; ``outputs``: names for what it returns (else ``scores``, ``embedding``).
    """

    module: torch.nn.Module
    reference: Data
    calibrate: Data | None = None
    train: Data | None = None
    outputs: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    metric: Metric | None = None


@dataclass(frozen=True)
class ProgramSource:
    """A ``.pt2`` file of ``torch.export.save``; ``data``: an npz by the names of the program's inputs."""

    model: Path
    data: Path
    metric: Metric | None = None


def open_module(source: ModuleSource, folder: Path) -> Opened:
    """Export a module. Raises CompileError (code ``cannot-export``, ``parity``, ``bad-data``)."""
    path = folder / "source.onnx"
    reference = source.reference.take(slice(0, MAX_REFERENCE))
    parity, notes = export(source.module.eval(), reference, path, source.outputs)
    model = _with_embedding(path, notes)
    calibrate = (source.calibrate or source.reference).spread(MAX_CALIBRATE)
    model.check(calibrate, "calibration data")
    data = {"calibrate": calibrate} | ({} if source.train is None else {"train": source.train})
    return Opened(
        model=path,
        traits=frozenset(("float32",)),
        data=data,  # type: ignore[arg-type]
        reference=reference,
        metric=source.metric or default_metric(model, reference),
        classes=list(source.classes),
        digests={"model": digest_of(path), "reference": reference.digest()},
        named=(model.scores, model.embedding),
        parity=parity,
        packages=PACKAGES,
        notes=notes,
    )


def open_program(source: ProgramSource, folder: Path) -> Opened:
    """Load a saved program and export it. Raises CompileError (besides: code ``bad-source``)."""
    import torch

    digests = {"model": digest_of(source.model), "data": digest_of(source.data)}
    try:
        program = torch.export.load(str(source.model))
    except Exception as error:  # torch raises classes of many families
        raise CompileError(
            f"{source.model.name}: expected a program of torch.export.save: {one_line(error)}", code="bad-source"
        ) from error
    path = folder / "source.onnx"
    notes = export_module(program, None, path)
    model = Model(path)
    read = read_data(source.data, model)
    parity = check_parity(program.module(), model, read.reference)
    model = _with_embedding(path, notes)
    return Opened(
        model=path,
        traits=frozenset(("float32",)),
        data=read.data,
        reference=read.reference,
        metric=source.metric or default_metric(model, read.reference),
        classes=read.classes,
        digests=digests,
        named=(model.scores, model.embedding),
        parity=parity,
        packages=PACKAGES,
        notes=[*notes, *read.notes],
        columns=read.columns,
        categorical=read.categorical,
    )


def _with_embedding(path: Path, notes: list[str]) -> Model:
    """The exported model, with an embedding output where one is found; after its parity with torch was checked."""
    model = Model(path)
    embedding = with_embedding(path, model, model.scores, None, notes)
    return Model(path, named=(model.scores, embedding))


def export(module: torch.nn.Module, data: Data, path: Path, outputs: tuple[str, ...] = ()) -> tuple[float, list[str]]:
    """Write a module as ONNX and hold it to torch on real items: (largest difference, notes)."""
    notes = export_module(module, data, path, outputs)
    model = Model(path)
    model.check(data, "reference")
    return check_parity(module, model, data), notes
