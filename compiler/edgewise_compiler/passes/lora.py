"""LoRA: fine-tune on labels by low-rank adapters, merged into the weights or kept apart as an onnxruntime adapter."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from edgewise_compiler.passes import Refusal, Work
from edgewise_compiler.training.base import Training
from edgewise_compiler.training.recovery import Recovery


class LoraConfig(Recovery, frozen=True, kw_only=True):
    """``rank`` of the adapters; ``alpha`` over ``rank`` is their scale. ``merge``: into the weights; else the model
    gets inputs for adapters that may be left out, with what was learned as their defaults (``adapter.split`` takes
    them out).

    ``label_weight`` below 1 holds the model to its source's answers as well, and so does ``feature_weight`` above 0.
    """

    rank: Annotated[int, Meta(ge=1, le=1024)] = 8
    alpha: Annotated[int, Meta(ge=1)] = 16
    merge: bool = True
    label_weight: Annotated[float, Meta(gt=0, le=1)] = 1.0
    feature_weight: Annotated[float, Meta(ge=0, le=1000)] = 0.0


class Lora(Training):
    """Gives the same graph, fine-tuned. Needs labels: a model already answers as itself."""

    name = "lora"
    version = 2
    title = "fine-tune by low-rank adapters"
    paper = "Hu et al. 2021, arXiv:2106.09685"
    needs = frozenset({"float32"})
    forbids = frozenset({"quantized"})
    gives = frozenset({"trained"})
    packages = (*Training.packages, "peft")
    modules: ClassVar[tuple[str, ...]] = ("torch", "peft")
    Config = LoraConfig

    def run(self, work: Work) -> None:
        """Raises Refusal without labels, without class scores, or where no layer takes an adapter."""
        import os

        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        from edgewise_compiler.training import lora
        from edgewise_compiler.training.lessons import lesson_of, module_of, save
        from edgewise_compiler.training.recover import recover, seeded, teach

        config: LoraConfig = work.config
        lesson = lesson_of(work)
        if lesson.labels is None or lesson.scores is None:
            raise Refusal("fine-tuning needs labels in the training data and a model with class scores")
        names = lora.targets(lesson.module)
        if not names:
            raise Refusal("no layer takes an adapter: expected a Gemm, MatMul or Conv with constant weights")
        teacher = teach(module_of(lesson.model), lesson.feeds, lesson.outputs.index(lesson.scores))
        if teacher.form == "values":
            raise Refusal(f"output {lesson.scores!r} holds no class scores: expected logits or probabilities")
        with seeded(work.seed, config.threads):
            adapted = lora.adapt(lesson.module, names, config.rank, config.alpha)
        recover(
            adapted,
            teacher,
            lesson.feeds,
            lesson.labels,
            outputs=lesson.outputs,
            scores=lesson.scores,
            config=config,
            seed=work.seed,
            progress=work.progress,
            notes=work.notes,
            statistics=False,
        )
        if config.merge:
            save(lora.merge(adapted, names, lesson.model), work.out)
            work.notes.append(f"adapters of rank {config.rank} on {len(names)} layers, merged into the weights")
            return
        model, size = lora.apart(adapted, names, lesson.model)
        save(model, work.out)
        work.notes.append(f"adapters of rank {config.rank} on {len(names)} layers, kept apart: {size} bytes")
