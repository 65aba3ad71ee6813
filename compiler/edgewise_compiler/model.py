"""A model file opened on a runtime: which output is what, and what it answers.

The naming rule: the one input keeps its name; ``scores`` is the output called ``scores`` or ``logits``, else the first
with two axes; ``embedding`` is the output called ``embedding`` with two axes, else there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgewise.bundle import Tensor
from edgewise_agent.runtimes import Runtime, RuntimeFailure, open_runtime
from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.recipe import Array, Scores

DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
SCORES = ("scores", "logits")
EMBEDDING = "embedding"
BATCH = 256


@dataclass(frozen=True)
class Answers:
    """What a model answers to n items: scores float32 [n, classes]; embedding float32 [n, d] or None."""

    scores: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float32] | None

    def finite(self) -> npt.NDArray[np.bool_]:
        """bool [n]: is every value of the item finite?"""
        outputs = [self.scores] if self.embedding is None else [self.scores, self.embedding]
        rows: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(np.concatenate(outputs, axis=1)), axis=1)
        return rows


class Model:
    """One model file on one runtime. Raises CompileError (code ``cannot-load``) for what cannot be served."""

    def __init__(self, runtime: str, path: Path, threads: int = 1) -> None:
        try:
            self._runtime: Runtime = open_runtime(runtime, path, threads)
            inputs, outputs = self._runtime.describe()
        except RuntimeFailure as error:
            raise CompileError(one_line(error), code="cannot-load") from error
        except msgspec.ValidationError as error:
            raise CompileError(f"{path.name}: signature: {one_line(error)}", code="cannot-load") from error
        self.version = self._runtime.version
        self.path = path
        self.inputs, self.outputs = inputs, outputs
        self.input = _input(inputs)
        self.scores, self.embedding = _outputs(outputs)

    def check(self, items: Array) -> None:
        """Do these items [n, ...] fit the input? Raises CompileError (code ``bad-data``)."""
        expected, shape = DTYPES[self.input.datatype], self.input.shape
        fits = items.ndim == len(shape) and all(
            want in (-1, got) for want, got in zip(shape[1:], items.shape[1:], strict=True)
        )
        if not fits or items.dtype != expected:
            raise CompileError(
                f"inputs: the model takes {np.dtype(expected).name} {shape} ({self.input.name}), "
                f"got {items.dtype} {list(items.shape)}",
                code="bad-data",
            )

    def answer(self, items: Array) -> Answers:
        """Run all items [n, ...], in order. Raises CompileError (code ``bad-data`` or ``cannot-load``)."""
        self.check(items)
        scores, embeddings = [], []
        for start in range(0, len(items), BATCH):
            part = np.ascontiguousarray(items[start : start + BATCH])
            try:
                outputs = self._runtime.infer({self.input.name: part})
            except RuntimeFailure as error:
                raise CompileError(f"{self.path.name}: {one_line(error)}", code="cannot-load") from error
            for output in filter(None, (self.scores, self.embedding)):
                if outputs[output].ndim != 2 or len(outputs[output]) != len(part):
                    raise CompileError(
                        f"output {output!r}: expected [{len(part)}, ...] for {len(part)} items, "
                        f"got {list(outputs[output].shape)}",
                        code="cannot-load",
                    )
            scores.append(outputs[self.scores].astype(np.float32))
            if self.embedding:
                embeddings.append(outputs[self.embedding].astype(np.float32))
        return Answers(np.concatenate(scores), np.concatenate(embeddings) if self.embedding else None)

    def predict(self, items: Array) -> Scores:
        """Scores [n, classes], as a recipe's ``evaluate`` takes it."""
        return self.answer(items).scores


def _input(inputs: list[Tensor]) -> Tensor:
    if len(inputs) != 1:
        names = ", ".join(tensor.name for tensor in inputs)
        raise CompileError(f"expected a model with one input, got {len(inputs)}: {names}", code="cannot-load")
    if inputs[0].shape[0] != -1:
        raise CompileError(
            f"input {inputs[0].name!r}: expected a batch axis of any size first, got shape {inputs[0].shape}; "
            "export the model with a dynamic batch",
            code="cannot-load",
        )
    return inputs[0]


def _outputs(outputs: list[Tensor]) -> tuple[str, str | None]:
    """Names of (scores, embedding)."""
    flat = [tensor for tensor in outputs if len(tensor.shape) == 2 and tensor.datatype in ("FP16", "FP32", "FP64")]
    by_name = {tensor.name: tensor for tensor in flat}
    rest = [tensor for tensor in flat if tensor.name != EMBEDDING]
    scores = next((by_name[name] for name in SCORES if name in by_name), rest[0] if rest else None)
    if scores is None or scores.shape[1] == 1:
        shapes = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in outputs)
        raise CompileError(
            f"expected an output of scores [batch, classes], two classes or more; got {shapes}", code="cannot-load"
        )
    return scores.name, EMBEDDING if EMBEDDING in by_name else None
