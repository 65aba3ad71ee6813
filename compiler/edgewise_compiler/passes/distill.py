"""Distillation: a smaller student learns to answer as its teacher. Both are ONNX; no labels are needed."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from edgewise_compiler.passes import Kind, Work
from edgewise_compiler.training.base import Training
from edgewise_compiler.training.recovery import Recovery


class DistillConfig(Recovery, frozen=True, kw_only=True):
    """``fresh``: the student's weights are drawn anew from the seed; else it goes on from those that it has."""

    epochs: Annotated[int, Meta(ge=0, le=100_000)] = 30
    fresh: bool = False


class Distill(Training):
    """Takes the student's float graph and the teacher's; gives the student's graph with trained weights."""

    name = "distill"
    title = "distill a student"
    paper = "Hinton et al. 2015, arXiv:1503.02531; DKD: Zhao et al. 2022, arXiv:2203.08679"
    takes: ClassVar[dict[str, Kind]] = {"model": "onnx", "teacher": "onnx"}
    needs = frozenset({"float32"})
    forbids = frozenset({"quantized"})
    gives = frozenset({"trained"})
    Config = DistillConfig

    def run(self, work: Work) -> None:
        """Raises Refusal where a graph cannot be trained, or the student has outputs that the teacher has not."""
        from edgewise_compiler.training.lessons import InOrderOf, lesson_of, load, save
        from edgewise_compiler.training.onnx_torch import write_back
        from edgewise_compiler.training.recover import recover, seeded

        lesson = lesson_of(work)
        _, teacher = load(work.inputs["teacher"])
        if work.config.fresh:
            with seeded(work.seed, work.config.threads):
                for part in lesson.module.modules():
                    reset = getattr(part, "reset_parameters", None)
                    if callable(reset):
                        reset()
        recover(
            lesson.module,
            InOrderOf(teacher, lesson.module),
            lesson.feeds,
            lesson.labels,
            outputs=lesson.outputs,
            scores=lesson.scores,
            config=work.config,
            seed=work.seed,
            progress=work.progress,
            notes=work.notes,
        )
        save(write_back(lesson.module, lesson.model), work.out)
