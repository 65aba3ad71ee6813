"""A student beside the source: a smaller float model with the source's inputs and outputs, to be distilled."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.sources import Source
from edgewise_compiler.sources.files import read_onnx, traits_of
from edgewise_compiler.sources.names import rename
from edgewise_compiler.sources.opened import Opened
from edgewise_compiler.sources.program import export
from edgewise_compiler.sources.recipes import RecipeSource


def open_student(path: Path, source: Source, opened: Opened, folder: Path, seed: int) -> Path:
    """The student as an ONNX file in ``folder``.

    ``path``: an ONNX file, which goes on from the weights that it has; or a recipe, whose ``build`` gives a network
    with weights drawn from ``seed``, with the source's configuration where that is a recipe too. Does it answer as the
    source does is told by ``distill``. Raises CompileError (code ``bad-source``, ``bad-recipe``, ``cannot-export``).
    """
    made = folder / "student.onnx"
    if path.suffix.lower() == ".py":
        import torch

        from edgewise_compiler.recipe import build_model, load_recipe

        config = source.config if isinstance(source, RecipeSource) else {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = build_model(load_recipe(path), config)
        items = Data(opened.reference.inputs).take(slice(0, 64))
        export(
            module.eval(), items, made, tuple(value.name for value in onnx.load_model(str(opened.model)).graph.output)
        )
        return made
    if path.suffix.lower() != ".onnx":
        raise CompileError(f"student {path.name}: expected an .onnx file or a recipe, a .py file", code="bad-source")
    model = read_onnx(path)
    if "quantized" in traits_of(model):
        raise CompileError(f"student {path.name}: expected a float model, got a quantized one", code="bad-source")
    rename(model)
    onnx.save_model(model, str(made))
    return made
