"""A model file opened on a runtime: which output is what, and what it answers.

The naming rule, unless the source says otherwise: ``scores`` is the output called ``scores`` or ``logits``, else the
first other one with two axes and two columns or more; ``embedding`` is the output called ``embedding`` with two axes.
A model may have neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgewise.bundle import Tensor
from edgewise_agent.runtimes import Runtime, RuntimeFailure, open_runtime
from edgewise_agent.runtimes.tensors import NUMPY
from edgewise_compiler.data import Array, Data
from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.passes import Kind

FLOATS = ("FP16", "FP32", "FP64")
SCORES = ("scores", "logits")
EMBEDDING = "embedding"
BATCH = 64
RUNTIME_OF: dict[Kind, str] = {"onnx": "onnxruntime", "tflite": "litert", "openvino": "openvino"}
"""On which of the agent's runtimes a model of a kind is opened."""


@dataclass(frozen=True)
class Answers:
    """What a model answers to n items: every output by name, [n, ...]; floats as float32."""

    outputs: dict[str, Array]
    scores_name: str | None = None
    embedding_name: str | None = None

    @property
    def scores(self) -> npt.NDArray[np.float32] | None:
        """Class scores float32 [n, classes], where the model has them."""
        return None if self.scores_name is None else self.outputs[self.scores_name].astype(np.float32, copy=False)

    @property
    def embedding(self) -> npt.NDArray[np.float32] | None:
        """Embeddings float32 [n, d], where the model has them."""
        return None if self.embedding_name is None else self.outputs[self.embedding_name].astype(np.float32, copy=False)

    def __len__(self) -> int:
        return len(next(iter(self.outputs.values())))

    def finite(self) -> npt.NDArray[np.bool_]:
        """bool [n]: is every value of the item finite?"""
        rows = np.ones(len(self), dtype=np.bool_)
        for output in self.outputs.values():
            if output.dtype.kind == "f":
                rows &= np.isfinite(output).reshape(len(output), -1).all(axis=1)
        return rows


class Model:
    """One model file on the runtime of its kind. Raises CompileError (code ``cannot-load``) when that cannot load it.

    ``scores`` and ``embedding``: names of those outputs; by the naming rule where they are not given.
    """

    def __init__(
        self, path: Path, kind: Kind = "onnx", *, threads: int = 1, named: tuple[str | None, str | None] | None = None
    ) -> None:
        try:
            self._runtime: Runtime = open_runtime(RUNTIME_OF[kind], path, threads)
            self.inputs, self.outputs = self._runtime.describe()
        except RuntimeFailure as error:
            raise CompileError(one_line(error), code="cannot-load") from error
        except msgspec.ValidationError as error:
            raise CompileError(f"{path.name}: signature: {one_line(error)}", code="cannot-load") from error
        self.version = self._runtime.version
        self.path, self.kind = path, kind
        self.ranks = {tensor.name: len(tensor.shape) for tensor in self.inputs}
        self.batched = all(tensor.shape and tensor.shape[0] == -1 for tensor in self.inputs)
        self.scores, self.embedding = name_outputs(self.outputs) if named is None else named

    def check(self, data: Data, what: str) -> None:
        """Do these items fit the inputs? ``what`` they are, for the error. Raises CompileError (code ``bad-data``)."""
        wanted = {tensor.name: tensor for tensor in self.inputs}
        if set(wanted) != set(data.inputs):
            raise CompileError(
                f"{what}: the model takes {', '.join(wanted)}; got {', '.join(data.inputs) or 'nothing'}",
                code="bad-data",
            )
        lengths = {name: len(array) for name, array in data.inputs.items()}
        if len(set(lengths.values())) != 1 or not len(data):
            raise CompileError(
                f"{what}: expected as many items for each input, at least one; got {lengths}", code="bad-data"
            )
        for name, tensor in wanted.items():
            array = data.inputs[name]
            # An item each first index: a slice of length one of the batch, or (one axis more) a whole tensor.
            got = array.shape[1:] if array.ndim == len(tensor.shape) + 1 else (1, *array.shape[1:])
            fits = len(got) == len(tensor.shape) and all(
                want in (-1, size) for want, size in zip(tensor.shape, got, strict=True)
            )
            if not fits or array.dtype != NUMPY[tensor.datatype]:
                raise CompileError(
                    f"{what}: input {name!r} takes {np.dtype(NUMPY[tensor.datatype]).name} {tensor.shape}, items "
                    f"first; got {array.dtype} {list(array.shape)}",
                    code="bad-data",
                )

    def shapes(self, data: Data) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs of one item, by name, as the runtime gives them. Raises as ``answer``."""
        data = data.take(slice(0, 1)).narrowed(
            {tensor.name: np.dtype(NUMPY[tensor.datatype]) for tensor in self.inputs}
        )
        try:
            outputs = self._runtime.infer(next(iter(data.feeds(self.ranks, 1))))
        except RuntimeFailure as error:
            raise CompileError(f"{self.path.name}: {one_line(error)}", code="cannot-load") from error
        return {name: output.shape for name, output in outputs.items()}

    def answer(self, data: Data) -> Answers:
        """Run all items, in order. Raises CompileError (code ``bad-data`` or ``cannot-load``)."""
        data = data.narrowed({tensor.name: np.dtype(NUMPY[tensor.datatype]) for tensor in self.inputs})
        self.check(data, "inputs")
        parts: dict[str, list[Array]] = {tensor.name: [] for tensor in self.outputs}
        whole = any(array.ndim > self.ranks[name] for name, array in data.inputs.items())
        for feed in data.feeds(self.ranks, BATCH if self.batched else 1):
            try:
                outputs = self._runtime.infer(feed)
            except RuntimeFailure as error:
                raise CompileError(f"{self.path.name}: {one_line(error)}", code="cannot-load") from error
            n = 1 if whole or not self.batched else len(next(iter(feed.values())))
            for name, output in outputs.items():
                array = output.astype(np.float32) if output.dtype.kind == "f" else output
                # An item's outputs are kept as they come; a batch axis of length one is the item's own.
                parts[name].append(array if array.ndim and len(array) == n and not whole else array[None])
        try:
            joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        except ValueError as error:
            raise CompileError(
                f"{self.path.name}: items give outputs of different shapes ({one_line(error)}); give items of one"
                " shape",
                code="bad-data",
            ) from error
        if short := [name for name, array in joined.items() if len(array) != len(data)]:
            raise CompileError(
                f"output {short[0]!r}: expected an answer for each of {len(data)} items, got {len(joined[short[0]])}",
                code="cannot-load",
            )
        return Answers(joined, self.scores, self.embedding)


def name_outputs(outputs: list[Tensor]) -> tuple[str | None, str | None]:
    """Names of (scores, embedding) by the naming rule; None where there is none."""
    flat = {tensor.name: tensor for tensor in outputs if len(tensor.shape) == 2 and tensor.datatype in FLOATS}
    embedding = EMBEDDING if EMBEDDING in flat else None
    wide = [name for name, tensor in flat.items() if tensor.shape[1] not in (1, -1) and name != embedding]
    return next((name for name in SCORES if name in wide), wide[0] if wide else None), embedding
