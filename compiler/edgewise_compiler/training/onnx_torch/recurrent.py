"""LSTM, GRU and RNN as torch's layers: gates reordered, both directions, states given or zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from .graph import Node
from .registry import Binding, Facts, Layer, layer, op

GATES = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}
"""torch's order in terms of ONNX's: LSTM iofc -> ifgo, GRU zrh -> rzn."""
ACTIVATIONS = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}


def _refused(node: Node, facts: Facts) -> str | None:
    if any(facts.constant(node, index) is None for index in (1, 2)):
        return "its weights are computed"
    if node.input(3) and facts.constant(node, 3) is None:
        return "its bias is computed"
    if node.input(4):
        return "has sequence lengths"
    if node.input(7):
        return "has peepholes"
    wanted = ACTIVATIONS[node.op] * (2 if node.get("direction") == "bidirectional" else 1)
    if [name.lower() for name in node.get("activations") or wanted] != wanted:
        return f"has activations {node.get('activations')}"
    if node.get("clip") or node.get("input_forget", 0):
        return "clips, or couples its gates"
    return None


@op("LSTM", "GRU", "RNN", check=_refused)
def never(node: Node, *_: Any) -> Any:
    """With constant weights they are always layers."""
    raise ValueError(f"{node.op} {node.name!r}: expected constant weights")


class Recurrent(nn.Module):
    """One recurrent layer: ``core`` is torch's own, or a GRU that applies its reset gate before the product."""

    def __init__(self, node: Node, core: nn.Module) -> None:
        super().__init__()
        self.core = core
        self.reverse = node.get("direction", "forward") == "reverse"
        self.batch_first = bool(node.get("layout", 0))
        self.directions = 2 if node.get("direction") == "bidirectional" else 1

    def forward(self, x: torch.Tensor, *states: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """``x`` [seq, batch, in] -> Y [seq, directions, batch, hidden], last states [directions, batch, hidden]."""
        if self.batch_first:
            x = x.transpose(0, 1)
            states = tuple(None if state is None else state.transpose(0, 1) for state in states)
        x = x.flip(0) if self.reverse else x
        given = [state for state in states if state is not None]
        if isinstance(self.core, nn.LSTM):
            if len(given) == 1:
                zero = torch.zeros_like(given[0])
                given = [given[0], zero] if states[0] is not None else [zero, given[0]]
            y, last = self.core(x, tuple(given) if given else None)
        else:
            y, hidden = self.core(x, given[0] if given else None)
            last = (hidden,)
        y = y.flip(0) if self.reverse else y
        y = y.unflatten(2, (self.directions, -1)).transpose(1, 2)
        if self.batch_first:
            return y.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last)
        return y, *last


class GruResetBefore(nn.Module):
    """A GRU as ONNX has it by default: ``n = tanh(W x + R (r * h) + b)``. Weights named as in ``nn.GRU``."""

    def __init__(self, width: int, hidden: int, directions: int, bias: bool) -> None:
        super().__init__()
        self.hidden, self.directions = hidden, directions
        for suffix in ("", "_reverse")[:directions]:
            for name, shape in (("weight_ih", (3 * hidden, width)), ("weight_hh", (3 * hidden, hidden))):
                setattr(self, f"{name}_l0{suffix}", nn.Parameter(torch.zeros(shape)))
            for name in ("bias_ih", "bias_hh") if bias else ():
                setattr(self, f"{name}_l0{suffix}", nn.Parameter(torch.zeros(3 * hidden)))
        self.bias = bias

    def forward(self, x: torch.Tensor, state: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """``x`` [seq, batch, in] -> [seq, batch, directions * hidden], [directions, batch, hidden]."""
        outputs, last = [], []
        for index, suffix in enumerate(("", "_reverse")[: self.directions]):
            h = x.new_zeros(x.shape[1], self.hidden) if state is None else state[index]
            weight, recurrent = getattr(self, f"weight_ih_l0{suffix}"), getattr(self, f"weight_hh_l0{suffix}")
            both = getattr(self, f"bias_ih_l0{suffix}") + getattr(self, f"bias_hh_l0{suffix}") if self.bias else None
            gates = nn.functional.linear(x, weight, both)
            n, steps = self.hidden, []
            order = range(x.shape[0]) if not suffix else range(x.shape[0] - 1, -1, -1)
            for t in order:
                reset, update = (gates[t, :, : 2 * n] + h @ recurrent[: 2 * n].T).sigmoid().chunk(2, -1)
                new = (gates[t, :, 2 * n :] + (reset * h) @ recurrent[2 * n :].T).tanh()
                h = (1 - update) * new + update * h
                steps.append(h)
            outputs.append(torch.stack(steps if not suffix else steps[::-1]))
            last.append(h)
        return torch.cat(outputs, -1), torch.stack(last)


@layer("LSTM")
@layer("GRU")
@layer("RNN")
def recurrent_layer(node: Node, facts: Facts) -> Layer | None:
    """``Recurrent``. The transforms of its bindings name the kind, the direction and the half of the bias."""
    if _refused(node, facts):
        return None
    weight = facts.constants[node.inputs[1]]
    bias = bool(node.input(3))
    directions, width, hidden = weight.shape[0], weight.shape[2], facts.constants[node.inputs[2]].shape[2]
    if node.op == "GRU" and not node.get("linear_before_reset", 0):
        core: nn.Module = GruResetBefore(width, hidden, directions, bias)
    else:
        kind: Any = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}[node.op]
        core = kind(width, hidden, bias=bias, bidirectional=directions == 2)
    bindings = []
    for direction, suffix in enumerate(("", "_reverse")[:directions]):
        bindings.append(Binding(f"core.weight_ih_l0{suffix}", 1, f"{node.op}:{direction}"))
        bindings.append(Binding(f"core.weight_hh_l0{suffix}", 2, f"{node.op}:{direction}"))
        if bias:
            bindings.append(Binding(f"core.bias_ih_l0{suffix}", 3, f"{node.op}:{direction}:0"))
            bindings.append(Binding(f"core.bias_hh_l0{suffix}", 3, f"{node.op}:{direction}:1"))
    return Layer(Recurrent(node, core), tuple(bindings), inputs=(0, 5, 6) if node.op == "LSTM" else (0, 5))


def reorder(kind: str, rows: Any, back: bool = False) -> Any:
    """Gates along the first axis, from ONNX's order to torch's, or back."""
    order = np.array(GATES[kind])
    order = np.argsort(order) if back else order
    return np.concatenate([np.split(rows, len(order))[i] for i in order])
