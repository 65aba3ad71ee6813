"""What the losses promise: the identities of their papers, and the three forms of scores."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise_compiler.training.losses import cosine, dkd, fidelity, form_of, kd, logits_of


def logits(seed: int, n: int = 6, classes: int = 5) -> torch.Tensor:
    return torch.randn(n, classes, generator=torch.Generator().manual_seed(seed)) * 3


@given(seed=st.integers(0, 10_000), temperature=st.floats(0.5, 8))
@settings(max_examples=30, deadline=None)
def test_dkd_is_kd_taken_apart(seed: int, temperature: float) -> None:
    """Zhao et al. 2022, formula 7: KD is the target part plus (1 - p) times the part among the others, p the teacher's
    probability of the target."""
    student, teacher = logits(seed, n=1), logits(seed + 1, n=1)
    target = teacher.argmax(1)
    others = 1 - float((teacher / temperature).softmax(1)[0, target[0]])
    apart = dkd(student, teacher, target, 1.0, others, temperature)
    assert float(apart) == pytest.approx(float(kd(student, teacher, temperature)), rel=1e-3, abs=1e-5)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_student_that_answers_as_its_teacher_has_no_loss(seed: int) -> None:
    teacher = logits(seed)
    shifted = teacher + 7  # logits are what they are up to a constant
    assert float(kd(shifted, teacher, 4.0)) == pytest.approx(0, abs=1e-4)
    assert float(dkd(shifted, teacher, teacher.argmax(1), 1.0, 4.0, 4.0)) == pytest.approx(0, abs=1e-3)
    assert float(kd(logits(seed + 1), teacher, 4.0)) > 0.1


def test_gradients_are_finite_where_the_teacher_is_certain() -> None:
    student = torch.zeros(2, 4, requires_grad=True)
    teacher = torch.tensor([[60.0, 0, 0, 0], [0, -60.0, 0, 60.0]])
    (kd(student, teacher, 1.0) + dkd(student, teacher, teacher.argmax(1), 1.0, 4.0, 1.0)).backward()
    assert student.grad is not None and bool(torch.isfinite(student.grad).all())


def test_scores_are_told_apart_by_their_values() -> None:
    raw = logits(3)
    assert form_of(raw) == "logits"
    assert form_of(raw.softmax(1)) == "probabilities"
    assert form_of(raw.sigmoid()) == "values"
    assert form_of(raw[:, :1]) == "values", "one column has no softmax"


def test_probabilities_become_logits_of_the_same_softmax() -> None:
    raw = logits(4)
    again = logits_of(raw.softmax(1), "probabilities")
    assert torch.allclose(again.softmax(1), raw.softmax(1), atol=1e-5)


def test_fidelity_and_cosine_are_in_units_of_the_teacher() -> None:
    teacher = logits(5)
    power = float(teacher.square().mean())
    assert float(fidelity(torch.zeros_like(teacher), teacher, power)) == pytest.approx(1)
    assert float(cosine(teacher * 3, teacher)) == pytest.approx(0, abs=1e-6)
    assert float(cosine(-teacher, teacher)) == pytest.approx(2, abs=1e-6)
