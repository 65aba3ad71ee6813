"""Strategy ``full``: train from scratch on the recipe's own data. Nothing to compare with, so the result stands."""

from __future__ import annotations

from edgewise_compiler.recipe import build_model, load_split, predict_with
from edgewise_hub.learning.compare import Verdict
from edgewise_hub.learning.strategies.lesson import Learned, Lesson, digest_of, evaluate


def learn(lesson: Lesson) -> Learned:
    """Build, load ``train``, train, and evaluate on ``reference``. Raises CompileError, LearningError."""
    recipe, config = lesson.recipe, lesson.config
    lesson.progress(0.0, "load the data")
    inputs, labels = load_split(recipe, "train", config)
    reference, truth = load_split(recipe, "reference", config)
    model = build_model(recipe, config)
    model = recipe.train(
        model,
        inputs,
        labels,
        config,
        seed=lesson.options.seed,
        progress=lambda fraction, text: lesson.progress(0.05 + 0.85 * fraction, text),
    ).eval()
    lesson.progress(0.95, "evaluate on the reference")
    figures = evaluate(recipe, predict_with(model), reference, truth)
    return Learned(
        verdict=Verdict(
            True,
            f"trained on {len(inputs)} items: {recipe.METRIC} {figures[recipe.METRIC]:.3f} on {len(reference)} of the "
            "reference",
        ),
        model=model,
        metrics=figures,
        data={"train": digest_of(inputs, labels), "reference": digest_of(reference, truth)},
    )
