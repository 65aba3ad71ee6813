"""A recovery makes nothing worse, says what is wrong, and gives the same weights for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from edgewise_compiler.errors import CompileError
from edgewise_compiler.training.recover import Feeds, rate, recover, teach
from edgewise_compiler.training.recovery import Recovery

N, WIDTH, CLASSES = 240, 6, 4


class Net(nn.Module):
    """[n, 6] -> scores [n, 4], embedding [n, 8]; ``takes`` says what an item is."""

    def __init__(self, seed: int, hidden: int = 8) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first, self.last = nn.Linear(WIDTH, hidden), nn.Linear(hidden, CLASSES)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.first(x).relu()
        return self.last(embedding), embedding


def items(n: int = N) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(n, WIDTH)).astype(np.float32)


def run(student: nn.Module, teacher: Any, feeds: Any, labels: Any = None, seed: int = 1, **config: Any) -> nn.Module:
    settings = Recovery(**{"epochs": 6, "batch": 16, "learning_rate": 1e-2, **config})
    return recover(
        student,
        teacher,
        feeds,
        labels,
        outputs=["scores", "embedding"],
        scores="scores",
        config=settings,
        seed=seed,
        progress=lambda fraction, text: None,
    )


def agreement(one: nn.Module, other: nn.Module) -> float:
    with torch.no_grad():
        x = torch.from_numpy(items())
        return float((one(x)[0].argmax(1) == other(x)[0].argmax(1)).float().mean())


@pytest.mark.parametrize("loss", ["kd", "dkd", "mse"])
def test_a_student_learns_to_answer_as_its_teacher_without_labels(loss: str) -> None:
    teacher, student = Net(1).eval(), Net(2)
    before = agreement(student, teacher)
    assert agreement(run(student, teacher, [items()], loss=loss, epochs=20), teacher) > max(0.85, before + 0.2)


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = (run(Net(2), Net(1), [items()]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = run(Net(2), Net(1), [items()], seed=2)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_training_that_makes_it_worse_leaves_what_was_there() -> None:
    teacher = Net(1).eval()
    student = run(Net(1), teacher, [items()], learning_rate=5.0, epochs=2)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), teacher.parameters(), strict=True))


def test_random_numbers_and_threads_of_the_caller_are_left_as_they_were() -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(5)
    run(Net(2), Net(1), [items()], epochs=1)
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads


def test_items_one_by_one_teach_what_items_together_do() -> None:
    """Gradients of a batch are summed over its chunks, so the way that a model takes its items does not matter."""
    teacher = Net(1).eval()
    together = run(Net(2), teacher, Feeds((items(64),)), epochs=2)
    one_by_one = run(Net(2), teacher, Feeds((items(64),), chunk=1), epochs=2)
    for a, b in zip(together.parameters(), one_by_one.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-4)


def test_a_fixed_batch_larger_than_the_one_asked_for_still_trains() -> None:
    """And larger than what is judged at a time: rows that do not fill it are left out."""
    sizes: set[int] = set()

    class Fixed(Net):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            sizes.add(len(x))
            return super().forward(x)

    student = Fixed(2)
    before = agreement(student, Net(1))
    feeds = Feeds((items(1000),), chunk=300)
    assert agreement(run(student, Net(1).eval(), feeds, batch=16, epochs=30), Net(1)) > before + 0.1
    assert sizes == {300, N}, "N: by the agreement above"


def test_whole_items_have_no_axis_for_the_batch() -> None:
    class OfOne(Net):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            assert x.shape == (WIDTH,)
            return super().forward(x)

    trained = run(OfOne(2), OfOne(1).eval(), Feeds((items(40),), chunk=1, whole=(True,)), epochs=1)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in trained.parameters())


def test_a_loss_that_runs_away_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(CompileError, match="lower the learning rate") as caught:
        run(Net(2), Net(1), [items() * 1e18], loss="mse", learning_rate=10.0)
    assert caught.value.code == "not-finite"


def test_a_teacher_that_answers_nothing_is_an_error() -> None:
    teacher = Net(1)
    with torch.no_grad():
        teacher.first.weight.fill_(float("nan"))
    with pytest.raises(CompileError, match="every training item") as caught:
        teach(teacher, Feeds((items(),)), 0)
    assert caught.value.code == "not-finite"


def test_labels_that_are_no_classes_are_an_error() -> None:
    labels = np.full(N, CLASSES, np.int64)
    with pytest.raises(CompileError, match=f"labels from 0 to {CLASSES - 1}") as caught:
        run(Net(2), Net(1), [items()], labels)
    assert caught.value.code == "bad-data"


def test_labels_teach_what_the_teacher_does_not_know() -> None:
    labels = Net(9)(torch.from_numpy(items()))[0].argmax(1).numpy()
    student = run(Net(2), Net(1).eval(), [items()], labels, label_weight=1.0, feature_weight=0.0, epochs=25)
    with torch.no_grad():
        assert float((student(torch.from_numpy(items()))[0].argmax(1).numpy() == labels).mean()) > 0.85


def test_an_answer_that_is_not_a_number_is_left_out_of_the_loss() -> None:
    spoiled = items()
    spoiled[3] = np.nan
    student = run(Net(2), Net(1).eval(), [spoiled], loss="mse", epochs=1)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in student.parameters())


def test_what_does_not_fit_into_the_steps_is_not_begun_and_said() -> None:
    notes: list[str] = []
    settings = Recovery(epochs=5000, max_steps=20, patience=5000, batch=16)
    recover(
        Net(2), Net(1), [items()], None, outputs=["scores", "embedding"], scores="scores", config=settings, seed=0,
        progress=lambda fraction, text: None, notes=notes,
    )  # fmt: skip
    assert any("of 5000 epochs were trained: more do not fit into 20 steps of 16 items" in note for note in notes)


def test_a_part_of_a_recovery_has_its_share_of_the_steps() -> None:
    whole = Recovery(epochs=12, max_steps=1200)
    assert [(part.epochs, part.max_steps) for part in (whole.part(1, 12), whole.part(9, 12))] == [(1, 100), (9, 900)]
    assert Recovery(epochs=12).part(3, 12).max_steps == 0


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [rate(step, 100, 0.1) for step in range(101)]
    assert rates[0] < 0.2 and max(rates) == pytest.approx(1, abs=0.1)
    assert rates.index(max(rates)) == pytest.approx(10, abs=1)
    assert rates[100] == pytest.approx(0.01)
