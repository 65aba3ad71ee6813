"""Quantization-aware training of the very graph that is deployed: an ONNX QDQ file, and back into it.

``prepare_qat`` makes a module of the QDQ model that static quantization gave: float weights from the model before it,
behind fake quantizers with learned steps (``lsq``). It is trained elsewhere. ``write`` puts what was learned into the
same graph: activation scales, weight scales, re-quantized weights, biases. Nothing is exported.

Rules that hold here:
- zero points stay; a bias is int32 with the scale of its input times that of its weight;
- what the module answers in evaluation is what onnxruntime answers from the written file, to float rounding.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.utils import parametrize

from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.training.dequantized import (
    PACKED_BITS,
    Array,
    Dequantized,
    one_grid_a_pair,
    restore,
    take_constants,
    with_packed_opset,
)
from edgewise_compiler.training.lsq import Floats, LsqActivation, LsqBias, LsqWeight, Step, check_bits
from edgewise_compiler.training.onnx_torch import OnnxModule, UnsupportedGraphError, fold, to_module, write_back
from edgewise_compiler.training.onnx_torch.quantization import FakeQuantize
from edgewise_compiler.training.onnx_torch.write import Bound, decode

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class QatModule:
    """``module`` trains, in the model's order of inputs and outputs; ``write`` gives the model of its present state.

    ``unmatched``: weights for which the float model had no value; they start from the quantized one.
    """

    def __init__(
        self, module: OnnxModule, graph: onnx.ModelProto, constants: list[Dequantized], unmatched: list[str]
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
                value = _original(trained, constant)
                value = numpy_helper.to_array(floats[constant.name]) if value is None else value
                _restore_bias(graph, constant, value, scale)
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
        qdq = with_packed_opset(qdq)
    folded = fold(qdq)
    graph = folded.graph
    one_grid_a_pair(graph)
    constants = take_constants(graph)
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
    inputs = _learn_activations(module)
    weights = {c.name: _learn_weight(module, c) for c in constants if not c.is_bias}
    _round_biases(graph, module, constants, inputs, weights)
    return QatModule(module, folded, constants, unmatched)


def _module(model: onnx.ModelProto) -> OnnxModule:
    try:
        return to_module(model)
    except UnsupportedGraphError as error:
        raise CompileError(f"cannot train this quantized model: {one_line(error)}", code="refused") from error


def _asked(graph: onnx.GraphProto, constants: list[Dequantized], bits: Mapping[str, int]) -> dict[str, tuple[int, int]]:
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


def _float_value(constant: Dequantized, known: Mapping[str, onnx.TensorProto]) -> Floats | None:
    """The weight before quantization, by the names that onnxruntime's quantizer makes of it."""
    names = (constant.node.input[0].removesuffix("_quantized"), constant.name.removesuffix("_DequantizeLinear_Output"))
    for name in names:
        if name in known and tuple(known[name].dims) == constant.value.shape:
            floats = numpy_helper.to_array(known[name])
            if np.issubdtype(floats.dtype, np.floating):
                return np.array(floats, np.float32)
    return None


def _bounds(module: OnnxModule, constant: Dequantized) -> list[Bound]:
    """Where a weight is in the module, if one step a channel can be learned for it there."""
    return [b for b in module.bindings if b.constant == constant.name and ":" not in b.transform]


def _learn_activations(module: OnnxModule) -> dict[str, Step]:
    """LSQ in the place of every fake quantizer with one scale: a step for each initializer of a scale, by its name."""
    names = {bound.path: bound.constant for bound in module.bindings}
    steps: dict[str, Step] = {}
    for path, part in list(module.named_children()):
        if isinstance(part, FakeQuantize) and part.scale.numel() == 1:
            scale = part.scale.detach().numpy()
            step = steps.setdefault(names[f"{path}.scale"], Step(scale))
            module.add_module(path, LsqActivation(step, part.zero_point, part.low, part.high))
    return steps


def _learn_weight(module: OnnxModule, constant: Dequantized) -> Step:
    """A parametrization of the weight; where several layers share it, of all of them, with one original. Its step."""
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
    return step


def _round_biases(
    graph: onnx.GraphProto,
    module: OnnxModule,
    constants: list[Dequantized],
    inputs: Mapping[str, Step],
    weights: Mapping[str, Step],
) -> None:
    """Each int32 bias on the grid that it will have."""
    scales = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "DequantizeLinear"}
    readers = {node.input[2]: node for node in graph.node if node.op_type in WEIGHTED and len(node.input) > 2}
    for constant in constants:
        reader = readers.get(constant.name) if constant.is_bias else None
        step = inputs.get(scales.get(reader.input[0], "")) if reader is not None else None
        if reader is None or step is None or reader.input[1] not in weights:
            continue
        for bound in _bounds(module, constant):
            owner, attribute = _place(module, bound)
            parametrize.register_parametrization(owner, attribute, LsqBias(step, weights[reader.input[1]]))


def _place(module: OnnxModule, bound: Bound) -> tuple[nn.Module, str]:
    owner, _, attribute = bound.path.rpartition(".")
    return module.get_submodule(owner), attribute


def _original(module: OnnxModule, constant: Dequantized) -> Array | None:
    """A bias before it is rounded: floats do not hold all of int32."""
    for bound in _bounds(module, constant):
        owner, attribute = _place(module, bound)
        if parametrize.is_parametrized(owner, attribute):
            part = owner.parametrizations[attribute]  # type: ignore[index]  # parametrize added it
            assert isinstance(part, parametrize.ParametrizationList) and isinstance(part.original, torch.Tensor)
            return part.original.detach().cpu().numpy()
    return None


def _restore_weight(graph: onnx.GraphProto, module: OnnxModule, constant: Dequantized) -> Floats:
    """Put a weight's DequantizeLinear back, with what was learned. Gives its scale."""
    bounds = _bounds(module, constant)
    if not bounds:
        restore(graph, constant, constant.value, constant.scale)
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
    restore(graph, constant, integers, scale.reshape(constant.scale.shape))
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
    graph: onnx.GraphProto, constant: Dequantized, inputs: Mapping[str, Floats], steps: Mapping[str, Floats]
) -> Floats:
    """Input scale times weight scale of the node that adds the bias; what it was, where there is no such node."""
    for node in graph.node:
        if len(node.input) > 2 and node.input[2] == constant.name and node.input[0] in inputs:
            weight = steps.get(node.input[1])
            if weight is not None:
                product = np.asarray(inputs[node.input[0]] * weight, np.float32).reshape(-1)
                return np.tile(product, constant.value.size // product.size) if product.size > 1 else product
    return constant.scale


def _restore_bias(graph: onnx.GraphProto, constant: Dequantized, floats: Array, scale: Floats) -> None:
    limit = 2**31 - 1
    integers = np.clip(np.round(floats.astype(np.float64) / scale), -limit, limit).astype(np.int32)
    constant.zero_point, constant.axis = np.zeros(scale.shape, np.int32), 0
    restore(graph, constant, integers, scale)
