"""Operators that reduce or order along axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .graph import Node
from .registry import Facts, Host, host_op, ints, op


def _prod(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


REDUCTIONS: dict[str, Callable[[torch.Tensor, list[int], bool], torch.Tensor]] = {
    "ReduceMean": lambda x, axes, keep: torch.mean(x, axes, keepdim=keep),
    "ReduceSum": lambda x, axes, keep: torch.sum(x, axes, keepdim=keep, dtype=x.dtype),
    "ReduceMax": lambda x, axes, keep: torch.amax(x, axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: torch.amin(x, axes, keepdim=keep),
    "ReduceProd": _prod,
    "ReduceL1": lambda x, axes, keep: torch.sum(torch.abs(x), axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: torch.sqrt(torch.sum(x * x, axes, keepdim=keep)),
    "ReduceSumSquare": lambda x, axes, keep: torch.sum(x * x, axes, keepdim=keep),
    "ReduceLogSum": lambda x, axes, keep: torch.log(torch.sum(x, axes, keepdim=keep)),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
}


@op(*REDUCTIONS, host=(1,))
def reduce(node: Node, x: torch.Tensor, axes: Host | None = None) -> torch.Tensor:
    """Axes as attribute or input; none of them means all, or nothing at all where the node says so."""
    found = node.get("axes") if axes is None else ints(axes)
    if not found:
        if node.get("noop_with_empty_axes", 0):
            return x
        found = list(range(x.ndim))
    return REDUCTIONS[node.op](x, found, bool(node.get("keepdims", 1)))


@host_op("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def reduce_host(node: Node, x: Host, axes: Host | None = None) -> Any:
    """Over sizes."""
    functions: dict[str, Any] = {"ReduceProd": np.prod, "ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min}
    found = node.get("axes") if axes is None else ints(axes)
    keep = bool(node.get("keepdims", 1))
    return np.asarray(functions[node.op](x, axis=tuple(found) if found else None, keepdims=keep))


def _first_index(node: Node, facts: Facts) -> str | None:
    return "selects the last of equal elements" if node.get("select_last_index", 0) else None


@op("ArgMax", "ArgMin", check=_first_index)
def arg_extreme(node: Node, x: torch.Tensor) -> torch.Tensor:
    """The first of equal elements."""
    function = torch.argmax if node.op == "ArgMax" else torch.argmin
    return function(x, node.get("axis", 0), keepdim=bool(node.get("keepdims", 1)))


@op("TopK", host=(1,))
def top_k(node: Node, x: torch.Tensor, k: Host) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorted, whatever the node asks for; of equal elements the first comes first."""
    axis = node.get("axis", -1)
    values, indices = torch.sort(x, stable=True, dim=axis, descending=bool(node.get("largest", 1)))
    return values.narrow(axis, 0, ints(k)[0]), indices.narrow(axis, 0, ints(k)[0])


@op("CumSum", host=(1,))
def cumulative_sum(node: Node, x: torch.Tensor, axis: Host) -> torch.Tensor:
    """Forwards or in reverse, with or without the element itself."""
    along = ints(axis)[0]
    turned = x.flip(along) if node.get("reverse", 0) else x
    summed = torch.cumsum(turned, along, dtype=x.dtype)
    summed = summed - turned if node.get("exclusive", 0) else summed
    return summed.flip(along) if node.get("reverse", 0) else summed


@op("Einsum")
def einsum(node: Node, *inputs: torch.Tensor) -> torch.Tensor:
    """The equation as torch reads it."""
    return torch.einsum(node.get("equation").replace(" ", ""), *inputs)
