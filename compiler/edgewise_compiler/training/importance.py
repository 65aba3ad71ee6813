"""Importance of a channel: what its removal changes in the outputs, to second order and without labels.

The squared gradient of a random direction of the outputs, times the weights that read the channel (Fisher pruning,
Theis et al. 2018; Molchanov et al. 2019), estimates the loss of distillation that the cut will cause. That has one unit
for all groups, so that what they lose can be compared. The plain gradient of that loss would not do: it is zero where
a model still answers as its teacher.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
import torch
from torch import Tensor

from edgewise_compiler.training import losses
from edgewise_compiler.training.dependency import Group, weights_of, widths
from edgewise_compiler.training.onnx_torch import to_module
from edgewise_compiler.training.recover import Feeds, Teacher

Importance = Literal["taylor", "magnitude"]
ITEMS, BATCH = 512, 16
"""How many items are looked at, and how many share a random direction."""


def least_important(importance: Tensor, n: int) -> tuple[list[int], float]:
    """The ``n`` channels that matter least, and how much they matter together."""
    chosen = importance.argsort(stable=True)[:n]
    return sorted(chosen.tolist()), float(importance[chosen].sum())


def importances(
    model: onnx.ModelProto,
    groups: list[Group],
    feeds: Feeds,
    teacher: Teacher,
    score_index: int | None,
    kind: Importance,
    random: np.random.Generator,
) -> dict[str, Tensor]:
    """Importance of each channel, by root: float64 [width]. One unit for all groups, so that they can be compared."""
    module = to_module(model)
    parts = weights_of(module, groups, feeds.at(np.arange(feeds.chunk or 1, dtype=np.int64)))
    totals = {root: torch.zeros(width, dtype=torch.float64) for root, width in widths(module, groups).items()}
    if kind == "magnitude":
        for root, of_root in parts.items():
            for part in of_root:
                squares = _by_channel(part.layer.weight.detach().square(), part.axis)
                totals[root].index_add_(0, part.roots, squares[part.channels].double())
        return totals
    rows = np.sort(random.permutation(teacher.rows)[:ITEMS]).astype(np.int64)
    draw = torch.Generator().manual_seed(int(random.integers(2**31)))
    n = 0
    for chunks in feeds.batches(rows, BATCH):
        module.zero_grad(set_to_none=True)
        for chunk in chunks:
            _direction(module(*feeds.at(chunk)), teacher, score_index, draw).backward()  # type: ignore[no-untyped-call]
            n += len(chunk)
        for root, of_root in parts.items():
            change = torch.zeros_like(totals[root])
            for part in of_root:
                weight = part.layer.weight
                if part.reads and weight.grad is not None:
                    by_channel = _by_channel(weight.detach() * weight.grad, part.axis)
                    change.index_add_(0, part.roots, by_channel[part.channels].double())
            totals[root] += change.square()
    return {root: total / max(1, n) for root, total in totals.items()}


def _by_channel(values: Tensor, axis: int) -> Tensor:
    return values.movedim(axis, 0).flatten(1).sum(1)


def _direction(outputs: tuple[Tensor, ...], teacher: Teacher, score_index: int | None, draw: torch.Generator) -> Tensor:
    """A scalar whose squared derivative is, on average over draws, the loss of distillation to second order.

    On scores the likelihood of a class drawn from them (Fisher information), on others a random sign for each element.
    """
    total = torch.zeros(())
    for i, output in enumerate(outputs):
        if not teacher.floats[i] or not output.requires_grad:
            continue
        if i == score_index and teacher.form != "values":
            log = losses.logits_of(output, teacher.form).log_softmax(1)
            drawn = torch.multinomial(log.detach().exp(), 1, generator=draw)
            total = total - log.gather(1, drawn).sum()
        else:
            signs = torch.randint(0, 2, output.shape, generator=draw).float() * 2 - 1
            per_item = max(1, output[0].numel()) if output.ndim else 1
            total = total + (signs * output).nansum() / (teacher.powers[i] * per_item) ** 0.5
    return total
