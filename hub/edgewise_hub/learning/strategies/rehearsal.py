"""Strategy ``rehearsal``: go on from the parent's weights, with old data among the new so that little is forgotten.

Experience replay (Rolnick et al., 2019): old items are drawn at random from the recipe's train split, and weights give
the new samples a stated share of the loss. The parent is the champion; what was trained has to beat it on samples held
out, without losing on the reference.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgewise_compiler.recipe import Array, Predict, Recipe, build_model, load_split, predict_with
from edgewise_hub.learning import compare
from edgewise_hub.learning.errors import LearningError
from edgewise_hub.learning.samples import Labelled
from edgewise_hub.learning.strategies.lesson import Learned, Lesson, digest_of, evaluate


def learn(lesson: Lesson) -> Learned:
    """Fine-tune the parent and compare. Raises CompileError, LearningError (``no-parent``, ``bad-samples``)."""
    if lesson.parent is None or lesson.samples is None:
        raise LearningError("rehearsal: expected a parent version and samples", code="no-parent")
    recipe, config, options = lesson.recipe, lesson.config, lesson.options
    lesson.progress(0.0, "load the data")
    old, old_labels = load_split(recipe, "train", config)
    reference, truth = load_split(recipe, "reference", config)
    champion = predict_with(build_model(recipe, lesson.parent.config, lesson.parent.weights))
    samples = fitting(lesson.samples, old, classes=champion(reference[:1]).shape[1])

    out = compare.held_out(samples.keys)
    new, new_labels = samples.inputs[~out], samples.labels[~out]
    held, held_labels = samples.inputs[out], samples.labels[out]
    few = compare.too_few(len(held))
    if few is not None:
        return Learned(verdict=few)
    if not len(new):
        return Learned(verdict=compare.Verdict(False, "not accepted: no new samples are left to train on"))

    drawn = np.random.default_rng(options.seed).permutation(len(old))[: options.replay]
    old, old_labels = old[drawn], old_labels[drawn]
    model = recipe.train(
        build_model(recipe, config, lesson.parent.weights),
        np.concatenate([old, new]),
        np.concatenate([old_labels, new_labels]),
        config,
        seed=options.seed,
        weights=weights_for(len(old), len(new), options.new_share),
        progress=lambda fraction, text: lesson.progress(0.05 + 0.75 * fraction, text),
    ).eval()

    lesson.progress(0.85, "compare champion and challenger")
    challenger = predict_with(model)
    figures = evaluate(recipe, challenger, reference, truth)
    metric = recipe.METRIC
    on_old = compare.Slice("old", len(reference), _metric(recipe, champion, reference, truth), figures[metric])

    def gain(rows: npt.NDArray[np.intp]) -> compare.Slice:
        x, y = held[rows], held_labels[rows]
        return compare.Slice("new", len(rows), _metric(recipe, champion, x, y), _metric(recipe, challenger, x, y))

    on_new = gain(np.arange(len(held)))
    error = compare.standard_error(lambda rows: gain(rows).gain, len(held))
    return Learned(
        verdict=compare.decide(on_old, on_new, error, metric=metric, max_old_loss=options.max_old_loss),
        model=model,
        metrics={**figures, "new": {metric: on_new.challenger, "n": on_new.n}},
        slices=[on_old, on_new],
        standard_error=error,
        data={
            "train": digest_of(old, old_labels),
            "reference": digest_of(reference, truth),
            "samples-train": digest_of(new, new_labels),
            "samples-held-out": digest_of(held, held_labels),
        },
    )


def fitting(samples: Labelled, old: Array, *, classes: int) -> Labelled:
    """The samples that the model can learn from: finite inputs, labels of its classes. Order is kept.

    Raises LearningError (code ``bad-samples``) when they are of another shape or dtype than the recipe's data.
    """
    if samples.inputs.shape[1:] != old.shape[1:] or samples.inputs.dtype != old.dtype:
        raise LearningError(
            f"samples: expected {old.dtype} {list(old.shape[1:])} as the recipe loads, "
            f"got {samples.inputs.dtype} {list(samples.inputs.shape[1:])}",
            code="bad-samples",
        )
    good = (samples.labels >= 0) & (samples.labels < classes)
    if np.issubdtype(samples.inputs.dtype, np.floating):
        good &= np.isfinite(samples.inputs.reshape(len(samples.inputs), -1)).all(axis=1)
    rows = np.flatnonzero(good)
    return replace(
        samples, keys=[samples.keys[row] for row in rows], inputs=samples.inputs[rows], labels=samples.labels[rows]
    )


def weights_for(old: int, new: int, new_share: float) -> npt.NDArray[np.float32]:
    """Weights [old + new] with mean 1, in which the new items have ``new_share`` of the sum."""
    n = old + new
    return np.concatenate([np.full(old, (1 - new_share) * n / old), np.full(new, new_share * n / new)]).astype(
        np.float32
    )


def _metric(recipe: Recipe, predict: Predict, inputs: Array, labels: Array) -> float:
    return evaluate(recipe, predict, inputs, labels)[recipe.METRIC]
