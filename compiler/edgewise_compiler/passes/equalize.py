"""Cross-layer equalization: even out channel ranges between layers, so that a grid per tensor serves every channel.

Where two layers are joined by nothing but what commutes with a positive scale (ReLU and its kin, pooling, padding with
zeros), channel c of the first can be divided by s and the second's weights for it multiplied by s. s is chosen so that
both sides have the same range there. Scales are powers of two: floating point then gives the same answers to the last
bit, but for numbers at the edge of what it can hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from edgewise_compiler.data import Array
from edgewise_compiler.passes import Pass, Refusal, Work
from edgewise_compiler.passes.graph import Floats, Links, load, save, set_array, tidy, whole

SCALES_THROUGH = (
    "Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Pad", "Identity",
    "Dropout", "Flatten",
)  # fmt: skip
FIRST = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SECOND = ("Conv", "Gemm", "MatMul")
ROUNDS = 40


class Equalize(Pass):
    """Cross-layer equalization over Conv, depthwise Conv, ConvTranspose, Gemm and MatMul, until nothing moves."""

    name = "equalize"
    title = "equalize channel ranges"
    paper = "Nagel et al. 2019, arXiv:1906.04721, section 4.1"
    needs = frozenset({"float32", "folded"})
    forbids = frozenset({"quantized"})
    gives = frozenset({"equalized"})

    def run(self, work: Work) -> None:
        """Write the equalized model. Refuses one with no pair of layers to equalize."""
        model = load(work.inputs["model"])
        tidy(model)
        found = pairs(model.graph)
        if not found:
            raise Refusal(
                "nothing to equalize: no two weighted layers joined by nothing but ReLU, pooling or padding; "
                "activations with an upper bound (ReLU6) or a curve do not commute with a scale"
            )
        links = Links(model.graph)
        arrays = {
            name: links.array(name).astype(np.float32)
            for pair in found
            for node in (pair.first, pair.second)
            for name in node.input[1:]
        }
        largest = 0.0
        for _ in range(ROUNDS):
            moved = max(balance(pair, arrays) for pair in found)
            largest = max(largest, moved)
            if not moved:
                break
        for name, array in arrays.items():
            set_array(model.graph, name, array)
        work.notes.append(f"{len(found)} pairs of layers, channels scaled by up to {2**largest:.0f}")
        save(model, work.out)


@dataclass(frozen=True)
class Pair:
    """Two layers. ``repeat``: how many inputs of the second, side by side, are one channel of the first (Flatten)."""

    first: onnx.NodeProto
    second: onnx.NodeProto
    channels: int
    repeat: int


def pairs(graph: onnx.GraphProto) -> list[Pair]:
    """Every pair of layers that can be equalized, in order."""
    links = Links(graph)
    found = []
    for first in graph.node:
        if first.op_type not in FIRST or not _own_weights(links, first):
            continue
        channels = _channels_out(links, first)
        name: str | None = first.output[0]
        while name is not None:
            node = links.only_reader(name)
            name = None
            if node is None or node.input[0] not in _outputs_of(links, node):
                break
            if node.op_type in SECOND and _own_weights(links, node):
                inputs = _channels_in(links, node)
                # A Gemm behind a Flatten has the channel's pixels side by side.
                if inputs % channels == 0 and (inputs == channels or node.op_type != "Conv"):
                    found.append(Pair(first, node, channels, inputs // channels))
            elif node.op_type in SCALES_THROUGH and _commutes(links, node):
                name = node.output[0]
    return found


def _outputs_of(links: Links, node: onnx.NodeProto) -> list[str]:
    """The first input, where it is what some node makes: an input that is a weight is no activation."""
    return [node.input[0]] if node.input[0] not in links.weights else []


def _own_weights(links: Links, node: onnx.NodeProto) -> bool:
    """Are its weight and bias float initializers that no other node reads?"""
    names = [name for name in node.input[1:] if name]
    if node.op_type == "Gemm" and (whole(node, "transA", 0) or links.weights.get(node.input[0])):
        return False
    return (
        len(names) > 0
        and all(links.is_float(name) and links.only_reader(name) == node for name in names)
        and (node.op_type != "MatMul" or len(links.weights[names[0]].dims) == 2)
        and (node.op_type != "ConvTranspose" or whole(node, "group", 1) == 1)
        and (node.op_type != "Gemm" or len(names) == 1 or len(links.weights[names[1]].dims) == 1)
    )


def _channels_out(links: Links, node: onnx.NodeProto) -> int:
    return int(_as_out(node, links.array(node.input[1])).shape[0])


def _channels_in(links: Links, node: onnx.NodeProto) -> int:
    shape = links.weights[node.input[1]].dims
    if node.op_type == "Conv":
        return int(shape[1]) * whole(node, "group", 1)
    return int(shape[1 if node.op_type == "Gemm" and whole(node, "transB", 0) else 0])


def _commutes(links: Links, node: onnx.NodeProto) -> bool:
    if node.op_type == "Pad":
        zero = len(node.input) < 3 or not node.input[2]
        zero = zero or (node.input[2] in links.weights and not links.array(node.input[2]).any())
        mode = next((found.s for found in node.attribute if found.name == "mode"), b"constant")
        return mode != b"constant" or zero
    if node.op_type == "PRelu":
        return links.is_float(node.input[1])
    if node.op_type == "Flatten":
        return whole(node, "axis", 1) == 1
    return node.op_type != "MaxPool" or len(node.output) == 1


def _as_out(node: onnx.NodeProto, weight: Array) -> Array:
    """A view [output channels, everything else] of a weight; a change of it changes the weight."""
    if node.op_type == "ConvTranspose":
        return np.moveaxis(weight, 1, 0)
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not whole(node, "transB", 0)):
        return weight.T
    return weight


def _in_ranges(pair: Pair, weight: Floats) -> npt.NDArray[np.float64]:
    """Largest magnitude that the second layer's weights have for each channel of the first."""
    return np.asarray(np.abs(_as_in(pair, weight)).max(axis=1), dtype=np.float64)


def _as_in(pair: Pair, weight: Floats) -> Floats:
    """A copy [channels, everything else] of the second layer's weight."""
    node = pair.second
    if node.op_type == "Conv":
        groups = whole(node, "group", 1)
        split = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        return np.moveaxis(split, 2, 1).reshape(pair.channels, -1)
    inputs = weight if node.op_type == "Gemm" and whole(node, "transB", 0) else weight.T
    return np.moveaxis(inputs.reshape(inputs.shape[0], pair.channels, pair.repeat), 1, 0).reshape(pair.channels, -1)


def _scale_in(pair: Pair, weight: Floats, scale: Floats) -> Floats:
    node = pair.second
    if node.op_type == "Conv":
        groups = whole(node, "group", 1)
        # Weight [out, in / groups, ...]: an output of group g reads the channels of that group.
        own = np.repeat(scale.reshape(groups, -1), weight.shape[0] // groups, axis=0)
        return np.asarray(weight * own.reshape(*own.shape, *[1] * (weight.ndim - 2)), dtype=np.float32)
    side = np.repeat(scale, pair.repeat)
    side = side[None, :] if node.op_type == "Gemm" and whole(node, "transB", 0) else side[:, None]
    return np.asarray(weight * side, dtype=np.float32)


def balance(pair: Pair, arrays: dict[str, Floats]) -> float:
    """Equalize one pair in place. Returns the largest power of two that a channel was scaled by; 0 when none was."""
    first, second = pair.first, pair.second
    weight = arrays[first.input[1]]
    one = np.abs(_as_out(first, weight).reshape(pair.channels, -1)).max(axis=1).astype(np.float64)
    two = _in_ranges(pair, arrays[second.input[1]])
    usable = (one > 1e-20) & (two > 1e-20)
    power = np.zeros(pair.channels)
    power[usable] = np.round(np.log2(one[usable] / two[usable]) / 2)
    power = np.clip(power, -30, 30)
    if not power.any():
        return 0.0
    scale = np.exp2(power).astype(np.float32)
    out = np.asarray(_as_out(first, weight), dtype=np.float32)
    out[...] = out / scale.reshape([-1, *[1] * (out.ndim - 1)])
    for name in first.input[2:]:
        arrays[name] = np.asarray(arrays[name] / scale, dtype=np.float32)
    arrays[second.input[1]] = _scale_in(pair, arrays[second.input[1]], scale)
    return float(np.abs(power).max())
