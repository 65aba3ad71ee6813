"""QuantizeLinear and DequantizeLinear: a pair on a value is one fake quantizer, else each is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import nn

from .graph import Node
from .registry import Binding, Facts, Layer, layer, op

RANGES = {
    TensorProto.INT4: (-8, 7), TensorProto.UINT4: (0, 15), TensorProto.INT8: (-128, 127), TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767), TensorProto.UINT16: (0, 65535), TensorProto.INT32: (-(2**31), 2**31 - 1),
}  # fmt: skip
HELD = {TensorProto.INT8: torch.int8, TensorProto.INT4: torch.int8, TensorProto.UINT8: torch.uint8,
        TensorProto.UINT4: torch.uint8, TensorProto.INT16: torch.int16,
        TensorProto.UINT16: torch.uint16}  # fmt: skip


class FakeQuantize(nn.Module):
    """A value rounded to the grid of an integer type, gradients straight through. ``scale``, ``zero_point``: [] or [n].

    ``axis``: where the channels are, for a scale of more than one element.
    """

    scale: torch.Tensor
    zero_point: torch.Tensor

    def __init__(self, scale: Any, zero_point: Any, low: int, high: int, axis: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("zero_point", torch.tensor(zero_point, dtype=torch.float32))
        self.low, self.high, self.axis = low, high, axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        scale, zero_point = along(self.scale, x, self.axis), along(self.zero_point, x, self.axis)
        places = x / scale
        rounded = torch.round(places).detach() + (places - places.detach()) if self.training else torch.round(places)
        return (torch.clamp(rounded + zero_point, self.low, self.high) - zero_point) * scale

    def extra_repr(self) -> str:
        """Its grid."""
        return f"{self.low}..{self.high}"


def along(part: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    """A value for each channel, in the shape that broadcasts against ``x``."""
    if part.numel() == 1:
        return part.reshape(())
    return part.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def _blocks(part: torch.Tensor, node: Node) -> torch.Tensor:
    size = node.get("block_size", 0)
    return part.repeat_interleave(size, node.get("axis", 1)) if size else part


def result_type(node: Node, facts: Facts) -> int:
    """The integer type that a QuantizeLinear gives."""
    if node.input(2):
        return facts.types.get(node.inputs[2], 0)
    return int(node.get("output_dtype", 0)) or TensorProto.UINT8


def _known(node: Node, facts: Facts) -> str | None:
    if facts.constant(node, 1) is None or (node.input(2) and facts.constant(node, 2) is None):
        return "its scale or zero point is computed"
    if node.get("block_size", 0):
        return "quantizes in blocks"
    return None if result_type(node, facts) in RANGES else "gives a type that is not an integer"


@op("QuantizeLinear", check=_known)
def quantize(node: Node, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None = None) -> torch.Tensor:
    """Integers, where something other than a DequantizeLinear reads them."""
    to = {torch.int8: TensorProto.INT8, torch.int16: TensorProto.INT16, torch.int32: TensorProto.UINT16}
    kind = TensorProto.UINT8 if zero_point is None else to.get(zero_point.dtype, TensorProto.UINT8)
    axis = node.get("axis", 1)
    places = torch.round(x / along(scale, x, axis))
    if zero_point is not None:
        places = places + along(zero_point, x, axis)
    return torch.clamp(places, *RANGES[kind]).to(HELD.get(kind, torch.int32))


@layer("QuantizeLinear")
def fake_quantize_layer(node: Node, facts: Facts) -> Layer | None:
    """The builder of modules puts it where only DequantizeLinear nodes with the same grid read the result."""
    if _known(node, facts):
        return None
    scale = facts.constants[node.inputs[1]]
    zero_point = facts.constants[node.inputs[2]] if node.input(2) else np.zeros_like(scale)
    low, high = RANGES[result_type(node, facts)]
    axis = node.get("axis", 1)
    return Layer(FakeQuantize(scale, zero_point, low, high, axis), (Binding("scale", 1),))


@op("DequantizeLinear")
def dequantize(
    node: Node, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None = None
) -> torch.Tensor:
    """``(x - zero_point) scale``, by value, channel or block."""
    axis = node.get("axis", 1)
    values = x.to(scale.dtype)
    if node.get("block_size", 0):
        if zero_point is not None:
            values = values - _blocks(zero_point, node).to(scale.dtype)
        return values * _blocks(scale, node)
    if zero_point is not None:
        values = values - along(zero_point, x, axis).to(scale.dtype)
    return values * along(scale, x, axis)
