"""What is compiled, one file a form of source: each opens to the same thing, an ONNX model with data.

Rules that hold here:
- only a recipe, a module or an exported program needs torch; an ONNX or TFLite file never imports it;
- data keeps its order of time, and is bounded: ``MAX_REFERENCE`` items are the reference, ``MAX_CALIBRATE`` calibrate;
- a model whose weights are NaN or infinite is refused here.
"""

from __future__ import annotations

from pathlib import Path

from edgewise_compiler.sources.files import OnnxSource, TfliteSource, open_onnx, open_tflite
from edgewise_compiler.sources.opened import MAX_CALIBRATE, MAX_REFERENCE, Opened
from edgewise_compiler.sources.program import ModuleSource, ProgramSource, open_module, open_program
from edgewise_compiler.sources.recipes import RecipeSource, open_recipe

__all__ = [
    "MAX_CALIBRATE",
    "MAX_REFERENCE",
    "ModuleSource",
    "OnnxSource",
    "Opened",
    "ProgramSource",
    "RecipeSource",
    "Source",
    "TfliteSource",
    "open_source",
]

Source = OnnxSource | TfliteSource | RecipeSource | ModuleSource | ProgramSource


def open_source(source: Source, folder: Path) -> Opened:
    """Read a source, check it, and write its ONNX form into ``folder``.

    Raises CompileError (code ``bad-source``, ``bad-recipe``, ``bad-data``, ``cannot-export``, ``parity``,
    ``unsupported``, ``not-finite``).
    """
    match source:
        case OnnxSource():
            return open_onnx(source, folder)
        case TfliteSource():
            return open_tflite(source, folder)
        case RecipeSource():
            return open_recipe(source, folder)
        case ModuleSource():
            return open_module(source, folder)
        case ProgramSource():
            return open_program(source, folder)
