"""A TFLite file, read and checked: tensors, operators and constants as plain values.

Rules that hold here:
- nothing in the file is trusted: sizes, counts, offsets and indices are bounded and checked before they are used, and
  whatever is wrong ends as one CompileError (code ``bad-source``);
- constants come out dense and unpacked (sparse and 4-bit storage end here);
- the flatbuffer schema comes from ``ai_edge_litert``, imported when a file is read: nothing else of it is used.

Source of the format: tensorflow/lite/schema/schema.fbs (the comments on SparsityParameters and Buffer).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from importlib import import_module
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewise_compiler.errors import CompileError, one_line

MAX_FILE = 512 * 1024**2
"""Bytes of a file: fp16 weights double as fp32, and a protobuf holds 2 GiB."""
MAX_TENSORS = 100_000
MAX_OPERATORS = 50_000
MAX_RANK = 8
MAX_DENSE = 2**26
"""Elements of a sparse tensor once it is dense."""
MAX_SCALE = 1e30
MAX_NAME = 512

DENSE = 0
"""A level of a sparse tensor that stores every place; the other kind lists those that it stores (CSR)."""

MAGIC = b"TFL3"
NUMPY = {
    "FLOAT64": "<f8",
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "INT64": "<i8",
    "INT32": "<i4",
    "UINT32": "<u4",
    "INT16": "<i2",
    "UINT16": "<u2",
    "INT8": "i1",
    "UINT8": "u1",
    "BOOL": "?",
    "INT4": "i1",
}
"""Types of tensors that can be read -> numpy. INT4 is unpacked to one int8 a value."""

# What flatbuffers' reader and numpy raise where bytes do not hold what the schema says.
DAMAGE = (struct.error, IndexError, KeyError, ValueError, TypeError, OverflowError, AttributeError)


@dataclass(frozen=True)
class Quantization:
    """real = (stored - zero_point) * scale; scale float32 [n], zero_point int64 [n], n > 1 along ``axis``."""

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int


@dataclass(frozen=True)
class Tensor:
    """``dtype`` is the schema's name; ``shape`` has -1 for a dynamic axis; ``data`` is there for constants.

    ``refused``: why no operator may use it, or None.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    data: npt.NDArray[Any] | None = None
    quantization: Quantization | None = None
    refused: str | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)


@dataclass(frozen=True)
class Operator:
    """``inputs``: indices of tensors, -1 for an absent one. ``options``: attributes as the schema names them."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any

    def option(self, name: str) -> Any:
        """An attribute. Raises CompileError (code ``bad-source``) where the file has options of another operator."""
        if not hasattr(self.options, name):
            came = "none" if self.options is None else type(self.options).__name__.removesuffix("T")
            raise damaged(f"operator {self.index} {self.name}: expected options with {name!r}, got {came}")
        return getattr(self.options, name)


@dataclass(frozen=True)
class TfliteFile:
    """The main subgraph: operators in an order in which each finds its inputs."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def damaged(what: str) -> CompileError:
    """The error for a file that is not what the format says."""
    return CompileError(f"TFLite file: {what}", code="bad-source")


def read_tflite(data: bytes) -> TfliteFile:
    """Read a TFLite file. Raises CompileError (code ``bad-source``, or ``unsupported`` for weights outside of it)."""
    if len(data) > MAX_FILE:
        raise damaged(f"expected at most {MAX_FILE} bytes, got {len(data)}")
    if len(data) < 16 or data[4:8] != MAGIC:
        raise damaged(f"expected a flatbuffer with the identifier {MAGIC.decode()} at byte 4, got {data[4:8]!r}")
    schema = _schema()
    try:
        return _Reader(schema, data).read()
    except DAMAGE as error:
        raise damaged(f"truncated or corrupt: {type(error).__name__}: {one_line(error)}") from error


def _schema() -> Any:
    try:
        return import_module("ai_edge_litert.schema_py_generated")
    except ImportError as error:
        raise CompileError(
            f"reading a TFLite file needs the package ai-edge-litert ({error}); pip install ai-edge-litert",
            code="missing-extra",
        ) from error


class _Reader:
    def __init__(self, schema: Any, data: bytes) -> None:
        self._schema, self._data = schema, data
        self._types = _names(schema.TensorType)
        self._operators = _names(schema.BuiltinOperator)

    def read(self) -> TfliteFile:
        model = self._model = self._schema.Model.GetRootAs(self._data, 0)
        if model.Version() != 3:
            raise damaged(f"expected schema version 3, got {model.Version()}")
        if model.SubgraphsLength() < 1:
            raise damaged("expected a subgraph, got none")
        graph = model.Subgraphs(0)
        count = _bounded("tensors", graph.TensorsLength(), MAX_TENSORS)
        inputs, outputs = _ints(graph.InputsAsNumpy()), _ints(graph.OutputsAsNumpy())
        if not outputs:
            raise damaged("expected at least one output, got none")
        for index in inputs + outputs:
            _check_index("graph", index, count)
        operators = [
            self._operator(graph.Operators(i), i, count)
            for i in range(_bounded("operators", graph.OperatorsLength(), MAX_OPERATORS))
        ]
        written = {index for operator in operators for index in operator.outputs} | set(inputs)
        tensors = [self._tensor(graph.Tensors(i), i, i in written) for i in range(count)]
        _check_order(tensors, operators, inputs, outputs)
        return TfliteFile(tuple(tensors), tuple(operators), inputs, outputs)

    def _operator(self, operator: Any, index: int, tensors: int) -> Operator:
        code = self._model.OperatorCodes(
            _below("an operator code", operator.OpcodeIndex(), self._model.OperatorCodesLength())
        )
        # Codes above 127 came later, in a second field; old files have the first alone.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = self._operators.get(number, f"operator code {number}")
        if name == "CUSTOM":
            name = f"CUSTOM {_text(code.CustomCode())!r}"
        inputs, outputs = _ints(operator.InputsAsNumpy()), _ints(operator.OutputsAsNumpy())
        for tensor in inputs:
            _check_index(f"operator {index} {name}", tensor, tensors, lowest=-1)
        for tensor in outputs:
            _check_index(f"operator {index} {name}", tensor, tensors)
        options = self._schema.BuiltinOptionsCreator(operator.BuiltinOptionsType(), operator.BuiltinOptions())
        if options is None:
            options = self._schema.BuiltinOptions2Creator(operator.BuiltinOptions2Type(), operator.BuiltinOptions2())
        return Operator(index, name, inputs, outputs, options)

    def _tensor(self, tensor: Any, index: int, written: bool) -> Tensor:
        name = _text(tensor.Name()) or f"tensor_{index}"
        dtype = self._types.get(tensor.Type(), f"type {tensor.Type()}")
        shape, signature = _ints(tensor.ShapeAsNumpy()), _ints(tensor.ShapeSignatureAsNumpy())
        if len(shape) > MAX_RANK or any(size < 0 for size in shape):
            raise damaged(f"tensor {name!r}: expected at most {MAX_RANK} axes, none negative, got {list(shape)}")
        refused = None if dtype in NUMPY else f"tensor {name!r} holds {dtype}"
        if tensor.IsVariable():
            refused = f"tensor {name!r} is state kept between runs; make it an input and an output of the model"
        stored = None if refused else self._stored(tensor, name)
        if written and stored is not None:
            raise damaged(f"tensor {name!r}: is computed or an input, and has a constant as well")
        if stored is None and not written and not refused and prod(shape) == 0:
            stored = np.empty(0, np.uint8)  # an empty list, such as no axes
        data = None if stored is None else self._constant(tensor, name, dtype, shape, stored)
        if len(signature) == len(shape) and data is None:
            shape = tuple(-1 if want == -1 else size for want, size in zip(signature, shape, strict=True))
        quantization, why = _quantization(tensor.Quantization(), name, len(shape), self._schema)
        return Tensor(index, name, dtype, shape, data, quantization, refused or why)

    def _stored(self, tensor: Any, name: str) -> npt.NDArray[np.uint8] | None:
        """Bytes of a constant, or None: buffers with no bytes mean that there is none."""
        if tensor.ExternalBuffer():
            raise CompileError(
                f"TFLite file: tensor {name!r} keeps its values outside of the file; write one file with them in it",
                code="unsupported",
            )
        buffer = self._model.Buffers(_below("a buffer", tensor.Buffer(), self._model.BuffersLength()))
        if buffer.Offset() > 1:  # a large file: bytes behind the flatbuffer
            if buffer.Offset() + buffer.Size() > len(self._data):
                raise damaged(f"tensor {name!r}: truncated: its values end behind the file's {len(self._data)} bytes")
            return np.frombuffer(self._data, np.uint8, buffer.Size(), buffer.Offset())
        if buffer.DataIsNone() or buffer.DataLength() == 0:
            return None
        found: npt.NDArray[np.uint8] = buffer.DataAsNumpy()
        return found

    def _constant(
        self, tensor: Any, name: str, dtype: str, shape: tuple[int, ...], stored: npt.NDArray[np.uint8]
    ) -> npt.NDArray[Any]:
        if dtype == "INT4":
            low = (stored.astype(np.int8) << 4) >> 4
            values: npt.NDArray[Any] = np.stack([low, stored.view(np.int8) >> 4], axis=-1).ravel()
        elif dtype == "BOOL":
            values = stored != 0
        elif stored.size % np.dtype(NUMPY[dtype]).itemsize:
            raise damaged(f"tensor {name!r}: {stored.size} bytes are no whole number of {dtype}")
        else:
            values = stored.view(NUMPY[dtype])
        if tensor.Sparsity() is not None:
            return densify(values, shape, self._schema.SparsityParametersT.InitFromObj(tensor.Sparsity()), name)
        if dtype == "INT4":
            values = values[: prod(shape)]  # an odd count leaves half a byte
        if values.size != prod(shape):
            raise damaged(f"tensor {name!r}: expected {prod(shape)} values for shape {list(shape)}, got {values.size}")
        return values.reshape(shape)


def densify(values: npt.NDArray[Any], shape: tuple[int, ...], sparsity: Any, name: str) -> npt.NDArray[Any]:
    """Dense [shape] from the values that a block-sparse tensor stores, in its order of traversal."""
    rank = len(shape)
    order, blocked = _ints(sparsity.traversalOrder), _ints(sparsity.blockMap)
    levels = sparsity.dimMetadata or []
    if prod(shape) > MAX_DENSE or len(levels) != len(order) or sorted(order) != list(range(rank + len(blocked))):
        raise damaged(f"tensor {name!r}: its sparsity does not fit shape {list(shape)}")
    _check_sparse(levels, values.size, name)
    columns: list[npt.NDArray[np.int64]] = []  # coordinates of each stored value, one array a level
    count = 1
    for level in levels:
        if level.format == DENSE:
            repeats: Any = int(level.denseSize)
            found = np.tile(np.arange(repeats, dtype=np.int64), count)
        else:
            repeats = np.diff(np.asarray(level.arraySegments.values, np.int64))
            found = np.asarray(level.arrayIndices.values, np.int64)
        columns = [np.repeat(column, repeats) for column in columns] + [found]
        count = len(found)
    by_axis = dict(zip(order, columns, strict=True))
    sizes = {rank + i: int(levels[order.index(rank + i)].denseSize) for i in range(len(blocked))}
    where = [by_axis[axis] for axis in range(rank)]
    for i, axis in enumerate(blocked):
        where[axis] = where[axis] * sizes[rank + i] + by_axis[rank + i]
    dense = np.zeros(shape, values.dtype)
    dense[tuple(where)] = values
    return dense


def _check_sparse(levels: list[Any], stored: int, name: str) -> None:
    """Do the levels lead to as many values as are stored? Counted first: a lie here must not cost memory."""
    count = 1
    for level in levels:
        if level.format == DENSE:
            count *= int(level.denseSize)
            fits = count >= 0
        else:
            segments, indices = (
                np.asarray(each.values, np.int64) for each in (level.arraySegments, level.arrayIndices)
            )
            rising = segments.size > 0 and segments[0] == 0 and not (np.diff(segments) < 0).any()
            fits = rising and len(segments) == count + 1 and segments[-1] == len(indices)
            count = len(indices)
        if not fits:
            raise damaged(f"tensor {name!r}: its sparse segments do not fit")
    if count != stored:
        raise damaged(f"tensor {name!r}: expected {count} sparse values, got {stored}")


def _quantization(found: Any, name: str, rank: int, schema: Any) -> tuple[Quantization | None, str | None]:
    """(the quantization or None, why the tensor cannot be used or None)."""
    if found is None:
        return None, None
    if found.DetailsType() != schema.QuantizationDetails.NONE:
        return None, f"tensor {name!r} is quantized in blocks; quantize it per tensor or per channel"
    if found.ScaleLength() == 0:
        return None, None
    scale = np.array(found.ScaleAsNumpy(), np.float32)
    zero_point = np.zeros(len(scale), np.int64)
    if found.ZeroPointLength():
        zero_point = zero_point + np.asarray(found.ZeroPointAsNumpy(), np.int64)
    axis = int(found.QuantizedDimension())
    if not ((scale >= 0) & (scale <= MAX_SCALE)).all() or (len(scale) > 1 and not 0 <= axis < rank):
        raise damaged(f"tensor {name!r}: expected scales of 0 to {MAX_SCALE:g} along one of {rank} axes")
    return Quantization(scale, zero_point, axis), None


def _check_order(
    tensors: list[Tensor], operators: list[Operator], inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    """Is every tensor written once, and before it is read?"""
    known = set(inputs) | {tensor.index for tensor in tensors if tensor.data is not None or tensor.refused}
    written: set[int] = set(inputs)
    for operator in operators:
        for index in operator.inputs:
            if index >= 0 and index not in known:
                raise damaged(
                    f"operator {operator.index} {operator.name}: reads {tensors[index].name!r} before anything wrote it"
                )
        for index in operator.outputs:
            if index in written:
                raise damaged(f"operator {operator.index} {operator.name}: writes {tensors[index].name!r} again")
            written.add(index)
        known |= set(operator.outputs)
    for index in outputs:
        if index not in known:
            raise damaged(f"output {tensors[index].name!r}: nothing writes it")


def _names(enumeration: Any) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


def _ints(vector: Any) -> tuple[int, ...]:
    """A vector of the schema (0 or None where it is absent) as integers."""
    return () if vector is None or isinstance(vector, int) else tuple(int(value) for value in vector)


def _text(name: bytes | None) -> str:
    return (name or b"")[:MAX_NAME].decode("utf-8", errors="replace")


def _bounded(what: str, count: int, most: int) -> int:
    if not 0 <= count <= most:
        raise damaged(f"expected at most {most} {what}, got {count}")
    return count


def _below(what: str, index: int, count: int) -> int:
    if not 0 <= index < count:
        raise damaged(f"expected {what} below {count}, got {index}")
    return index


def _check_index(where: str, index: int, count: int, lowest: int = 0) -> None:
    if not lowest <= index < count:
        raise damaged(f"{where}: expected a tensor below {count}, got {index}")
