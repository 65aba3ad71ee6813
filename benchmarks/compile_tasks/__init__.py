"""The tasks of the compile benchmark: five of the field's small models, and a net on which default int8 collapses.

Each is a recipe of its own in ``tasks/`` (the compiler's form), but for the sentence embedding, whose model nobody here
wrote: that one is an ONNX file, judged by its fidelity. ``data`` fetches, ``train`` makes the float sources, ``peers``
has other tools quantize the same sources with the same data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from compile_tasks.data import BENCH, fetch, prepare

Array = npt.NDArray[Any]
RECIPES = Path(__file__).parent / "tasks"


@dataclass(frozen=True)
class Task:
    """One model with its data. ``data``: a name of ``data.MAKERS``. ``recipe``: None where the source is an ONNX file.

    ``output``: the output that is judged: ``scores`` by ``accuracy`` against the labels, or an embedding by its
    ``cosine`` to the source's.
    """

    name: str
    title: str
    data: str
    recipe: Path | None
    metric: Literal["accuracy", "cosine"] = "accuracy"
    output: str = "scores"
    config: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def configuration(self, root: Path = BENCH) -> dict[str, Any]:
        """The recipe's configuration, with the folder of its data; fetches what is missing. Raises BenchError."""
        return {"data": str(prepare(self.data, root)), **self.config}

    def split(self, name: str, root: Path = BENCH) -> tuple[dict[str, Array], Array | None]:
        """Inputs by the model's input names, each [n, ...], and labels int64 [n] or None. Raises BenchError.

        ``name``: ``train``, ``calibrate`` or ``reference``.
        """
        if self.recipe is None:
            with np.load(prepare(self.data, root) / f"{name}.npz", allow_pickle=False) as data:
                return {key: data[key] for key in data.files}, None
        from edgewise_compiler.recipe import load_recipe

        inputs, labels = load_recipe(self.recipe).load(name, self.configuration(root))
        return {"input": inputs}, labels


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("mlp", "MLP 16-128-26, LetterRecognition", "letters", RECIPES / "mlp.py"),
        Task("conv1d", "Conv1D, watch (subjects held out)", "watch", RECIPES / "conv1d.py"),
        # The pooled sentence embedding [n, 384], as the file calls it.
        Task("minilm", "MiniLM-L3, paragraphs of mails", "sentences", None, metric="cosine", output="461"),
        Task("dscnn", "DS-CNN-48, spoken digits (random split)", "spoken", RECIPES / "dscnn.py"),
        Task("resnet8", "ResNet-8, Fashion-MNIST", "fashion", RECIPES / "resnet8.py"),
    )
}
UNEVEN = Task("uneven", "Depthwise net with uneven channels, Fashion-MNIST", "fashion", RECIPES / "uneven.py")
"""Beside the five: the net on which default quantization collapses."""
ALL = {**TASKS, UNEVEN.name: UNEVEN}


def minilm(root: Path = BENCH) -> Path:
    """The ONNX file of the sentence embedding. Raises BenchError."""
    return fetch("minilm", root)
