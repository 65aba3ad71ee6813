"""Matrix products and normalizations, as layers of torch where their weights are constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .graph import Node
from .registry import Binding, Facts, Layer, layer, op


@op("MatMul")
def matmul(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Batched where there are more than two axes."""
    return torch.matmul(a, b)


@layer("MatMul")
def matmul_layer(node: Node, facts: Facts) -> Layer | None:
    """``nn.Linear`` where the second operand is a constant matrix. Its bias may come from the Add behind it."""
    weight = facts.constant(node, 1)
    if weight is None or weight.ndim != 2 or not np.issubdtype(weight.dtype, np.floating):
        return None
    return Layer(nn.Linear(weight.shape[0], weight.shape[1], bias=False), (Binding("weight", 1, "transposed"),))


@op("Gemm")
def gemm(node: Node, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
    """``alpha A B + beta C``, either transposed."""
    a = a.transpose(0, 1) if node.get("transA", 0) else a
    b = b.transpose(0, 1) if node.get("transB", 0) else b
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    y = torch.matmul(a, b) if alpha == 1 else alpha * torch.matmul(a, b)
    return y if c is None else y + (c if beta == 1 else beta * c)


@layer("Gemm")
def gemm_layer(node: Node, facts: Facts) -> Layer | None:
    """``nn.Linear`` where nothing is scaled and the bias is one row."""
    weight, bias = facts.constant(node, 1), facts.constant(node, 2)
    if weight is None or weight.ndim != 2 or node.get("transA", 0) or node.get("alpha", 1.0) != 1:
        return None
    if not np.issubdtype(weight.dtype, np.floating):
        return None
    outward = bool(node.get("transB", 0))
    width = weight.shape[0] if outward else weight.shape[1]
    if node.input(2) and (
        bias is None or bias.size != width or bias.shape[-1:] != (width,) or node.get("beta", 1.0) != 1
    ):
        return None
    module = nn.Linear(weight.shape[1 if outward else 0], width, bias=bias is not None)
    bindings = [Binding("weight", 1, "same" if outward else "transposed")]
    if bias is not None:
        bindings.append(Binding("bias", 2, "same" if bias.ndim == 1 else "row"))
    return Layer(module, tuple(bindings))


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization over axis 1 of any number of axes, under the name that tools for torch look for."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any rank will do."""


def _answers(node: Node, facts: Facts) -> str | None:
    return "trains" if node.get("training_mode", 0) or len([n for n in node.outputs if n]) > 1 else None


@op("BatchNormalization", check=_answers)
def batch_norm(node: Node, x: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
    """With statistics that were computed."""
    scale, bias, mean, variance = parts
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.get("epsilon", 1e-5))


@layer("BatchNormalization")
def batch_norm_layer(node: Node, facts: Facts) -> Layer | None:
    """A ``nn.BatchNorm2d`` that takes any rank."""
    if any(facts.constant(node, index) is None for index in (1, 2, 3, 4)):
        return None
    width = facts.constants[node.inputs[1]].size
    module = BatchNorm(width, eps=node.get("epsilon", 1e-5), momentum=1 - node.get("momentum", 0.9))
    names = ("weight", "bias", "running_mean", "running_var")
    return Layer(module, tuple(Binding(name, index) for index, name in enumerate(names, 1)))


@op("InstanceNormalization")
def instance_norm(node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Over the spatial axes of each item and channel."""
    axes = list(range(2, x.ndim))
    shape = [-1] + [1] * len(axes)
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + node.get("epsilon", 1e-5)) * scale.reshape(shape) + bias.reshape(shape)


def _one_output(node: Node, facts: Facts) -> str | None:
    more = [name for name in node.outputs[1:] if name in facts.used]
    return f"its output {more[0]!r} is read" if more else None


@op("LayerNormalization", check=_one_output)
def layer_norm(node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Over all axes from ``axis`` on."""
    axes = list(range(node.get("axis", -1) % x.ndim, x.ndim))
    centered = x - x.mean(axes, keepdim=True)
    y = centered * torch.rsqrt(centered.square().mean(axes, keepdim=True) + node.get("epsilon", 1e-5)) * scale
    return y if bias is None else y + bias


@layer("LayerNormalization")
def layer_norm_layer(node: Node, facts: Facts) -> Layer | None:
    """``nn.LayerNorm`` where scale and bias have the shape that is normalized."""
    scale, bias = facts.constant(node, 1), facts.constant(node, 2)
    if scale is None or (node.input(2) and bias is None) or (bias is not None and bias.shape != scale.shape):
        return None
    rank, axis = facts.rank(node.inputs[0]), node.get("axis", -1)
    axis = axis if axis < 0 else None if rank is None else axis - rank
    if axis != -scale.ndim:
        return None
    module = nn.LayerNorm(scale.shape, node.get("epsilon", 1e-5), bias=bias is not None)
    return Layer(module, (Binding("weight", 1), *([Binding("bias", 2)] if bias is not None else [])))


@op("RMSNormalization")
def rms_norm(node: Node, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """By the root of the mean square from ``axis`` on."""
    axes = list(range(node.get("axis", -1) % x.ndim, x.ndim))
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + node.get("epsilon", 1e-5)) * scale


@op("GroupNormalization")
def group_norm(node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Scale and bias by group before opset 21, by channel since."""
    groups, channels = node.get("num_groups"), x.shape[1]
    if node.opset < 21:
        scale, bias = (part.repeat_interleave(channels // groups) for part in (scale, bias))
    return F.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


@op("LpNormalization")
def lp_norm(node: Node, x: torch.Tensor) -> torch.Tensor:
    """To length one along an axis."""
    return F.normalize(x, node.get("p", 2), node.get("axis", -1), eps=1e-12)


@op("MeanVarianceNormalization")
def mean_variance_norm(node: Node, x: torch.Tensor) -> torch.Tensor:
    """To mean zero and variance one."""
    axes = node.get("axes") or [0, 2, 3]
    centered = x - x.mean(axes, keepdim=True)
    return centered / (centered.square().mean(axes, keepdim=True).sqrt() + 1e-9)


@op("LRN")
def local_response_norm(node: Node, x: torch.Tensor) -> Any:
    """Over neighbouring channels."""
    size = node.get("size")
    squares = x.square().unsqueeze(1)
    flat = [0, 0] * (x.ndim - 2) + [(size - 1) // 2, size - 1 - (size - 1) // 2]
    padded = F.pad(squares, flat)
    around: Any = sum(padded.narrow(2, i, x.shape[1]) for i in range(size))
    factor = node.get("bias", 1.0) + node.get("alpha", 1e-4) / size * around.squeeze(1)
    return x / factor.pow(node.get("beta", 0.75))


@layer("PRelu")
def prelu_layer(node: Node, facts: Facts) -> Layer | None:
    """``nn.PReLU`` where there is one slope a channel."""
    slope = facts.constant(node, 1)
    rank = facts.rank(node.inputs[0])
    if slope is None or rank is None or rank < 2 or slope.ndim != rank - 1 or slope.size != slope.shape[0]:
        return None
    return Layer(nn.PReLU(slope.shape[0]), (Binding("weight", 1, "channels"),))


@layer("Gather")
def embedding_layer(node: Node, facts: Facts) -> Layer | None:
    """``nn.Embedding`` where a table of floats is looked up. An index may not be negative then."""
    table = facts.constant(node, 0)
    if table is None or table.ndim != 2 or not np.issubdtype(table.dtype, np.floating) or node.get("axis", 0) != 0:
        return None
    if node.inputs[1] in facts.hosted:
        return None
    return Layer(nn.Embedding(*table.shape), (Binding("weight", 0),), inputs=(1,))
