"""Short-time and plain Fourier transforms, as products with cosines and sines: every converter knows a product."""

from __future__ import annotations

import numpy as np
import torch

from .graph import Node
from .registry import Facts, Host, ints, op


def _basis(n: int, bins: int, inverse: bool, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [n, bins]."""
    angles = 2 * np.pi * np.outer(np.arange(n), np.arange(bins)) / n
    sign = 1 if inverse else -1
    return torch.from_numpy(np.cos(angles)).to(like), torch.from_numpy(sign * np.sin(angles)).to(like)


def _real(node: Node, facts: Facts) -> str | None:
    shape = facts.shapes.get(node.inputs[0])
    if node.get("inverse", 0) and node.get("onesided", 0):
        return "is inverse and one-sided"
    if shape is None or shape[-1] is None:
        return "whether its signal is complex is not known"
    return None


@op("DFT", host=(1, 2), check=_real)
def dft(node: Node, x: torch.Tensor, length: Host | None = None, axis: Host | None = None) -> torch.Tensor:
    """``x`` [..., n, ..., 1 or 2] -> [..., bins, ..., 2]."""
    along = ints(axis)[0] if axis is not None else node.get("axis", -2 if node.opset >= 20 else 1)
    along = along % x.ndim
    n = ints(length)[0] if length is not None else x.shape[along]
    inverse = bool(node.get("inverse", 0))
    bins = n // 2 + 1 if node.get("onesided", 0) else n
    x = x.narrow(along, 0, min(n, x.shape[along]))
    if x.shape[along] < n:
        x = torch.nn.functional.pad(x, [0, 0] * (x.ndim - 1 - along) + [0, n - x.shape[along]])
    cosine, sine = _basis(n, bins, inverse, x)
    real = x[..., 0].movedim(along, -1)
    result_real, result_imaginary = real @ cosine, real @ sine
    if x.shape[-1] == 2:
        imaginary = x[..., 1].movedim(along, -1)
        result_real = result_real - imaginary @ sine
        result_imaginary = result_imaginary + imaginary @ cosine
    result = torch.stack([result_real, result_imaginary], -1).movedim(-2, along)
    return result / n if inverse else result


def _real_signal(node: Node, facts: Facts) -> str | None:
    shape = facts.shapes.get(node.inputs[0])
    if shape is not None and len(shape) == 3 and shape[-1] == 2:
        return "has a complex signal"
    return None if node.input(2) or node.input(3) else "has neither window nor frame length"


@op("STFT", host=(1, 3), check=_real_signal)
def stft(
    node: Node, signal: torch.Tensor, step: Host, window: torch.Tensor | None = None, length: Host | None = None
) -> torch.Tensor:
    """``signal`` [batch, n] or [batch, n, 1] -> [batch, frames, bins, 2]."""
    signal = signal.squeeze(-1) if signal.ndim == 3 else signal
    if length is not None:
        n = ints(length)[0]
    elif window is not None:
        n = window.shape[0]
    else:
        raise ValueError(f"STFT {node.name!r}: expected a window or a frame length")
    frames = signal.unfold(1, n, ints(step)[0])
    frames = frames if window is None else frames * window
    cosine, sine = _basis(n, n // 2 + 1 if node.get("onesided", 1) else n, False, signal)
    return torch.stack([frames @ cosine, frames @ sine], -1)
