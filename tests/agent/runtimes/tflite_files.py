"""TFLite files made from the format's own schema: y = x + 1 in the shapes, types and signatures that files have."""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as tfl

_TYPES = {"float32": tfl.TensorType.FLOAT32, "int32": tfl.TensorType.INT32, "int8": tfl.TensorType.INT8}


def add_one(
    shape: Sequence[int],
    *,
    dtype: npt.DTypeLike = np.float32,
    dynamic: bool = False,
    scale: float | None = None,
    names: tuple[str, str] = ("serving_default_x:0", "StatefulPartitionedCall:0"),
    signatures: Sequence[str] = (),
) -> bytes:
    """y = x + 1. ``dynamic``: the first axis takes any size; ``scale``: of int8 inputs and outputs, zero point 0.

    ``signatures``: by name, each x -> y.
    """
    kind = np.dtype(dtype)
    one = np.array(1 if scale is None else round(1 / scale), dtype=kind)
    tensors = [
        _tensor(name, kind, size, buffer, scale)
        for name, size, buffer in ((names[0], shape, 0), (names[1], shape, 0), ("one", (), 1))
    ]
    if dynamic:
        for tensor in tensors[:2]:
            tensor.shapeSignature = [-1, *shape[1:]]
    add = tfl.OperatorT()
    add.opcodeIndex, add.inputs, add.outputs = 0, [0, 2], [1]
    add.builtinOptionsType, add.builtinOptions = tfl.BuiltinOptions.AddOptions, tfl.AddOptionsT()
    graph = tfl.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [1], [add]
    code = tfl.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = tfl.BuiltinOperator.ADD
    constant = tfl.BufferT()
    constant.data = np.frombuffer(one.tobytes(), dtype=np.uint8)
    model = tfl.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers, model.signatureDefs = [tfl.BufferT(), constant], [_signature(key) for key in signatures]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _tensor(name: str, dtype: np.dtype[np.generic], shape: Sequence[int], buffer: int, scale: float | None) -> object:
    tensor = tfl.TensorT()
    tensor.name, tensor.type, tensor.shape, tensor.buffer = name, _TYPES[dtype.name], list(shape), buffer
    if scale is not None:
        tensor.quantization = tfl.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
    return tensor


def _signature(key: str) -> object:
    signature = tfl.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key, 0
    signature.inputs, signature.outputs = [_mapped("x", 0)], [_mapped("y", 1)]
    return signature


def _mapped(name: str, index: int) -> object:
    mapped = tfl.TensorMapT()
    mapped.name, mapped.tensorIndex = name, index
    return mapped
