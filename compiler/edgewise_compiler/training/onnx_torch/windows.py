"""Operators with sliding windows: convolutions and pooling, with every way of padding that ONNX has."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .graph import Node
from .registry import LAYER_CALLS, Binding, Facts, Layer, layer, op

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
CONV_LAYERS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED_LAYERS: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_sym_max: Any = torch.sym_max
MAX_POOL: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _list(node: Node, name: str, rank: int) -> list[int]:
    return list(node.get(name) or [1] * rank)


def padding(node: Node, size: list[Any], kernel: list[int]) -> tuple[list[Any], list[Any]]:
    """What to add before and after each spatial axis of ``size``."""
    rank = len(kernel)
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = node.get("pads") or [0] * 2 * rank
        return list(pads[:rank]), list(pads[rank:])
    if mode == "VALID":
        return [0] * rank, [0] * rank
    strides, dilations = _list(node, "strides", rank), _list(node, "dilations", rank)
    before, after = [], []
    for n, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        reach = (k - 1) * dilation + 1
        needed = reach - 1 if stride == 1 else _sym_max((-(-n // stride) - 1) * stride + reach - n, 0)
        less, more = needed // 2, needed - needed // 2
        before.append(less if mode == "SAME_UPPER" else more)
        after.append(more if mode == "SAME_UPPER" else less)
    return before, after


def _flat(before: list[Any], after: list[Any]) -> list[Any]:
    """In the order of ``F.pad``: the last axis first."""
    return [part for pair in zip(reversed(before), reversed(after), strict=True) for part in pair]


def _symmetric(node: Node, kernel: list[int]) -> list[int] | None:
    """The padding as torch's layers have it, where it does not depend on the size and is the same on both sides."""
    if node.get("auto_pad", "NOTSET").startswith("SAME") and any(s != 1 for s in _list(node, "strides", len(kernel))):
        return None
    before, after = padding(node, [1] * len(kernel), kernel)
    return before if before == after else None


@op("Conv")
def convolve(node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """With a weight that was computed."""
    kernel = list(weight.shape[2:])
    x = F.pad(x, _flat(*padding(node, list(x.shape[2:]), kernel)))
    rank = len(kernel)
    strides, dilations = _list(node, "strides", rank), _list(node, "dilations", rank)
    return CONV[rank](x, weight, bias, strides, 0, dilations, node.get("group", 1))


@layer("Conv")
def conv_layer(node: Node, facts: Facts) -> Layer | None:
    """``nn.Conv1d`` to ``nn.Conv3d``."""
    weight = facts.constant(node, 1)
    if weight is None or (node.input(2) and facts.constant(node, 2) is None) or weight.ndim not in (3, 4, 5):
        return None
    rank, group = weight.ndim - 2, node.get("group", 1)
    module = CONV_LAYERS[rank](
        weight.shape[1] * group,
        weight.shape[0],
        weight.shape[2:],
        _list(node, "strides", rank),
        _symmetric(node, list(weight.shape[2:])) or 0,
        _list(node, "dilations", rank),
        group,
        bool(node.input(2)),
    )
    return Layer(module, (Binding("weight", 1), *([Binding("bias", 2)] if node.input(2) else [])))


def call_conv(node: Node, module: Any, x: torch.Tensor) -> Any:
    """What torch's layer cannot pad is padded before it."""
    kernel = list(module.kernel_size)
    if _symmetric(node, kernel) is None:
        x = F.pad(x, _flat(*padding(node, list(x.shape[2:]), kernel)))
    return module(x)


LAYER_CALLS["Conv"] = call_conv


def _transposed(node: Node, size: list[Any], kernel: list[int]) -> tuple[list[Any], list[Any], list[Any]]:
    """What to cut before and after, and what to add at the end, of each axis of a transposed convolution."""
    rank = len(kernel)
    strides, dilations = _list(node, "strides", rank), _list(node, "dilations", rank)
    extra = list(node.get("output_padding") or [0] * rank)
    shape, mode = node.get("output_shape"), node.get("auto_pad", "NOTSET")
    if not shape and not mode.startswith("SAME"):
        return *padding(node, size, kernel), extra
    before, after = [], []
    for i in range(rank):
        reach = (kernel[i] - 1) * dilations[i] + 1
        wanted = shape[i - rank] if shape else size[i] * strides[i]
        total = strides[i] * (size[i] - 1) + extra[i] + reach - wanted
        total = total if shape or not isinstance(total, int) else max(total, 0)
        less, more = total // 2, total - total // 2
        before.append(more if mode != "SAME_UPPER" else less)
        after.append(less if mode != "SAME_UPPER" else more)
    return before, after, extra


def _cut(x: torch.Tensor, before: list[Any], after: list[Any]) -> torch.Tensor:
    return F.pad(x, [-part for part in _flat(before, after)]) if any(before) or any(after) else x


@op("ConvTranspose")
def convolve_transposed(
    node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """With a weight that was computed."""
    rank = weight.ndim - 2
    before, after, extra = _transposed(node, list(x.shape[2:]), list(weight.shape[2:]))
    strides, dilations = _list(node, "strides", rank), _list(node, "dilations", rank)
    y = TRANSPOSED[rank](x, weight, None, strides, 0, 0, node.get("group", 1), dilations)
    y = _cut(y, before, [a - e for a, e in zip(after, extra, strict=True)])
    return y if bias is None else y + bias.reshape([-1] + [1] * rank)


@layer("ConvTranspose")
def conv_transposed_layer(node: Node, facts: Facts) -> Layer | None:
    """``nn.ConvTranspose1d`` to ``3d``, where the padding is given and the same on both sides."""
    weight = facts.constant(node, 1)
    if weight is None or (node.input(2) and facts.constant(node, 2) is None) or weight.ndim not in (3, 4, 5):
        return None
    rank, group = weight.ndim - 2, node.get("group", 1)
    if node.get("output_shape") or node.get("auto_pad", "NOTSET").startswith("SAME"):
        return None
    before, after, extra = _transposed(node, [1] * rank, list(weight.shape[2:]))
    strides, dilations = _list(node, "strides", rank), _list(node, "dilations", rank)
    fits = all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))
    if before != after or not fits:
        return None
    module = TRANSPOSED_LAYERS[rank](
        weight.shape[0],
        weight.shape[1] * group,
        weight.shape[2:],
        strides,
        before,
        extra,
        group,
        bool(node.input(2)),
        dilations,
    )
    return Layer(module, (Binding("weight", 1), *([Binding("bias", 2)] if node.input(2) else [])))


def _no_indices(node: Node, facts: Facts) -> str | None:
    if len(node.outputs) > 1 and node.outputs[1] in facts.used:
        return "gives the places of the largest elements"
    return "column-major places" if node.get("storage_order", 0) else None


@op("MaxPool", check=_no_indices)
def max_pool(node: Node, x: torch.Tensor) -> Any:
    """A window that starts in the padding at the end is left out."""
    kernel = node.get("kernel_shape")
    rank = len(kernel)
    strides, dilations = _list(node, "strides", rank), _list(node, "dilations", rank)
    before, after = padding(node, list(x.shape[2:]), kernel)
    ceil = bool(node.get("ceil_mode", 0))
    inside = all(isinstance(b, int) and b <= k // 2 for b, k in zip(before, kernel, strict=True))
    if before == after and inside:
        return MAX_POOL[rank](x, kernel, strides, before, dilations, ceil)
    lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    x = F.pad(x, _flat(before, after), value=lowest)
    return MAX_POOL[rank](x, kernel, strides, 0, dilations, ceil)


def _no_dilation(node: Node, facts: Facts) -> str | None:
    if node.op == "LpPool" and node.get("ceil_mode", 0):
        return "has ceil_mode"
    return "has dilations" if any(d != 1 for d in node.get("dilations") or []) else None


@op("AveragePool", check=_no_dilation)
def average_pool(node: Node, x: torch.Tensor) -> Any:
    """With or without the padding counted; what ``ceil_mode`` adds is never counted."""
    kernel = node.get("kernel_shape")
    rank = len(kernel)
    strides = _list(node, "strides", rank)
    before, after = padding(node, list(x.shape[2:]), kernel)
    ceil, counted = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))
    pool: Any = AVERAGE_POOL[rank]
    inside = all(isinstance(b, int) and b <= k // 2 for b, k in zip(before, kernel, strict=True))
    if before == after and inside:
        return pool(x, kernel, strides, before, ceil, counted)
    padded = F.pad(x, _flat(before, after))
    if counted:
        return pool(padded, kernel, strides, 0, ceil, True)
    ones = F.pad(torch.ones_like(x[:1, :1]), _flat(before, after))
    return pool(padded, kernel, strides, 0, ceil, True) / pool(ones, kernel, strides, 0, ceil, True)


@op("GlobalAveragePool")
def global_average_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    """The mean of all spatial axes."""
    return x.mean(list(range(2, x.ndim)), keepdim=True)


@op("GlobalMaxPool")
def global_max_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    """The largest over all spatial axes."""
    return x.amax(list(range(2, x.ndim)), keepdim=True)


@op("LpPool", "GlobalLpPool", check=_no_dilation)
def lp_pool(node: Node, x: torch.Tensor) -> Any:
    """The p-norm of each window, or of all."""
    p = node.get("p", 2)
    powers = x.abs().pow(p)
    if node.op == "GlobalLpPool":
        return powers.sum(list(range(2, x.ndim)), keepdim=True).pow(1 / p)
    kernel = node.get("kernel_shape")
    padded = F.pad(powers, _flat(*padding(node, list(x.shape[2:]), kernel)))
    pool: Any = AVERAGE_POOL[len(kernel)]
    mean: torch.Tensor = pool(padded, kernel, _list(node, "strides", len(kernel)), 0)
    return (mean * math.prod(kernel)).pow(1 / p)
