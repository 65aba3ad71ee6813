"""How good a candidate is: the user's figure, accuracy, or fidelity to the source where there are no labels.

A **metric** is one figure, higher is better, with a name. Fidelity (``fidelity``) is top-1 agreement with the source
where the model has class scores, else the mean cosine between the outputs' items. Signal-to-noise ratio is
10 log10(sum of squares of the source's outputs / sum of squares of the difference), in dB.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgewise_compiler.data import Array, Data
from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.model import Answers

FIDELITY = "fidelity"
MAX_SNR_DB = 200.0
"""Of equal outputs, where the ratio itself is infinite."""

Judge = Callable[[Answers, Data], dict[str, float]]
"""(answers, reference) -> figures"""
UserMetric = Callable[[dict[str, Array], Array | None], float]
"""(outputs by name [n, ...], labels [n] or None) -> a figure, higher is better"""


@dataclass(frozen=True)
class Metric:
    """``judge`` gives figures, among them ``name``; None judges by fidelity. ``digest`` of what decides the figure."""

    name: str = FIDELITY
    judge: Judge | None = None
    digest: str = "fidelity-1"

    def figures(self, answers: Answers, source: Answers, reference: Data) -> dict[str, float]:
        """The metric, all other figures, and fidelity. Raises CompileError (code ``bad-metric`` or ``bad-recipe``)."""
        found = fidelity(answers, source)
        if self.judge is None:
            return {FIDELITY: found["agreement" if "agreement" in found else "cosine"], **found}
        try:
            judged = {str(name): float(value) for name, value in self.judge(answers, reference).items()}
        except CompileError:
            raise
        except Exception as error:  # the metric is somebody's code and may raise anything
            raise CompileError(
                f"metric {self.name!r}: {type(error).__name__}: {one_line(error)}", code="bad-metric"
            ) from error
        if self.name not in judged or not all(map(math.isfinite, judged.values())):
            raise CompileError(
                f"metric: expected finite figures with {self.name!r} among them, got {judged!r:.200}", code="bad-metric"
            )
        return {**found, **judged}


def accuracy(answers: Answers, reference: Data) -> dict[str, float]:
    """Share of items whose highest score is the label's."""
    scores = answers.scores
    if scores is None or reference.labels is None:
        raise CompileError("accuracy: expected a model with class scores, and labels", code="bad-metric")
    return {"accuracy": float(np.mean(scores.argmax(axis=1) == reference.labels))}


def fidelity(answers: Answers, source: Answers) -> dict[str, float]:
    """Against the source's answers to the same items: ``agreement`` (with class scores), ``cosine``, ``snr_db``.

    Only items that the source answers finitely count; an answer that is not finite there counts as zeros.
    """
    rows = source.finite()
    figures: dict[str, float] = {}
    if source.scores is not None and answers.scores is not None:
        same = source.scores[rows].argmax(axis=1) == answers.scores[rows].argmax(axis=1)
        figures["agreement"] = float(np.mean(same)) if len(same) else 1.0
    cosines, signal, noise = [], 0.0, 0.0
    for name, output in source.outputs.items():
        if output.dtype.kind != "f" or not rows.any():
            continue
        want = output[rows].reshape(int(rows.sum()), -1).astype(np.float64)
        got = np.nan_to_num(answers.outputs[name][rows].reshape(want.shape).astype(np.float64), posinf=0.0, neginf=0.0)
        # Outputs of different magnitude count alike.
        scale = float(np.mean(want**2)) or 1.0
        signal += float(np.mean(want**2)) / scale
        noise += float(np.mean((want - got) ** 2)) / scale
        lengths = np.linalg.norm(want, axis=1) * np.linalg.norm(got, axis=1)
        equal = (want == got).all(axis=1)
        dots = np.where(equal, 1.0, (want * got).sum(axis=1) / np.where(lengths > 0, lengths, 1.0))
        cosines.append(float(np.mean(dots)))
    if cosines:
        figures["cosine"] = float(np.mean(cosines))
        figures["snr_db"] = MAX_SNR_DB if noise == 0 else min(MAX_SNR_DB, 10 * math.log10(max(signal, 1e-30) / noise))
    return figures


def load_metric(spec: str) -> Metric:
    """``FILE.py:FUNCTION``, a ``UserMetric``: its figure has the function's name.

    The file is the user's own code and runs with their rights. Raises CompileError (code ``bad-metric``).
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise CompileError(f"metric {spec!r}: expected FILE.py:FUNCTION, and the file to be there", code="bad-metric")
    loaded = importlib.util.spec_from_file_location("edgewise_user_metric", path)
    if loaded is None or loaded.loader is None:
        raise CompileError(f"metric {spec!r}: expected a Python file", code="bad-metric")
    module = importlib.util.module_from_spec(loaded)
    try:
        loaded.loader.exec_module(module)
        function: UserMetric = getattr(module, name)
    except Exception as error:  # somebody's code may raise anything
        raise CompileError(f"metric {spec!r}: {type(error).__name__}: {one_line(error)}", code="bad-metric") from error
    return user_metric(name, function, path.read_bytes().hex())


def user_metric(name: str, function: UserMetric, digest: str) -> Metric:
    """A metric of the user's function."""
    return Metric(name, lambda answers, data: {name: float(function(answers.outputs, data.labels))}, digest)
