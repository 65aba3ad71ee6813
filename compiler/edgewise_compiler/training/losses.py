"""What a student is held to: the teacher's scores, its other outputs, and labels where there are any. Pure.

Scores come in three forms, told apart by the teacher's answers: logits, probabilities (rows that sum to one), and
others (a sigmoid's), for which there is no softmax to distil and the outputs themselves are compared.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Form = Literal["logits", "probabilities", "values"]
SMALLEST = 1e-7
"""Probabilities are not taken for smaller: fp32's softmax gives zeros."""


def form_of(scores: Tensor) -> Form:
    """What the teacher's scores [n, ..., classes] are."""
    if scores.ndim < 2 or scores.shape[-1] < 2:
        return "values"
    if not (scores.min() >= 0 and scores.max() <= 1 + 1e-4):
        return "logits"
    return "probabilities" if bool(((scores.sum(-1) - 1).abs() < 1e-3).all()) else "values"


def logits_of(scores: Tensor, form: Form) -> Tensor:
    """Scores as logits [items, classes]: the logarithm of probabilities is logits up to a constant."""
    flat = scores.reshape(-1, scores.shape[-1])
    return flat.clamp_min(SMALLEST).log() if form == "probabilities" else flat


def kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(teacher || student)`` of softened logits [n, classes], a mean over items (Hinton et al. 2015)."""
    given = F.log_softmax(student / temperature, dim=1)
    wanted = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(given, wanted, reduction="batchmean", log_target=True) * temperature**2


def dkd(student: Tensor, teacher: Tensor, target: Tensor, alpha: float, beta: float, temperature: float) -> Tensor:
    """Decoupled distillation (Zhao et al. 2022): ``alpha`` times the part on the target class against all others, and
    ``beta`` times the part among the others, both times ``T^2``. Logits [n, classes], ``target`` [n]."""
    of_target = F.one_hot(target, student.shape[1]).bool()
    parts = []
    for logits in (student, teacher):
        log = F.log_softmax(logits / temperature, dim=1)
        others = log.masked_fill(of_target, -torch.inf).logsumexp(1)
        parts.append(torch.stack([log[of_target], others], dim=1))
    on_target = F.kl_div(parts[0], parts[1], reduction="batchmean", log_target=True)
    # Without the target class: a shift that leaves nothing of it after the softmax (as the paper's own code does).
    given, wanted = (F.log_softmax(logits / temperature - 1000.0 * of_target, dim=1) for logits in (student, teacher))
    among_others = F.kl_div(given, wanted, reduction="batchmean", log_target=True)
    return (alpha * on_target + beta * among_others) * temperature**2


def fidelity(student: Tensor, teacher: Tensor, power: float) -> Tensor:
    """Mean squared error over ``power``, the teacher's mean square over all items: 1 is an output of zeros."""
    return F.mse_loss(student, teacher) / power


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine along the last axis, a mean over all others: the direction of embeddings."""
    return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean()
