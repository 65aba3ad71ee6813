"""What all passes that train have in common. No torch here: a plan is made where it may not be installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar

from edgewise_compiler.passes import Needs, Pass


class Training(Pass):
    """A pass that trains on the training data, from a seed, in a process of its own.

    ``modules``: what it imports beyond the compiler's own packages.
    """

    lossy = True
    trains = True
    isolated = True
    seeded = True
    data: ClassVar[Needs] = "train"
    deadline_s = 6 * 3600.0
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "numpy", "torch")
    modules: ClassVar[tuple[str, ...]] = ("torch",)

    def missing(self) -> str | None:
        """Names the packages that are not installed, with the command."""
        absent = [name for name in self.modules if find_spec(name) is None]
        if not absent:
            return None
        return f"pass {self.name} needs {', '.join(absent)}: pip install 'edgewise-compiler[torch]'"
