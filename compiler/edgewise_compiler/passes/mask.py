"""Sparse weights: 2:4 or the smallest magnitudes, set to zero and held there while the others recover."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edgewise_compiler.passes import Refusal, Work
from edgewise_compiler.training.base import Training
from edgewise_compiler.training.recovery import Recovery


class MaskConfig(Recovery, frozen=True, kw_only=True):
    """``pattern``: ``2:4`` (two of four neighbours along the input channels are zero) or ``unstructured``.

    ``sparsity``: share of zeros in the end, for ``unstructured``; it rises over ``steps``, each of ``step_epochs``,
    as in the paper; then ``epochs`` more. Weights smaller than ``least`` elements stay dense.
    """

    pattern: Literal["2:4", "unstructured"] = "unstructured"
    sparsity: Annotated[float, Meta(gt=0, lt=1)] = 0.8
    steps: Annotated[int, Meta(ge=1, le=100)] = 5
    step_epochs: Annotated[int, Meta(ge=0, le=1000)] = 1
    least: Annotated[int, Meta(ge=4)] = 256


class Mask(Training):
    """Gives a graph whose weights compress well; no runtime of ours computes it faster."""

    name = "mask"
    title = "zero weights, and train the others"
    paper = "Zhu & Gupta 2017, arXiv:1710.01878; 2:4: Mishra et al. 2021, arXiv:2104.08378"
    needs = frozenset({"float32"})
    forbids = frozenset({"quantized"})
    gives = frozenset({"masked", "trained"})
    Config = MaskConfig

    def run(self, work: Work) -> None:
        """Raises Refusal where no weight is large enough, or the graph cannot be trained."""
        from edgewise_compiler.training import masks
        from edgewise_compiler.training.lessons import InOrderOf, lesson_of, load, save
        from edgewise_compiler.training.onnx_torch import write_back
        from edgewise_compiler.training.recover import recover, seeded, teach

        config: MaskConfig = work.config
        lesson = lesson_of(work)
        targets, dense = masks.targets(lesson.module, config.pattern, config.least)
        if not targets:
            raise Refusal(
                f"nothing to mask: no weight of Conv, Gemm or MatMul has {config.least} elements"
                + (" and input channels in fours" if config.pattern == "2:4" else ""),
                dense,
            )
        _, original = load(work.inputs["model"])
        index = None if lesson.scores is None else lesson.outputs.index(lesson.scores)
        with seeded(work.seed, config.threads):
            teacher = teach(InOrderOf(original, lesson.module), lesson.feeds, index)
        stages = masks.stages(config.pattern, config.sparsity, config.steps)
        total = len(stages) * config.step_epochs + config.epochs
        done = 0
        for i, sparsity in enumerate(stages):
            masks.hold(targets, config.pattern, sparsity)
            last = i == len(stages) - 1
            epochs = config.step_epochs + config.epochs if last else config.step_epochs
            at = done

            def progress(
                fraction: float, text: str, at: int = at, epochs: int = epochs, sparsity: float = sparsity
            ) -> None:
                work.progress((at + fraction * epochs) / max(1, total), f"{sparsity:.0%} zeros: {text}")

            recover(
                lesson.module,
                teacher,
                lesson.feeds,
                lesson.labels,
                outputs=lesson.outputs,
                scores=lesson.scores,
                config=config.part(epochs, total),
                seed=work.seed + i,
                progress=progress,
                notes=work.notes if last else None,
            )
            done += epochs
        masks.release(targets)
        save(write_back(lesson.module, lesson.model), work.out)
        work.notes.append(masks.said(lesson.module, config.pattern, len(dense)))
        work.notes.append(masks.packed(work.inputs["model"].read_bytes(), work.out.read_bytes()))
