"""The tables of operators, and the values that go between them.

A value is a tensor or a **host** value: a numpy array of shape integers (dtype object where it holds symbolic ones).
An operator has up to two forms: on tensors (``OPS``), and on host values (``HOST_OPS``), taken when every input is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from .graph import Node

Host = npt.NDArray[Any]
Value = torch.Tensor | Host | None
Check = Callable[[Node, "Facts"], str | None]


@dataclass(frozen=True)
class Facts:
    """What is known of a graph before it runs. ``shapes``: None where a dimension, or all of them, are unknown."""

    constants: dict[str, Host]
    shapes: dict[str, tuple[int | None, ...]]
    types: dict[str, int]
    """ONNX element types of the constants, as stored."""
    used: frozenset[str]
    """Names that some node reads, or that the graph gives."""
    hosted: frozenset[str]
    """Names whose value is a host value: constants, and what is computed from shapes."""

    def constant(self, node: Node, index: int) -> Host | None:
        """The constant at an input of a node; None where there is none."""
        name = node.input(index)
        return self.constants.get(name) if name else None

    def rank(self, name: str) -> int | None:
        """The number of axes of a value, where it is known."""
        shape = self.shapes.get(name)
        return None if shape is None else len(shape)


@dataclass(frozen=True)
class Op:
    """The tensor form of an operator. ``host``: inputs it wants as host values. ``scalars``: host values of one element
    come as Python numbers. ``check``: why a node cannot be taken, or None."""

    run: Callable[..., Any]
    host: tuple[int, ...] = ()
    scalars: bool = False
    check: Check | None = None


@dataclass(frozen=True)
class Binding:
    """Where a parameter or buffer of a layer comes from: input ``index`` of its node, through ``transform``."""

    attribute: str
    index: int
    transform: str = "same"


@dataclass(frozen=True)
class Layer:
    """A submodule that stands for a node. ``inputs``: those of the node that it is called with."""

    module: nn.Module
    bindings: tuple[Binding, ...]
    inputs: tuple[int, ...] = (0,)


OPS: dict[str, Op] = {}
HOST_OPS: dict[str, Callable[..., Any]] = {}
LAYERS: dict[str, Callable[[Node, Facts], Layer | None]] = {}
LAYER_CALLS: dict[str, Callable[..., Any]] = {}


def op(
    *names: str, host: tuple[int, ...] = (), scalars: bool = False, check: Check | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function ``(node, *inputs) -> value or tuple of values`` into the table of tensor operators."""

    def put(run: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            OPS[name] = Op(run, host, scalars, check)
        return run

    return put


def host_op(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The same for host values."""

    def put(run: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            HOST_OPS[name] = run
        return run

    return put


def layer(name: str) -> Callable[[Callable[[Node, Facts], Layer | None]], Callable[[Node, Facts], Layer | None]]:
    """Put a builder into the table of layers: it gives None where a node is better run as an operator."""

    def put(build: Callable[[Node, Facts], Layer | None]) -> Callable[[Node, Facts], Layer | None]:
        LAYERS[name] = build
        return build

    return put


def tensor(value: Any, device: torch.device) -> torch.Tensor:
    """A host value as a tensor; a tensor as it is."""
    if isinstance(value, torch.Tensor):
        return value
    if value.dtype != object:
        return torch.tensor(value, device=device)
    parts = [torch.scalar_tensor(part, device=device, dtype=scalar_type(part)) for part in value.reshape(-1)]
    return torch.stack(parts).reshape(value.shape) if parts else torch.zeros(value.shape, dtype=torch.int64)


def scalar_type(value: Any) -> torch.dtype:
    """The dtype that a Python or symbolic number has in ONNX."""
    if isinstance(value, (bool, np.bool_, torch.SymBool)):
        return torch.bool
    return torch.float32 if isinstance(value, (float, torch.SymFloat)) else torch.int64


def symbolic(value: Host) -> bool:
    """Whether a host value holds symbolic integers."""
    return value.dtype == object


def host_array(values: list[Any]) -> Host:
    """Integers as a host value: int64, or object where one of them is symbolic."""
    if all(isinstance(value, (int, np.integer)) for value in values):
        return np.array([int(value) for value in values], np.int64)
    array = np.empty(len(values), object)
    array[:] = values
    return array


def ints(value: Host) -> list[Any]:
    """A host value as a flat list of Python (or symbolic) integers."""
    return [int(part) if isinstance(part, (int, float, np.generic)) else part for part in value.reshape(-1).tolist()]
