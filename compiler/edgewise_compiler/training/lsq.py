"""Learned step size quantization (Esser et al., ICLR 2020): fake quantizers whose step sizes train with the weights.

    q(x) = clip(round(x / s), low, high) * s

Rules that hold here:
- gradients go straight through the rounding, which is exact on the way forward, and stop at the clip; that of ``s`` is
  scaled by 1 / sqrt(n * high);
- a step is kept as ``start * exp(log_step)``: it stays positive, and one learning rate fits steps of any size, as for
  the thresholds of TQT (Jain et al., MLSys 2020); weight decay draws it back to where it started;
- zero points do not train.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgewise_compiler.errors import CompileError

Floats = npt.NDArray[np.float32]
MIN_BITS, MAX_BITS = 2, 8
RATIOS = np.linspace(0.3, 1.0, 36, dtype=np.float32)
"""Parts of the largest weight at which clipping is tried for a first step."""


class Step(nn.Module):
    """A positive step size, [] or one a channel, shared by all that round to it."""

    start: torch.Tensor

    def __init__(self, start: Floats) -> None:
        super().__init__()
        self.register_buffer("start", torch.from_numpy(np.array(start, np.float32)))
        self.log_step = nn.Parameter(torch.zeros_like(self.start))

    def forward(self) -> torch.Tensor:
        """The step size."""
        return self.start * self.log_step.exp()


def quantize(
    x: torch.Tensor, step: torch.Tensor, zero_point: torch.Tensor, low: int, high: int, n: int
) -> torch.Tensor:
    """``x`` rounded to the grid. ``step`` and ``zero_point`` broadcast against it; ``n``: elements a step serves."""
    scale = 1.0 / math.sqrt(max(n, 1) * max(high, 1))
    step = step.detach() + (step - step.detach()) * scale
    places = x / step
    clipped = torch.clamp(places + zero_point, low, high)
    rounded = torch.clamp(torch.round(places) + zero_point, low, high).detach() + (clipped - clipped.detach())
    return (rounded - zero_point) * step


class LsqActivation(nn.Module):
    """In the place of a QuantizeLinear and its DequantizeLinear. ``scale``: the present step size."""

    zero_point: torch.Tensor

    def __init__(self, step: Step, zero_point: torch.Tensor, low: int, high: int) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("zero_point", zero_point.reshape(()))
        self.low, self.high = low, high

    @property
    def scale(self) -> torch.Tensor:
        """[] float32."""
        step: torch.Tensor = self.step()
        return step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        n = int(x[0].numel()) if x.ndim else 1
        return quantize(x, self.scale, self.zero_point, self.low, self.high, n)


class LsqWeight(nn.Module):
    """A parametrization: the float weight in, the one that is deployed out. ``axis``: that of the channels."""

    zero_point: torch.Tensor

    def __init__(self, step: Step, zero_point: npt.NDArray[np.generic], low: int, high: int, axis: int) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("zero_point", torch.from_numpy(np.array(zero_point, np.float32)))
        self.low, self.high, self.axis = low, high, axis

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        step, zero_point = self._along(self.step(), weight), self._along(self.zero_point, weight)
        return quantize(weight, step, zero_point, self.low, self.high, weight.numel() // max(step.numel(), 1))

    def integers(self, weight: torch.Tensor) -> torch.Tensor:
        """What is stored of it, as floats: same shape."""
        step, zero_point = self._along(self.step(), weight), self._along(self.zero_point, weight)
        return torch.clamp(torch.round(weight / step) + zero_point, self.low, self.high)

    def _along(self, part: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if part.numel() == 1:
            return part.reshape(())
        return part.reshape([-1 if axis == self.axis else 1 for axis in range(weight.ndim)])


class LsqBias(nn.Module):
    """A parametrization: a bias on the grid of its input's step times its weight's, as int32 holds it."""

    def __init__(self, of_input: Step, of_weight: Step) -> None:
        super().__init__()
        self.of_input, self.of_weight = of_input, of_weight

    def forward(self, bias: torch.Tensor) -> torch.Tensor:
        """Same shape. The bias alone gets gradients."""
        step = (self.of_input() * self.of_weight()).reshape(-1).detach()
        if 1 < step.numel() < bias.numel():  # channels of each group, in a transposed convolution
            step = step.repeat(bias.numel() // step.numel())
        rounded: torch.Tensor = torch.round(bias / step).detach() * step + (bias - bias.detach())
        return rounded


def narrow_range(bits: int) -> tuple[int, int]:
    """Symmetric around zero: -7..7 for four bits."""
    high = 2 ** (bits - 1) - 1
    return -high, high


def check_bits(bits: Mapping[str, int]) -> None:
    """Raises CompileError (code ``cannot-quantize``)."""
    for name, width in bits.items():
        if not MIN_BITS <= width <= MAX_BITS:
            raise CompileError(
                f"node {name!r}: expected {MIN_BITS} to {MAX_BITS} bits, got {width}", code="cannot-quantize"
            )


def first_step(weight: Floats, axis: int, high: int) -> Floats:
    """For each channel along ``axis``, the symmetric step with the least squared error: [channels]."""
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    largest = np.abs(rows).max(axis=1, initial=0.0)
    largest = np.where(largest > 0, largest, np.float32(1))
    best = np.full(len(rows), np.inf)
    found = (largest / high).astype(np.float32)
    for ratio in RATIOS:
        step = (largest * ratio / high).astype(np.float32)
        error = ((np.clip(np.round(rows / step[:, None]), -high, high) * step[:, None] - rows) ** 2).sum(axis=1)
        better = error < best
        best, found = np.where(better, error, best), np.where(better, step, found)
    return found.astype(np.float32)
