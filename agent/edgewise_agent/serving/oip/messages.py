"""The bodies of ``infer``: a request read into arrays, an answer written as JSON or with binary tensors. Pure.

A binary body is a JSON object of ``Inference-Header-Content-Length`` bytes, then the data of the tensors that have a
``binary_data_size``, in their order, with nothing between and nothing after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from edgewise.wire.codec import Name
from edgewise_agent.runtimes import Arrays
from edgewise_agent.serving.http import JSON, Answer, Body
from edgewise_agent.serving.oip.floats import Floats, Reader
from edgewise_agent.serving.oip.tensors import (
    DATATYPES,
    FLOATS,
    BadTensor,
    count,
    datatype_of,
    from_binary,
    from_floats,
    from_json,
    to_binary,
    to_json,
)

Parameter = bool | int | float | Annotated[str, msgspec.Meta(max_length=256)]
Parameters = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Parameter | list[Any] | dict[str, Any] | None],
    msgspec.Meta(max_length=32),
]
RequestId = Name
TensorName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Shape = Annotated[list[Annotated[int, msgspec.Meta(ge=0, lt=2**31)]], msgspec.Meta(max_length=8)]
UNSUPPORTED = {
    "sequence_id": "sequences",
    "shared_memory_region": "shared memory",
    "classification": "the classification extension; take the scores",
}


class _Tensor(msgspec.Struct, frozen=True):
    name: TensorName
    datatype: str
    shape: Shape
    parameters: Parameters = {}


class _TensorOfFloats(_Tensor, frozen=True):
    data: list[float] | None = None


class _TensorOfAny(_Tensor, frozen=True):
    data: list[Any] | None = None


class _Output(msgspec.Struct, frozen=True):
    name: TensorName
    parameters: Parameters = {}


class _Body(msgspec.Struct, frozen=True):
    id: RequestId | None = None
    parameters: Parameters = {}
    outputs: Annotated[list[_Output], msgspec.Meta(max_length=32)] | None = None


class _BodyOfFloats(_Body, frozen=True, kw_only=True):
    inputs: Annotated[list[_TensorOfFloats], msgspec.Meta(min_length=1, max_length=32)]


class _BodyOfAny(_Body, frozen=True, kw_only=True):
    inputs: Annotated[list[_TensorOfAny], msgspec.Meta(min_length=1, max_length=32)]


_FLOATS = msgspec.json.Decoder(_BodyOfFloats)
_ANY = msgspec.json.Decoder(_BodyOfAny)
_MANY_FLOATS = Reader()


class BadRequest(BadTensor):
    """A body that is no inference request."""

    code = "bad-request"


@dataclass(frozen=True)
class Request:
    """A request as it was meant. ``outputs``: the wanted ones and whether in binary; empty: all but the embedding."""

    id: str | None
    inputs: Arrays
    outputs: dict[str, bool] = field(default_factory=dict)
    binary: bool = False
    """Are outputs that are not named to be in binary?"""
    parameters: dict[str, str | int | float | bool] = field(default_factory=dict)
    """What it says besides, such as ``key``: what A/B tests are drawn by."""


def read_request(body: memoryview, header_length: int | None, *, floats: bool = False) -> Request:
    """Read the body of ``infer``. ``header_length``: of its JSON, when tensors follow in binary; None: JSON alone.

    ``floats``: the model takes floats alone, which are decoded straight as such. Raises BadTensor.
    """
    if header_length is not None and header_length > len(body):
        raise BadRequest(f"Inference-Header-Content-Length: expected at most {len(body)}, got {header_length}")
    head, rest = (body, memoryview(b"")) if header_length is None else (body[:header_length], body[header_length:])
    message, numbers = _decode(head, floats)
    _refuse_unsupported("request", message.parameters)
    inputs: Arrays = {}
    at = 0
    for i, tensor in enumerate(message.inputs):
        if tensor.name in inputs:
            raise BadRequest(f"input {tensor.name}: expected once")
        if numbers:
            array = from_floats(f"input {tensor.name}", tensor.datatype, tensor.shape, numbers[i])
        else:
            array, at = _array(tensor, rest, at, floats=isinstance(tensor, _TensorOfFloats))
        inputs[tensor.name] = array
    if at != len(rest):
        raise BadRequest(f"binary data: the tensors have {at} bytes, got {len(rest)}")
    binary = _flag(message.parameters, "binary_data_output")
    outputs: dict[str, bool] = {}
    for output in message.outputs or []:
        _refuse_unsupported(f"output {output.name}", output.parameters)
        outputs[output.name] = _flag(output.parameters, "binary_data", binary)
    plain = {k: v for k, v in message.parameters.items() if isinstance(v, str | int | float)}
    return Request(message.id, inputs, outputs, binary, plain)


def write_answer(
    model: str, version: int, request: Request, identity: str, outputs: Arrays, parameters: dict[str, Any]
) -> Answer:
    """The answer of ``infer`` with these outputs, in binary where the request wants it."""
    tensors: list[dict[str, object]] = []
    binary: list[Body] = []
    for name, array in outputs.items():
        tensor: dict[str, object] = {"name": name, "datatype": datatype_of(array), "shape": list(array.shape)}
        if request.outputs.get(name, request.binary):
            data = to_binary(array)
            binary.append(data)
            tensor["parameters"] = {"binary_data_size": len(data)}
        else:
            tensor["data"] = to_json(array)
        tensors.append(tensor)
    content: dict[str, object] = {"model_name": model, "model_version": str(version), "id": identity}
    if parameters:
        content["parameters"] = parameters
    head = msgspec.json.encode({**content, "outputs": tensors})
    if not binary:
        return Answer(200, [head], {"content-type": JSON})
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return Answer(200, [head, *binary], headers)


def _decode(head: memoryview, floats: bool) -> tuple[_BodyOfFloats | _BodyOfAny, list[Floats]]:
    """The message, and the data of its inputs where it was read apart from it."""
    if floats and (read := _MANY_FLOATS.read(head)) is not None:
        try:
            message: _BodyOfFloats | _BodyOfAny = msgspec.convert(read[0], _BodyOfAny)
            if all(t.datatype in FLOATS and "binary_data_size" not in t.parameters for t in message.inputs):
                for tensor in message.inputs:
                    _refuse_unsupported(f"input {tensor.name}", tensor.parameters)
                return message, read[1]
        except msgspec.ValidationError:
            pass  # what is wrong is said below
    if floats:
        try:
            message = _FLOATS.decode(head)
            if all(tensor.data is None or tensor.datatype in FLOATS for tensor in message.inputs):
                return message, []
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # nested data, or what is wrong is said below
    try:
        return _ANY.decode(head), []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(str(error)[:500]) from error


def _array(tensor: Any, rest: memoryview, at: int, *, floats: bool) -> tuple[Any, int]:
    """The tensor's array, and where the next one's binary data begins."""
    name = f"input {tensor.name}"
    if tensor.datatype not in DATATYPES:
        raise BadRequest(f"{name}: datatype: expected one of {', '.join(DATATYPES)}, got {tensor.datatype[:40]!r}")
    _refuse_unsupported(name, tensor.parameters)
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        if tensor.data is None:
            raise BadRequest(f"{name}: expected data, or binary_data_size among its parameters")
        return from_json(name, tensor.datatype, tensor.shape, tensor.data, floats=floats), at
    if tensor.data is not None:
        raise BadRequest(f"{name}: expected data or binary_data_size, got both")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest) - at:
        count(name, tensor.shape)
        raise BadRequest(f"{name}: binary_data_size: expected at most the {len(rest) - at} bytes left, got {size!r}")
    return from_binary(name, tensor.datatype, tensor.shape, rest[at : at + size]), at + size


def _flag(parameters: dict[str, Any], name: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"{name}: expected true or false, got {str(value)[:40]!r}")
    return value


def _refuse_unsupported(where: str, parameters: dict[str, Any]) -> None:
    for name, what in UNSUPPORTED.items():
        if parameters.get(name):
            raise BadRequest(f"{where}: {name}: expected none: this agent does not serve {what}")
