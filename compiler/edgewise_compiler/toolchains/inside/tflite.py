"""Edits of a TFLite file that neither the converter nor its quantizer makes: names of a signature, outputs apart.

A file is one subgraph with one signature, as ``convert_litert`` makes it; one without a signature gets one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import qtyping
from ai_edge_quantizer.utils import tfl_flatbuffer_utils

Op = qtyping.TFLOperationName
schema = flatbuffer_utils.schema_fb

DTYPES = {
    qtyping.TensorType.FLOAT32: "float32",
    qtyping.TensorType.FLOAT16: "float16",
    qtyping.TensorType.INT8: "int8",
    qtyping.TensorType.UINT8: "uint8",
    qtyping.TensorType.INT16: "int16",
    qtyping.TensorType.INT32: "int32",
    qtyping.TensorType.INT64: "int64",
    qtyping.TensorType.BOOL: "bool",
}
SIGNATURE = "serving_default"
DIVISORS = (Op.ADD, Op.SUB, Op.MUL, Op.MAXIMUM, Op.SQRT, Op.RESHAPE, Op.BROADCAST_TO)
"""What a divisor is made by, between a layer and the division."""
MAX_TAIL = 12
"""Operators between a fully connected layer and an output, beyond which they belong to no output."""


def read(data: bytes) -> Any:
    """The file as an object of the schema. Raises ValueError for more than one subgraph or signature."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    graphs, signatures = len(model.subgraphs), len(model.signatureDefs or ())
    if graphs != 1 or signatures > 1:
        raise ValueError(f"expected one subgraph and one signature at most, got {graphs} and {signatures}")
    if not model.signatureDefs:
        model.signatureDefs = [_signature(model.subgraphs[0])]
    return model


def write(model: Any) -> bytes:
    """The object as a file."""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def rename(model: Any, names: Mapping[str, str]) -> None:
    """Give the signature's inputs and outputs other names, in place. ``names``: new by old."""
    for tensor in signature_tensors(model):
        tensor.name = names[_text(tensor.name)].encode()


def strip(model: Any) -> None:
    """Take out what no runtime reads, in place: the converter's long names of tensors and notes about itself, constants
    that no tensor holds, empty quantizations. The signature's own names stay."""
    graph = model.subgraphs[0]
    model.description, model.metadata = None, None
    held = sorted({0, *(int(tensor.buffer) for tensor in graph.tensors)})
    place = {old: new for new, old in enumerate(held)}
    model.buffers = [model.buffers[index] for index in held]
    for number, tensor in enumerate(graph.tensors):
        tensor.name, tensor.buffer = str(number).encode(), place[int(tensor.buffer)]
        if tensor.quantization is not None and tensor.quantization.scale is None:
            tensor.quantization = None


def signature_key(model: Any) -> str:
    """The signature's own name."""
    return _text(model.signatureDefs[0].signatureKey)


def describe(model: Any) -> dict[str, list[dict[str, Any]]]:
    """Inputs and outputs of the signature: {"name", "dtype", "shape"} each."""
    signature, tensors = model.signatureDefs[0], model.subgraphs[0].tensors

    def facts(entry: Any) -> dict[str, Any]:
        tensor = tensors[entry.tensorIndex]
        shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
        return {"name": _text(entry.name), "dtype": DTYPES.get(tensor.type, str(tensor.type)), "shape": shape}

    return {"inputs": [facts(i) for i in signature.inputs], "outputs": [facts(o) for o in signature.outputs]}


def operators(model: Any) -> list[tuple[Any, Any, str]]:
    """(operator, its name or None, its scope) of each, in the order in which they run."""
    graph = model.subgraphs[0]
    return [(op, _name(model, op), tfl_flatbuffer_utils.get_op_scope(op, graph.tensors)) for op in graph.operators]


def separate_outputs(model: Any) -> None:
    """Give each output that is read inside the graph as well a tensor of its own, in place.

    ai-edge-quantizer 0.10 rewires the graph's last operator wrongly when it reads an output that stays float: the
    operator would get the dequantized tensor. A reshape to the same shape keeps the two readers apart, and is free.
    """
    graph = model.subgraphs[0]
    read_inside = {int(index) for op in graph.operators for index in op.inputs}
    shared = list(
        dict.fromkeys(int(i) for i in graph.outputs if int(i) in read_inside | {int(j) for j in graph.inputs})
    )
    apart = {index: _reshaped(model, graph, index) for index in shared}
    graph.outputs = [apart.get(int(index), int(index)) for index in graph.outputs]
    for entry in model.signatureDefs[0].outputs:
        entry.tensorIndex = apart.get(int(entry.tensorIndex), int(entry.tensorIndex))


def tails(model: Any) -> tuple[list[tuple[Any, str]], list[str]]:
    """What lies between the outputs and the fully connected layers before them: (name, scope) of those operators, and
    the scopes of the layers. An output that comes from anything else has no tail."""
    graph = model.subgraphs[0]
    named = operators(model)
    maker = {int(output): index for index, (op, _, _) in enumerate(named) for output in op.outputs}

    def walk(tensor: int, seen: set[int]) -> bool:
        """Does every way back end at a fully connected layer or a constant, soon? Collects the way in ``seen``."""
        index = maker.get(tensor)
        if index is None:
            return tensor not in {int(i) for i in graph.inputs}
        op, name, _ = named[index]
        if name in (Op.CONV_2D, Op.DEPTHWISE_CONV_2D, Op.CONV_2D_TRANSPOSE) or len(seen) > MAX_TAIL:
            return False
        seen.add(index)
        return name == Op.FULLY_CONNECTED or all(walk(int(i), seen) for i in op.inputs if i >= 0)

    found: set[int] = set()
    for output in graph.outputs:
        way: set[int] = set()
        if walk(int(output), way):
            found |= way
    ends = [named[index] for index in sorted(found)]
    layers = [scope for _, name, scope in ends if name == Op.FULLY_CONNECTED]
    return [(name, scope) for _, name, scope in ends if name not in (None, Op.FULLY_CONNECTED)], layers


def divisions(model: Any) -> list[tuple[Any, str]]:
    """(name, scope) of the operators that divide, and of those that make what they divide by out of a layer's outputs
    or a mean: what keeps a divisor from zero is added there."""
    named = operators(model)
    maker = {int(output): index for index, (op, _, _) in enumerate(named) for output in op.outputs}
    found: set[int] = set()

    def walk(tensor: int) -> None:
        index = maker.get(tensor)
        if index is None or index in found or named[index][1] not in DIVISORS:
            return
        found.add(index)
        for made_of in named[index][0].inputs:
            walk(int(made_of))

    for index, (op, name, _) in enumerate(named):
        if name in (Op.DIV, Op.RSQRT):
            found.add(index)
            walk(int(op.inputs[-1]))
    return [(named[index][1], named[index][2]) for index in sorted(found)]


def _reshaped(model: Any, graph: Any, index: int) -> int:
    """A reshape of a tensor to its own shape, at the end of the graph; the index of what it makes."""
    source = graph.tensors[index]
    made = qtyping.TensorT()
    made.name, made.type, made.shape, made.buffer = source.name + b"_output", source.type, list(source.shape), 0
    made.shapeSignature = None if source.shapeSignature is None else list(source.shapeSignature)
    graph.tensors.append(made)
    op = qtyping.OperatorT()
    op.opcodeIndex = _reshape_code(model)
    op.inputs, op.outputs = [index], [len(graph.tensors) - 1]
    op.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    op.builtinOptions = schema.ReshapeOptionsT()
    op.builtinOptions.newShape = [int(size) for size in source.shape]
    graph.operators.append(op)
    return len(graph.tensors) - 1


def _reshape_code(model: Any) -> int:
    reshape = qtyping.BuiltinOperator.RESHAPE
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == reshape:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = reshape
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _signature(graph: Any) -> Any:
    """One with the tensors' own names."""
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE.encode(), 0
    signature.inputs, signature.outputs = (
        [_entry(graph, i) for i in graph.inputs],
        [_entry(graph, i) for i in graph.outputs],
    )
    return signature


def _entry(graph: Any, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = graph.tensors[index].name, int(index)
    return entry


def _name(model: Any, op: Any) -> Any:
    return tfl_flatbuffer_utils.TFL_OP_CODE_TO_NAME.get(model.operatorCodes[op.opcodeIndex].builtinCode)


def signature_tensors(model: Any) -> list[Any]:
    """The signature's entries: name and index of a tensor."""
    signature = model.signatureDefs[0]
    return [*signature.inputs, *signature.outputs]


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
