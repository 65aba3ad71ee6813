"""Strategies on a real recipe: the challenger learns the new domain and keeps the old one, or is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgewise_compiler.recipe import Recipe, load_recipe, save_weights
from edgewise_hub.learning import options, strategies
from edgewise_hub.learning.errors import LearningError
from edgewise_hub.learning.samples import Labelled
from edgewise_hub.learning.strategies import rehearsal
from edgewise_hub.learning.strategies.lesson import Learned, Lesson, Parent

RECIPE = Path(__file__).parents[1] / "jobs" / "tiny_recipe.py"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(RECIPE)


def learn(
    recipe: Recipe, strategy: str, parent: Parent | None = None, samples: Labelled | None = None, **config: float
) -> Learned:
    ours, theirs = options.read(dict(config))
    return strategies.find(strategy)(Lesson(recipe, theirs, ours, parent, samples, lambda fraction, text: None))


@pytest.fixture(scope="module")
def parent(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Parent:
    learned = learn(recipe, "full", epochs=150)
    assert learned.verdict.accepted and learned.model is not None and learned.metrics["accuracy"] > 0.95
    path = tmp_path_factory.mktemp("parent") / "weights.safetensors"
    save_weights(learned.model, path)
    return Parent(1, path, {"epochs": 150})


def collected(recipe: Recipe, n: int, domain: int) -> Labelled:
    points: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]] = recipe.points(n, 7, domain)  # type: ignore[attr-defined]
    return Labelled([f"r/camera/{i:04}" for i in range(n)], *points)


def test_rehearsal_learns_the_new_and_keeps_the_old(recipe: Recipe, parent: Parent) -> None:
    learned = learn(recipe, "rehearsal", parent, collected(recipe, 300, domain=1), epochs=200)
    old, new = learned.slices
    assert learned.verdict.accepted, learned.verdict.reason
    assert (old.slice, old.n, new.slice) == ("old", 300, "new") and 60 < new.n < 120
    assert new.champion < 0.6 and new.challenger > 0.95 and old.challenger > old.champion - 0.01
    assert learned.data.keys() == {"train", "reference", "samples-train", "samples-held-out"}
    assert learned.model is not None


def test_samples_of_the_old_domain_show_no_gain(recipe: Recipe, parent: Parent) -> None:
    learned = learn(recipe, "rehearsal", parent, collected(recipe, 300, domain=0), epochs=20)
    assert not learned.verdict.accepted and "no gain beyond chance" in learned.verdict.reason


def test_forgetting_the_old_is_refused(recipe: Recipe, parent: Parent) -> None:
    """Labels turned round on new inputs that look like the old ones: who learns them forgets."""
    turned = collected(recipe, 300, domain=0)
    turned = Labelled(turned.keys, turned.inputs, 1 - turned.labels)
    learned = learn(recipe, "rehearsal", parent, turned, epochs=200, new_share=0.95)
    assert not learned.verdict.accepted and "may be lost" in learned.verdict.reason


def test_too_few_samples_are_refused_before_any_training(recipe: Recipe, parent: Parent) -> None:
    learned = learn(recipe, "rehearsal", parent, collected(recipe, 60, domain=1))
    assert not learned.verdict.accepted and learned.model is None and "at least 30" in learned.verdict.reason


def test_the_same_lesson_gives_the_same_model(recipe: Recipe, parent: Parent, tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        learned = learn(recipe, "rehearsal", parent, collected(recipe, 200, domain=1), epochs=5)
        assert learned.model is not None
        save_weights(learned.model, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_new_samples_get_the_stated_share() -> None:
    weights = rehearsal.weights_for(5000, 200, 0.4)
    assert weights.mean() == pytest.approx(1.0, rel=1e-4)
    assert weights[5000:].sum() / weights.sum() == pytest.approx(0.4, rel=1e-4)


def test_samples_that_no_model_can_learn_from_are_left_out() -> None:
    inputs = np.zeros((4, 2), np.float32)
    inputs[1, 0] = np.nan
    samples = Labelled(["a", "b", "c", "d"], inputs, np.array([0, 1, 2, -1]))
    assert rehearsal.fitting(samples, np.zeros((9, 2), np.float32), classes=2).keys == ["a"]
    with pytest.raises(LearningError, match="as the recipe loads"):
        rehearsal.fitting(samples, np.zeros((9, 3), np.float32), classes=2)


@pytest.mark.parametrize("config", [{"new_share": 1.5}, {"seed": -1}, {"max_old_loss": "no"}])
def test_options_out_of_bounds_are_named(config: dict[str, object]) -> None:
    with pytest.raises(LearningError, match=f"config: .*{next(iter(config))}"):
        options.read(config)
