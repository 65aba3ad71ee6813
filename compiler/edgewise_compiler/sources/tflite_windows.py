"""TFLite operators that slide a window or scale a picture -> ONNX, channels first.

TFLite's SAME pads as TensorFlow does: to an output of ceil(size / stride), the odd pixel at the end. Where height and
width are fixed the pads are written out, since many tools read nothing else; else as ``auto_pad=SAME_UPPER``.
Weights: CONV_2D [out, h, w, in], DEPTHWISE_CONV_2D [1, h, w, out], TRANSPOSE_CONV [out, h, w, in].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgewise_compiler.sources.tflite_file import Operator, Tensor, damaged
from edgewise_compiler.sources.tflite_graph import FIRST, Cannot, Graph

SAME, VALID = 0, 1


def conv_2d(graph: Graph, operator: Operator) -> None:
    """CONV_2D, grouped where the weights take fewer channels than the input has."""
    source, weights = _four(graph, operator, 0), _four(graph, operator, 1)
    channels, taken = source.shape[3], weights.shape[3]
    if taken < 1 or channels < 1 or channels % taken:
        raise damaged(f"operator {operator.index}: weights take {taken} channels, the input has {channels}")
    _conv(graph, operator, source, weights, perm=(0, 3, 1, 2), groups=channels // taken)


def depthwise_conv_2d(graph: Graph, operator: Operator) -> None:
    """DEPTHWISE_CONV_2D: one group a channel."""
    source, weights = _four(graph, operator, 0), _four(graph, operator, 1)
    channels, out = source.shape[3], weights.shape[3]
    if weights.shape[0] != 1 or channels < 1 or out % channels:
        raise damaged(f"operator {operator.index}: depthwise weights {list(weights.shape)} over {channels} channels")
    _conv(graph, operator, source, weights, perm=(3, 0, 1, 2), groups=channels)


def _conv(
    graph: Graph, operator: Operator, source: Tensor, weights: Tensor, perm: tuple[int, ...], groups: int
) -> None:
    kernel = list(weights.shape[1:3])
    strides = [operator.option("strideH"), operator.option("strideW")]
    dilations = [operator.option("dilationHFactor"), operator.option("dilationWFactor")]
    inputs = [graph.value(operator.inputs[0], FIRST), _weights(graph, operator.inputs[1], perm)]
    inputs += _bias(graph, operator, 2)
    out = graph.node(
        "Conv",
        inputs,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=groups,
        **_pads(operator, source, kernel, strides, dilations),
    )
    graph.set(operator.outputs[0], activate(graph, operator, out), FIRST)


def transpose_conv(graph: Graph, operator: Operator) -> None:
    """TRANSPOSE_CONV: the gradient of the convolution whose input has ``output_shape``."""
    weights, source = _four(graph, operator, 1), _four(graph, operator, 2)
    wanted = graph.ints(operator.inputs[0]) or list(graph.tensor(operator.outputs[0]).shape)
    if len(wanted) != 4 or min(*wanted[1:3], *source.shape[1:3]) < 1:
        raise Cannot("its output's height and width are computed", "export with a fixed height and width")
    kernel, strides = list(weights.shape[1:3]), [operator.option("strideH"), operator.option("strideW")]
    _positive(operator, kernel + strides)
    begin, end, more = [0, 0], [0, 0], [0, 0]
    for axis in (0, 1):
        size, out = source.shape[1 + axis], wanted[1 + axis]
        total = (size - 1) * strides[axis] + kernel[axis] - out
        if total >= 0:
            begin[axis] = total // 2
            end[axis] = total - total // 2
        else:
            more[axis] = -total
    if max(m - s for m, s in zip(more, strides, strict=True)) >= 0:
        raise Cannot(f"its output {wanted[1:3]} is larger than strides {strides} reach")
    perm = (3, 0, 1, 2)
    inputs = [graph.value(operator.inputs[2], FIRST), _weights(graph, operator.inputs[1], perm)]
    inputs += _bias(graph, operator, 3)
    out_name = graph.node(
        "ConvTranspose", inputs, kernel_shape=kernel, strides=strides, pads=begin + end, output_padding=more
    )
    graph.set(operator.outputs[0], activate(graph, operator, out_name), FIRST)


def pool(graph: Graph, operator: Operator) -> None:
    """MAX_POOL_2D and AVERAGE_POOL_2D; padding counts in no average."""
    source = _four(graph, operator, 0)
    kernel = [operator.option("filterHeight"), operator.option("filterWidth")]
    strides = [operator.option("strideH"), operator.option("strideW")]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    pads = _pads(operator, source, kernel, strides, [1, 1])
    value = graph.value(operator.inputs[0], FIRST)
    if operator.name == "MAX_POOL_2D":
        out = graph.node("MaxPool", [value], **attributes, **pads)
    elif kernel == list(source.shape[1:3]) and not any(pads["pads"]):
        out = graph.node("GlobalAveragePool", [value])
    else:
        out = graph.node("AveragePool", [value], count_include_pad=0, **attributes, **pads)
    graph.set(operator.outputs[0], activate(graph, operator, out), FIRST)


def resize(graph: Graph, operator: Operator) -> None:
    """RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR to a constant size."""
    source = _four(graph, operator, 0)
    size = graph.ints(operator.inputs[1])
    if size is None or len(size) != 2 or min(size) < 1:
        raise Cannot("its size is computed", "export with a fixed height and width")
    half, corners = operator.option("halfPixelCenters"), operator.option("alignCorners")
    if half and corners:
        raise Cannot("half pixel centers and aligned corners exclude each other")
    attributes: dict[str, Any] = {
        "coordinate_transformation_mode": "half_pixel" if half else "align_corners" if corners else "asymmetric"
    }
    if operator.name == "RESIZE_BILINEAR":
        attributes["mode"] = "linear"
    else:  # TFLite: floor((x + 0.5) * scale) with half pixels, round with corners, else floor
        attributes |= {"mode": "nearest", "nearest_mode": "round_prefer_ceil" if half or corners else "floor"}
    inputs = [graph.value(operator.inputs[0], FIRST), ""]
    scales = [_scale(before, after) for before, after in zip(source.shape[1:3], size, strict=True)]
    if None not in scales:
        inputs.append(graph.constant(np.array([1, 1, *scales], np.float32), "scales"))
    else:  # sides that are known when it runs
        inputs += ["", graph.numbers(size)]
        attributes["axes"] = [2, 3]
    graph.set(operator.outputs[0], graph.node("Resize", inputs, **attributes), FIRST)


def blocks(graph: Graph, operator: Operator) -> None:
    """DEPTH_TO_SPACE and SPACE_TO_DEPTH; both count the block's pixels before the channels."""
    source, size = _four(graph, operator, 0), operator.option("blockSize")
    _positive(operator, [size])
    value = graph.value(operator.inputs[0], FIRST)
    if operator.name == "DEPTH_TO_SPACE":
        if source.shape[3] % size**2:
            raise damaged(f"operator {operator.index}: {source.shape[3]} channels in blocks of {size}x{size}")
        out = graph.node("DepthToSpace", [value], blocksize=size, mode="DCR")
    else:
        if any(side % size for side in source.shape[1:3] if side > 0):
            raise damaged(f"operator {operator.index}: {list(source.shape[1:3])} in blocks of {size}x{size}")
        out = graph.node("SpaceToDepth", [value], blocksize=size)
    graph.set(operator.outputs[0], out, FIRST)


def activate(graph: Graph, operator: Operator, value: str) -> str:
    """The operator's fused activation over what it computed."""
    fused = operator.option("fusedActivationFunction")
    if fused == 0:
        return value
    if fused not in ACTIVATIONS:
        raise Cannot(f"fused activation {fused} has no form here")
    return activation(graph, ACTIVATIONS[fused], value)


ACTIVATIONS = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH"}
CLIPS = {"RELU_N1_TO_1": (-1, 1), "RELU6": (0, 6), "RELU_0_TO_1": (0, 1)}


def activation(graph: Graph, name: str, value: str) -> str:
    """RELU, its clipped kin, or TANH over a value."""
    if name in CLIPS:
        low, high = CLIPS[name]
        return graph.node("Clip", [value, graph.number(low), graph.number(high)])
    return graph.node({"RELU": "Relu", "TANH": "Tanh"}[name], [value])


def _four(graph: Graph, operator: Operator, place: int) -> Tensor:
    """The input at ``place``, which must have four axes."""
    tensor = graph.tensor(operator.inputs[place])
    if tensor.rank != 4:
        raise damaged(f"operator {operator.index} {operator.name}: expected four axes, got {list(tensor.shape)}")
    return tensor


def _weights(graph: Graph, index: int, perm: tuple[int, ...]) -> str:
    if graph.tensor(index).data is not None:
        return graph.constant_of(index, perm=perm)
    return graph.node("Transpose", [graph.value(index)], perm=list(perm))


def _bias(graph: Graph, operator: Operator, place: int) -> list[str]:
    if len(operator.inputs) <= place or operator.inputs[place] < 0:
        return []
    return [graph.real(operator.inputs[place])]


def _scale(before: int, after: int) -> np.float32 | None:
    """The factor from one size to another, where float32 gives just that size back; scales leave the batch open."""
    if before < 1:
        return None
    scale = np.float32(after / before)
    for factor in (scale, np.nextafter(scale, np.float32(np.inf))):
        if int(np.float32(before) * factor) == after:
            return np.float32(factor)
    return None


def _pads(
    operator: Operator, source: Tensor, kernel: list[int], strides: list[int], dilations: list[int]
) -> dict[str, Any]:
    _positive(operator, kernel + strides + dilations)
    padding = operator.option("padding")
    if padding not in (SAME, VALID):
        raise damaged(f"operator {operator.index} {operator.name}: expected padding SAME or VALID, got {padding}")
    if padding == VALID:
        return {"pads": [0, 0, 0, 0]}
    sizes = source.shape[1:3]
    if min(sizes) < 1:
        return {"auto_pad": "SAME_UPPER"}
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    totals = [
        max((-(-size // stride) - 1) * stride + window - size, 0)
        for size, stride, window in zip(sizes, strides, reach, strict=True)
    ]
    begin = [total // 2 for total in totals]
    return {"pads": begin + [total - half for total, half in zip(totals, begin, strict=True)]}


def _positive(operator: Operator, values: list[int]) -> None:
    if min(values) < 1:
        raise damaged(f"operator {operator.index} {operator.name}: expected windows and strides >= 1, got {values}")
