"""Masks on weights: which become zero, held there while the rest trains.

A mask is a parametrization of the layer's weight, so that gradients, optimizers and ``write_back`` see zeros and need
to know nothing of masks.
"""

from __future__ import annotations

import zlib
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgewise_compiler.errors import Unsupported

Pattern = Literal["2:4", "unstructured"]
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Masked(nn.Module):
    """The parametrization: the weight times a mask of zeros and ones."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight."""
        return weight * self.mask


def targets(module: nn.Module, pattern: Pattern, least: int) -> tuple[dict[str, nn.Module], list[Unsupported]]:
    """Layers to mask by name, and why others stay dense. ``least``: elements of a weight worth it."""
    found: dict[str, nn.Module] = {}
    dense: list[Unsupported] = []
    for name, layer in module.named_modules():
        if not isinstance(layer, LAYERS):
            continue
        weight = layer.weight
        if weight.numel() < least:
            dense.append(
                Unsupported(node=name, op=type(layer).__name__, why=f"{weight.numel()} weights, fewer than {least}")
            )
        elif pattern == "2:4" and weight.shape[1] % 4:
            why = f"its {weight.shape[1]} input channels are no multiple of four"
            dense.append(Unsupported(node=name, op=type(layer).__name__, why=why))
        else:
            found[name] = layer
    return found, dense


def stages(pattern: Pattern, sparsity: float, steps: int) -> list[float]:
    """The share of zeros at each step: a cubic rise (Zhu & Gupta 2017, formula 1), fast while much is redundant.

    2:4 comes at once.
    """
    if pattern == "2:4":
        return [0.5]
    return [sparsity * (1 - (1 - (i + 1) / steps) ** 3) for i in range(steps)]


def mask_of(weight: Tensor, pattern: Pattern, sparsity: float) -> Tensor:
    """Ones where a weight [out, in, ...] stays: the two larger of each four along ``in``, or all but the smallest."""
    size = weight.detach().abs()
    mask = torch.ones_like(size)
    if pattern == "2:4":
        fours = size.movedim(1, -1).reshape(-1, 4)
        smaller = fours.argsort(dim=1, stable=True)[:, :2]
        kept = torch.ones_like(fours).scatter_(1, smaller, 0.0)
        moved = size.movedim(1, -1)
        return kept.reshape(moved.shape).movedim(-1, 1).contiguous()
    zeros = round(sparsity * size.numel())
    mask.view(-1)[size.reshape(-1).argsort(stable=True)[:zeros]] = 0.0
    return mask


def hold(layers: dict[str, nn.Module], pattern: Pattern, sparsity: float) -> None:
    """Mask the layers by their present weights, in place of the masks that they have."""
    release(layers)
    for layer in layers.values():
        weight = layer.weight
        assert isinstance(weight, Tensor)
        parametrize.register_parametrization(layer, "weight", Masked(mask_of(weight, pattern, sparsity)))


def release(layers: dict[str, nn.Module]) -> None:
    """Take the masks off; the zeros stay."""
    for layer in layers.values():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def said(module: nn.Module, pattern: Pattern, dense: int) -> str:
    """How many weights are zero, as a sentence."""
    weights = [layer.weight for layer in module.modules() if isinstance(layer, LAYERS)]
    zeros, all_of = sum(int((w == 0).sum()) for w in weights), sum(w.numel() for w in weights)
    return (
        f"{pattern}: {zeros} of {all_of} weights are zero ({zeros / all_of:.0%}), {dense} layers stay dense; "
        "CPU runtimes compute the zeros too: no gain in speed"
    )


def packed(before: bytes, after: bytes) -> str:
    """What the zeros are worth where files are compressed, as a sentence."""
    one, other = len(zlib.compress(before, 6)), len(zlib.compress(after, 6))
    return f"compressed with zlib the file has {other} bytes, {one} before ({other / one:.2f})"
