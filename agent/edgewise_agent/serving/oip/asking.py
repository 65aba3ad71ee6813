"""The other side of ``infer``: the request that a server is asked, and what it answered. Pure."""

from __future__ import annotations

import msgspec

from edgewise_agent.runtimes import Arrays
from edgewise_agent.serving.http import Body
from edgewise_agent.serving.oip.messages import BadRequest, Parameters, Shape, TensorName
from edgewise_agent.serving.oip.tensors import DATATYPES, datatype_of, from_binary, from_json, to_binary

LENGTH = "Inference-Header-Content-Length"


class _Tensor(msgspec.Struct, frozen=True):
    name: TensorName
    datatype: str
    shape: Shape
    parameters: Parameters = {}
    data: list[object] | None = None


class _Answer(msgspec.Struct, frozen=True):
    outputs: list[_Tensor]


_ANSWER = msgspec.json.Decoder(_Answer)


def write_question(inputs: Arrays, outputs: list[str]) -> tuple[dict[str, str], bytes]:
    """(headers, body) of a request for these outputs, with tensors in binary both ways."""
    binary: list[Body] = [to_binary(array) for array in inputs.values()]
    tensors = [
        {
            "name": name,
            "datatype": datatype_of(array),
            "shape": list(array.shape),
            "parameters": {"binary_data_size": len(data)},
        }
        for (name, array), data in zip(inputs.items(), binary, strict=True)
    ]
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    head = msgspec.json.encode({"inputs": tensors, "outputs": wanted})
    headers = {"Content-Type": "application/octet-stream", LENGTH: str(len(head))}
    return headers, b"".join([head, *binary])


def read_answer(header_length: str | None, body: bytes) -> Arrays:
    """The outputs, in binary or in JSON. Raises BadTensor."""
    try:
        length = len(body) if header_length is None else int(header_length)
        answer = _ANSWER.decode(body[:length])
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"answer: {error}") from error
    outputs: Arrays = {}
    at = length
    for tensor in answer.outputs:
        name = f"output {tensor.name}"
        if tensor.datatype not in DATATYPES:
            raise BadRequest(f"{name}: datatype {tensor.datatype[:40]!r}")
        size = tensor.parameters.get("binary_data_size")
        if isinstance(size, int) and 0 <= size <= len(body) - at:
            outputs[tensor.name] = from_binary(name, tensor.datatype, tensor.shape, memoryview(body)[at : at + size])
            at += size
        elif tensor.data is not None:
            outputs[tensor.name] = from_json(name, tensor.datatype, tensor.shape, tensor.data)
        else:
            raise BadRequest(f"{name}: expected data, or binary_data_size within the answer")
    return outputs
