"""Quantization-aware training of the very graph that is deployed: an ONNX QDQ file, and back into it.

``prepare_qat`` makes a module of the QDQ model that static quantization gave: float weights from the model before it,
behind fake quantizers with learned steps (``lsq``). It is trained elsewhere. ``write`` puts what was learned into the
same graph: activation scales, weight scales, re-quantized weights, biases. Nothing is exported.

Rules that hold here:
- zero points stay; a bias is int32 with the scale of its input times that of its weight, and needs no rounding in
  training: its step is far below theirs;
- a weight of four bits or fewer is stored as INT4 (opset 21) behind a Cast to INT8: onnxruntime folds the Cast when it
  loads the file, and computes in int8 as it would have. INT4 right before DequantizeLinear would compute in float.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx.version_converter
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils import parametrize

from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.training.lsq import (
    MIN_BITS,
    LsqActivation,
    LsqWeight,
    Step,
    check_bits,
    first_step,
    narrow_range,
)
from edgewise_compiler.training.onnx_torch import OnnxModule, UnsupportedGraphError, fold, to_module, write_back
from edgewise_compiler.training.onnx_torch.quantization import RANGES, FakeQuantize
from edgewise_compiler.training.onnx_torch.write import Bound, decode

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
PACKED_BITS = 4
PACKED_OPSET = 21
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass
class _Constant:
    """A DequantizeLinear on a constant, taken out of the graph.

    ``bits``: the width asked for, or that of a weight stored in fewer than eight.
    """

    node: onnx.NodeProto
    value: Array
    scale: Floats
    zero_point: Array
    axis: int
    kind: int
    bits: int | None = None

    @property
    def name(self) -> str:
        """Of the float value that it gives."""
        return str(self.node.output[0])

    @property
    def is_bias(self) -> bool:
        """Its scale follows from two others."""
        return bool(self.kind == TensorProto.INT32)

    @property
    def limits(self) -> tuple[int, int]:
        """The integers it may hold; symmetric ones leave out the lowest, as onnxruntime does."""
        if self.bits is not None:
            return narrow_range(self.bits)
        low, high = RANGES[self.kind]
        return (low + 1, high) if low == -high - 1 and not self.zero_point.any() else (low, high)

    def floats(self) -> Floats:
        """What it gives."""
        shape = [-1 if axis == self.axis else 1 for axis in range(self.value.ndim)]
        scale = self.scale.reshape(shape) if self.scale.size > 1 else self.scale
        zero_point = self.zero_point.astype(np.float32)
        zero_point = zero_point.reshape(shape) if zero_point.size > 1 else zero_point
        return np.asarray((self.value.astype(np.float32) - zero_point) * scale, np.float32)

    def narrow(self, floats: Floats, bits: int, axis: int) -> None:
        """To ``bits``, symmetric, with a first step for each channel along ``axis``."""
        self.bits, self.axis, self.kind = bits, axis, TensorProto.INT8
        self.scale = first_step(floats, axis, self.limits[1])
        self.zero_point = np.zeros(len(self.scale), np.int8)


class QatModule:
    """``module`` trains, in the model's order of inputs and outputs; ``write`` gives the model of its present state.

    ``unmatched``: weights for which the float model had no value; they start from the quantized one.
    """

    def __init__(
        self, module: OnnxModule, graph: onnx.ModelProto, constants: list[_Constant], unmatched: list[str]
    ) -> None:
        self.module = module
        self.unmatched = unmatched
        self._graph = graph
        self._constants = constants

    def write(self, module: nn.Module | None = None) -> onnx.ModelProto:
        """The QDQ model with the present weights and scales. ``module``: a trained copy of ``self.module``, if not it.

        Raises TypeError for a module of another kind.
        """
        trained = self.module if module is None else module
        if not isinstance(trained, OnnxModule):
            raise TypeError(f"expected a copy of the module of prepare_qat, got {type(trained).__name__}")
        written = write_back(trained, self._graph)
        graph = written.graph
        floats = {tensor.name: tensor for tensor in graph.initializer}
        inputs = _activation_scales(graph)
        steps = {c.name: _restore_weight(graph, trained, c) for c in self._constants if not c.is_bias}
        for constant in self._constants:
            if constant.is_bias:
                scale = _bias_scale(graph, constant, inputs, steps)
                _restore_bias(graph, constant, numpy_helper.to_array(floats[constant.name]), scale)
        dequantized = {constant.name for constant in self._constants}
        kept = [tensor for tensor in graph.initializer if tensor.name not in dequantized]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return written


def prepare_qat(qdq: onnx.ModelProto, fp32: onnx.ModelProto, *, bits: Mapping[str, int] | None = None) -> QatModule:
    """A trainable module of a QDQ model and the float model that was quantized (its weights are found by name).

    ``bits``: for weighted nodes by name, the width of their weights, 2 to 8, per channel and symmetric; others keep
    what ``qdq`` has. Raises CompileError (code ``cannot-quantize``) for a node without quantized weight, and
    (``refused``) for a graph with nodes that torch has no form for.
    """
    widths = dict(bits or {})
    check_bits(widths)
    if any(width <= PACKED_BITS for width in widths.values()):
        qdq = _with_packed_opset(qdq)
    folded = fold(qdq)
    graph = folded.graph
    _one_grid_a_pair(graph)
    constants = _take_constants(graph)
    asked = _asked(graph, constants, widths)
    known = {tensor.name: tensor for tensor in [*fold(fp32).graph.initializer, *fp32.graph.initializer]}
    unmatched: list[str] = []
    for constant in constants:
        floats = _float_value(constant, known)
        if floats is None:
            unmatched.append(constant.name)
            floats = constant.floats()
        if constant.name in asked:
            constant.narrow(floats, *asked[constant.name])
        graph.initializer.append(numpy_helper.from_array(floats, constant.name))
    module = _module(folded)
    loose = [c for c in constants if not c.is_bias and not _bounds(module, c)]
    if loose:  # what does not train stays as it was quantized
        for constant in loose:
            next(t for t in graph.initializer if t.name == constant.name).CopyFrom(
                numpy_helper.from_array(constant.floats(), constant.name)
            )
        module = _module(folded)
    _learn_activations(module)
    for constant in constants:
        if not constant.is_bias:
            _learn_weight(module, constant)
    return QatModule(module, folded, constants, unmatched)


def _module(model: onnx.ModelProto) -> OnnxModule:
    try:
        return to_module(model)
    except UnsupportedGraphError as error:
        raise CompileError(f"cannot train this quantized model: {one_line(error)}", code="refused") from error


def _with_packed_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in the first opset that stores INT4."""
    if any(entry.domain in ("", "ai.onnx") and entry.version >= PACKED_OPSET for entry in model.opset_import):
        return model
    try:
        return onnx.version_converter.convert_version(model, PACKED_OPSET)
    except Exception as error:  # the converter raises built-in classes of all kinds
        raise CompileError(
            f"cannot store weights of {PACKED_BITS} bits: opset {PACKED_OPSET} is needed: {one_line(error)}",
            code="cannot-quantize",
        ) from error


def _one_grid_a_pair(graph: onnx.GraphProto) -> None:
    """A DequantizeLinear behind a QuantizeLinear names the same scale: one step is learned for both."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        source = pairs.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if source is None:
            continue
        ours, theirs = (list(part.input[1:]) for part in (node, source))
        if len(ours) == len(theirs) and all(
            a in values and b in values and np.array_equal(values[a], values[b])
            for a, b in zip(ours, theirs, strict=True)
        ):
            node.input[1:] = theirs


def _take_constants(graph: onnx.GraphProto) -> list[_Constant]:
    """The DequantizeLinear nodes on constants, each by value, channel or tensor, out of the graph."""
    values = {tensor.name: tensor for tensor in graph.initializer}
    packed = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "Cast" and node.input[0] in values and values[node.input[0]].data_type == TensorProto.INT4
    }
    taken: list[_Constant] = []
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        source = packed[node.input[0]].input[0] if node.input and node.input[0] in packed else "".join(node.input[:1])
        if (
            node.op_type != "DequantizeLinear"
            or any(name not in values for name in [source, *node.input[1:]])
            or attributes.get("block_size", 0)
            or values[source].data_type not in RANGES
        ):
            kept.append(node)
            continue
        value = numpy_helper.to_array(values[source])
        scale = numpy_helper.to_array(values[node.input[1]]).astype(np.float32)
        zero_point = numpy_helper.to_array(values[node.input[2]]) if len(node.input) > 2 else np.zeros_like(scale)
        axis = attributes.get("axis", 1) % max(value.ndim, 1)
        kind, bits = values[source].data_type, None
        if node.input[0] != source:
            value, kind = value.astype(np.int8), TensorProto.INT8
            node.input[0] = source
            bits = max(MIN_BITS, int(np.abs(value.astype(np.int16)).max(initial=1)).bit_length() + 1)
        taken.append(_Constant(node, value, scale, zero_point, axis, kind, bits and min(bits, PACKED_BITS)))
    del graph.node[:]
    graph.node.extend(kept)
    return taken


def _asked(graph: onnx.GraphProto, constants: list[_Constant], bits: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Width and channel axis, by the constant that is to have them."""
    by_name = {constant.name: constant for constant in constants}
    nodes = {node.name: node for node in graph.node if node.op_type in WEIGHTED}
    asked: dict[str, tuple[int, int]] = {}
    for name, width in bits.items():
        node = nodes.get(name)
        weight = by_name.get(node.input[1]) if node is not None else None
        if node is None or weight is None:
            can = sorted(n for n, node in nodes.items() if node.input[1] in by_name)
            raise CompileError(
                f"expected bits for nodes with a quantized weight ({', '.join(can[:10])}), got {name!r}",
                code="cannot-quantize",
            )
        outward = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        axis = {"Conv": 0, "ConvTranspose": 1, "MatMul": weight.value.ndim - 1, "Gemm": 0 if outward else 1}
        asked[weight.name] = (width, axis[node.op_type])
    return asked


def _float_value(constant: _Constant, known: Mapping[str, onnx.TensorProto]) -> Floats | None:
    """The weight before quantization, by the names that onnxruntime's quantizer makes of it."""
    names = (constant.node.input[0].removesuffix("_quantized"), constant.name.removesuffix("_DequantizeLinear_Output"))
    for name in names:
        if name in known and tuple(known[name].dims) == constant.value.shape:
            floats = numpy_helper.to_array(known[name])
            if np.issubdtype(floats.dtype, np.floating):
                return np.array(floats, np.float32)
    return None


def _bounds(module: OnnxModule, constant: _Constant) -> list[Bound]:
    """Where a weight is in the module, if one step a channel can be learned for it there."""
    return [b for b in module.bindings if b.constant == constant.name and ":" not in b.transform]


def _learn_activations(module: OnnxModule) -> None:
    """LSQ in the place of every fake quantizer with one scale; one step for all that share an initializer."""
    names = {bound.path: bound.constant for bound in module.bindings}
    steps: dict[str, Step] = {}
    for path, part in list(module.named_children()):
        if isinstance(part, FakeQuantize) and part.scale.numel() == 1:
            scale = part.scale.detach().numpy()
            step = steps.setdefault(names[f"{path}.scale"], Step(scale))
            module.add_module(path, LsqActivation(step, part.zero_point, part.low, part.high))


def _learn_weight(module: OnnxModule, constant: _Constant) -> None:
    """A parametrization of the weight; where several layers share it, of all of them, with one original."""
    first: parametrize.ParametrizationList | None = None
    step = Step(constant.scale)
    for bound in _bounds(module, constant):
        owner, attribute = _place(module, bound)
        axis = 1 - constant.axis if bound.transform == "transposed" else constant.axis
        zero_point = constant.zero_point.astype(np.float32)
        parametrize.register_parametrization(owner, attribute, LsqWeight(step, zero_point, *constant.limits, axis))
        made = owner.parametrizations[attribute]  # type: ignore[index]  # parametrize adds it
        assert isinstance(made, parametrize.ParametrizationList)
        if first is None:
            first = made
        elif bound.transform == "same":
            made.original = first.original


def _place(module: OnnxModule, bound: Bound) -> tuple[nn.Module, str]:
    owner, _, attribute = bound.path.rpartition(".")
    return module.get_submodule(owner), attribute


def _restore_weight(graph: onnx.GraphProto, module: OnnxModule, constant: _Constant) -> Floats:
    """Put a weight's DequantizeLinear back, with what was learned. Gives its scale."""
    bounds = _bounds(module, constant)
    if not bounds:
        _restore(graph, constant, constant.value, constant.scale)
        return constant.scale
    owner, attribute = _place(module, bounds[0])
    part = owner.parametrizations[attribute]  # type: ignore[index]  # parametrize added it
    assert isinstance(part, parametrize.ParametrizationList)
    learned = part[0]
    assert isinstance(learned, LsqWeight) and isinstance(part.original, torch.Tensor)
    with torch.no_grad():
        places = learned.integers(part.original).cpu().numpy()
        scale = learned.step().cpu().numpy()
    integers = decode(places, bounds[0].transform, constant.value)
    _restore(graph, constant, integers, scale.reshape(constant.scale.shape))
    return np.asarray(scale, np.float32)


def _activation_scales(graph: onnx.GraphProto) -> dict[str, Floats]:
    """Scales by the value that a DequantizeLinear gives."""
    values = {tensor.name: tensor for tensor in graph.initializer}
    return {
        node.output[0]: numpy_helper.to_array(values[node.input[1]])
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[1] in values
    }


def _bias_scale(
    graph: onnx.GraphProto, constant: _Constant, inputs: Mapping[str, Floats], steps: Mapping[str, Floats]
) -> Floats:
    """Input scale times weight scale of the node that adds the bias; what it was, where there is no such node."""
    for node in graph.node:
        if len(node.input) > 2 and node.input[2] == constant.name and node.input[0] in inputs:
            weight = steps.get(node.input[1])
            if weight is not None:
                product = np.asarray(inputs[node.input[0]] * weight, np.float32).reshape(-1)
                return np.tile(product, constant.value.size // product.size) if product.size > 1 else product
    return constant.scale


def _restore_bias(graph: onnx.GraphProto, constant: _Constant, floats: Array, scale: Floats) -> None:
    limit = 2**31 - 1
    integers = np.clip(np.round(floats.astype(np.float64) / scale), -limit, limit).astype(np.int32)
    constant.zero_point, constant.axis = np.zeros(scale.shape, np.int32), 0
    _restore(graph, constant, integers, scale)


def _restore(graph: onnx.GraphProto, constant: _Constant, integers: Array, scale: Floats) -> None:
    """The DequantizeLinear as the first of the graph's nodes, with these constants."""
    node = onnx.NodeProto()
    node.CopyFrom(constant.node)
    del node.attribute[:]
    if scale.size > 1:
        node.attribute.append(helper.make_attribute("axis", constant.axis))
    stored = helper.tensor_dtype_to_np_dtype(constant.kind)
    names = list(node.input)
    if constant.bits is not None and constant.bits <= PACKED_BITS:
        packed = helper.tensor_dtype_to_np_dtype(TensorProto.INT4)
        wide = f"{constant.name}/int8"
        source = _put(graph, names[0], integers.astype(np.int8).astype(packed))
        graph.node.insert(0, helper.make_node("Cast", [source], [wide], name=wide, to=TensorProto.INT8))
        names[0], position = wide, 1
    else:
        names[0], position = _put(graph, names[0], integers.astype(stored)), 0
    names[1] = _put(graph, names[1], scale.astype(np.float32))
    zero_point = constant.zero_point.astype(stored)
    names[2:] = [_put(graph, names[2], zero_point)] if zero_point.any() else []  # zero goes without saying
    node.input[:] = names
    graph.node.insert(position, node)


def _put(graph: onnx.GraphProto, name: str, array: Array) -> str:
    """Add an initializer, under another name where something else still has this one."""
    while any(tensor.name == name for tensor in graph.initializer):
        name = f"{name}/learned"
    graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return name
