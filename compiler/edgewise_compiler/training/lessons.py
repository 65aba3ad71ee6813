"""From a pass's work to what a training needs: the model as a module, the training items as its feeds.

Rules that hold here:
- a graph that torch has no form for is refused, with all its nodes;
- a model with a fixed batch is trained on more items at once where that gives the same answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError, Unsupported
from edgewise_compiler.passes import Refusal, Work
from edgewise_compiler.training.onnx_torch import OnnxModule, UnsupportedGraphError, to_module
from edgewise_compiler.training.recover import Feeds, Labels

SAME = 1e-4
"""Largest relative difference between items run together and one by one."""


@dataclass(frozen=True)
class Lesson:
    """A model and what it learns from. ``outputs``: names of the model's outputs, in order. ``fixed``: the size of the
    batch that the graph is written for; None where any will do."""

    model: onnx.ModelProto
    module: OnnxModule
    feeds: Feeds
    labels: Labels | None
    outputs: list[str]
    scores: str | None
    fixed: int | None

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the size that the graph is written for: one item where it takes any number."""
        return self.feeds.at(np.arange(self.feeds.chunk or self.fixed or 1, dtype=np.int64))


def lesson_of(work: Work, role: str = "model") -> Lesson:
    """The model of a role, with the work's data. Raises Refusal for a graph that has no form in torch."""
    model, module = load(work.inputs[role])
    data = data_of(work)
    outputs = list(module.output_names)
    scores = work.scores if work.scores in outputs else None
    return Lesson(model, module, feeds_of(module, model, data), data.labels, outputs, scores, fixed_batch(model))


def data_of(work: Work) -> Data:
    """The training data. Raises CompileError (code ``bad-data``) when there is none."""
    if work.data is None or not len(work.data):
        raise CompileError("expected training data with at least one item, got none", code="bad-data")
    return work.data


def load(path: Path) -> tuple[onnx.ModelProto, OnnxModule]:
    """An ONNX file as a module that trains. Raises Refusal with all nodes that torch has no form for."""
    model = onnx.load_model(str(path))
    return model, module_of(model)


def module_of(model: onnx.ModelProto) -> OnnxModule:
    """An ONNX model as a module that trains. Raises Refusal."""
    try:
        return to_module(model)
    except UnsupportedGraphError as error:
        nodes = [Unsupported(node=n.node, op=n.op, why=n.why, rewrite=n.rewrite) for n in error.nodes]
        raise Refusal(f"this graph cannot be trained: {error}", nodes) from error


def feeds_of(module: OnnxModule, model: onnx.ModelProto, data: Data) -> Feeds:
    """The items as the module takes them. Raises CompileError (code ``bad-data``) for other inputs than the model's."""
    if set(data.inputs) != set(module.input_names):
        wanted, got = (", ".join(sorted(names)) for names in (module.input_names, data.inputs))
        raise CompileError(f"training data: expected inputs {wanted}, got {got}", code="bad-data")
    shapes = {info.name: info.type.tensor_type.shape.dim for info in model.graph.input}
    arrays = tuple(data.inputs[name] for name in module.input_names)
    whole = tuple(a.ndim == len(shapes[name]) + 1 for a, name in zip(arrays, module.input_names, strict=True))
    if any(whole):
        return Feeds(arrays, 1, whole)
    chunk = fixed_batch(model)
    if chunk is None:
        return Feeds(arrays)
    return Feeds(arrays) if _together(module, Feeds(arrays), chunk) else Feeds(arrays, chunk)


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """The first axis of the inputs where the graph says how long it is; None where it may have any length."""
    shapes = [info.type.tensor_type.shape.dim for info in model.graph.input]
    fixed = {shape[0].dim_value for shape in shapes if len(shape)} - {0}
    return min(fixed) if fixed else None


def _together(module: OnnxModule, feeds: Feeds, chunk: int) -> bool:
    """Whether two chunks at once give what they give one after the other."""
    if len(feeds) < 2 * chunk:
        return False
    rows = np.arange(2 * chunk, dtype=np.int64)
    try:
        with torch.no_grad():
            both = module(*feeds.at(rows))
            parts = zip(module(*feeds.at(rows[:chunk])), module(*feeds.at(rows[chunk:])), strict=True)
    except (RuntimeError, ValueError, IndexError):  # torch's and the module's own, for shapes that do not fit
        return False
    return all(
        one.ndim > 0 and len(one) == 2 * chunk and _same(one, torch.cat(pair))
        for one, pair in zip(both, parts, strict=True)
    )


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
    return bool(torch.allclose(one.double(), other.double(), rtol=0, atol=SAME * scale, equal_nan=True))


class InOrderOf(nn.Module):
    """A teacher that takes its student's inputs in the student's order, and answers in the order of its outputs."""

    def __init__(self, teacher: OnnxModule, student: OnnxModule) -> None:
        """Raises Refusal where the teacher lacks an output, or takes other inputs."""
        super().__init__()
        missing = [name for name in student.output_names if name not in teacher.output_names]
        if missing or set(student.input_names) != set(teacher.input_names):
            raise Refusal(
                f"expected a teacher with the inputs {', '.join(student.input_names)} and at least the outputs "
                f"{', '.join(student.output_names)}; it has {', '.join(teacher.input_names)} and "
                f"{', '.join(teacher.output_names)}"
            )
        self.teacher = teacher
        self._inputs = [student.input_names.index(name) for name in teacher.input_names]
        self._outputs = [teacher.output_names.index(name) for name in student.output_names]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """As the student."""
        answers = self.teacher(*(inputs[i] for i in self._inputs))
        return tuple(answers[i] for i in self._outputs)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model: the same bytes for the same model."""
    path.write_bytes(model.SerializeToString(deterministic=True))
