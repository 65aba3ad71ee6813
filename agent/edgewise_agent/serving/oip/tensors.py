"""Tensors of the Open Inference Protocol: from JSON or bytes to arrays, and back. Pure.

| datatype | array | JSON | binary, little-endian, row-major |
|---|---|---|---|
| BOOL | bool | true, false | a byte each, 0 or 1 |
| INT8..INT64, UINT8..UINT64 | the same | integers | as they are |
| FP16, FP32, FP64 | the same | numbers | as they are |
| BF16 | float32, exactly | none | 2 bytes each |
| BYTES | object, of ``bytes`` | strings | 4 bytes of length before each |

Rules that hold here:
- a shape has at most 8 axes, none negative, and exactly as many values as came; its product cannot overflow;
- binary data is read where it lies: an array is a view of the request, and a copy only where it would not be aligned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from edgewise.bundle import Datatype
from edgewise.errors import EdgewiseError
from edgewise_agent.runtimes.tensors import NUMPY

WireDatatype: TypeAlias = Datatype | Literal["BYTES"]
Array: TypeAlias = npt.NDArray[Any]

MAX_AXES = 8
MAX_VALUES = 2**31
DATATYPES: tuple[str, ...] = (*get_args(Datatype), "BYTES")
_OF_DTYPE = {np.dtype(kind): datatype for datatype, kind in NUMPY.items()}
_BINARY: dict[str, np.dtype[Any]] = {
    datatype: np.dtype(kind).newbyteorder("<") for datatype, kind in {**NUMPY, "BF16": np.uint16}.items()
}
FLOATS = ("FP16", "FP32", "FP64")


class BadTensor(EdgewiseError):
    """A tensor whose datatype, shape and data do not go together."""

    code = "bad-tensor"


def datatype_of(array: Array) -> str:
    """What an array is called on the wire."""
    return _OF_DTYPE.get(array.dtype, "BYTES")


def count(name: str, shape: Sequence[int]) -> int:
    """How many values a shape holds. Raises BadTensor."""
    if len(shape) > MAX_AXES or min(shape, default=0) < 0:
        raise BadTensor(f"{name}: expected a shape of at most {MAX_AXES} axes, none negative, got {list(shape)[:16]}")
    values = math.prod(shape)
    # an axis of 0 excuses no other: NumPy multiplies them
    if (values or math.prod(size or 1 for size in shape)) >= MAX_VALUES:
        raise BadTensor(f"{name}: expected fewer than {MAX_VALUES} values, got a shape of {list(shape)}")
    return values


def from_json(name: str, datatype: str, shape: Sequence[int], data: list[Any], *, floats: bool = False) -> Array:
    """Data flat or nested, as JSON has it. ``floats``: the data was decoded as floats. Raises BadTensor."""
    values = count(name, shape)
    if datatype == "BF16":
        raise BadTensor(f"{name}: BF16 has no form in JSON; send it as binary data, or as FP32")
    flat = data
    if data and isinstance(data[0], list):
        flat = _flattened(name, data)
    if len(flat) != values:
        raise BadTensor(f"{name}: shape {list(shape)} does not hold {len(flat)} values")
    if datatype == "BYTES":
        return _strings(name, flat).reshape(shape)
    return _numbers(name, datatype, flat, floats).reshape(shape)


def from_floats(name: str, datatype: str, shape: Sequence[int], data: npt.NDArray[np.float64]) -> Array:
    """Data flat, of a datatype of ``FLOATS``. Raises BadTensor."""
    if len(data) != count(name, shape):
        raise BadTensor(f"{name}: shape {list(shape)} does not hold {len(data)} values")
    with np.errstate(over="ignore"):  # as in ``_numbers``
        return data.astype(NUMPY[datatype]).reshape(shape)  # type: ignore[index]


def from_binary(name: str, datatype: str, shape: Sequence[int], data: memoryview) -> Array:
    """Data of the binary tensor data extension. Raises BadTensor."""
    values = count(name, shape)
    if datatype == "BYTES":
        return _unpack(name, data, values).reshape(shape)
    dtype = _BINARY[datatype]
    if len(data) != values * dtype.itemsize:
        raise BadTensor(
            f"{name}: {datatype} of shape {list(shape)} has {values * dtype.itemsize} bytes, got {len(data)}"
        )
    array: Array = np.frombuffer(data, dtype)
    if datatype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    elif datatype == "BOOL" and values and array.view(np.uint8).max() > 1:
        raise BadTensor(f"{name}: expected a byte of 0 or 1 for each BOOL")
    if not array.flags.aligned:
        array = array.copy()
    return array.reshape(shape)


def to_json(array: Array) -> list[Any]:
    """The values, flat, in row-major order."""
    if array.dtype == np.object_:
        return [bytes(value).decode(errors="replace") for value in array.ravel()]
    return array.ravel().tolist()


def to_binary(array: Array) -> memoryview | bytes:
    """The bytes of the binary tensor data extension; of a contiguous array, without a copy."""
    if array.dtype == np.object_:
        return b"".join(len(value).to_bytes(4, "little") + value for value in array.ravel())
    if not array.size:
        return b""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).data.cast("B")


def _flattened(name: str, data: list[Any]) -> list[Any]:
    """Nested lists as one, where each has as many values as its neighbours."""
    try:
        array = np.array(data, dtype=np.object_)
    except ValueError:
        array = np.array(None)
    flat: list[Any] = array.ravel().tolist()
    if any(isinstance(value, list) for value in flat) or array.ndim == 0:
        raise BadTensor(f"{name}: expected data flat or nested evenly, got inhomogeneous lists")
    return flat


def _numbers(name: str, datatype: str, flat: list[Any], floats: bool) -> Array:
    """Of one kind each: a number is no truth value, and a truth value is no number."""
    kinds = {bool} if datatype == "BOOL" else {int, float} if datatype in FLOATS else {int}
    if not (floats and datatype in FLOATS) and not set(map(type, flat)) <= kinds:
        raise BadTensor(f"{name}: expected data of {datatype}")
    dtype: np.dtype[Any] = np.dtype(NUMPY[datatype])  # type: ignore[index, arg-type]
    try:
        if dtype.kind not in "iu":
            with np.errstate(over="ignore"):  # too large for float32 becomes infinity, which the quality check names
                return np.fromiter(flat, dtype, len(flat))
        wide = np.fromiter(flat, np.uint64 if datatype == "UINT64" and min(flat, default=0) >= 0 else np.int64)
    except OverflowError as error:
        raise BadTensor(f"{name}: a value is out of the range of {datatype}") from error
    limits = np.iinfo(dtype)
    if wide.size and (int(wide.min()) < limits.min or int(wide.max()) > limits.max):
        raise BadTensor(f"{name}: a value is out of the range of {datatype}")
    return wide.astype(dtype)


def _strings(name: str, flat: list[Any]) -> Array:
    array = np.empty(len(flat), dtype=np.object_)
    for i, value in enumerate(flat):
        if not isinstance(value, str):
            raise BadTensor(f"{name}: expected strings for BYTES")
        array[i] = value.encode()
    return array


def _unpack(name: str, data: memoryview, values: int) -> Array:
    if 4 * values > len(data):  # before room for them is made
        raise BadTensor(f"{name}: {values} BYTES have {4 * values} bytes or more, got {len(data)}")
    array, at = np.empty(values, dtype=np.object_), 0
    for i in range(values):
        size = int.from_bytes(data[at : at + 4], "little")
        at += 4
        array[i] = bytes(data[at : at + size])
        at += size
        if at > len(data):
            break
    if at != len(data):
        raise BadTensor(f"{name}: expected {values} BYTES, each after its length in 4 bytes, in {len(data)} bytes")
    return array
