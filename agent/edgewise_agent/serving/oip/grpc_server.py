"""The Open Inference Protocol over gRPC, on a port of 127.0.0.1: ``edgewise-agent[grpc]``, off unless its owner names
a port.

Rules that hold here:
- it answers what HTTP answers: the same checks, the same errors, by the same ``run``;
- of each kind of request as many run at a time as over HTTP, and as many more wait; the others are refused
  (RESOURCE_EXHAUSTED);
- each serve child opens the port itself (SO_REUSEPORT): a successor has it before its predecessor lets go of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import msgspec

from edgewise_agent.runtimes import Arrays
from edgewise_agent.serving.http import HttpError
from edgewise_agent.serving.inference import ServedModel
from edgewise_agent.serving.oip.api import index, metadata, server_metadata
from edgewise_agent.serving.oip.grpc_messages import SERVICE, message
from edgewise_agent.serving.oip.infer import run
from edgewise_agent.serving.oip.messages import UNSUPPORTED, BadRequest, Request, RequestId
from edgewise_agent.serving.oip.tensors import (
    DATATYPES,
    BadTensor,
    count,
    datatype_of,
    from_binary,
    from_json,
    to_binary,
)
from edgewise_agent.serving.options import Options

MAX_TENSORS = 32
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    503: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


class GrpcServer:
    """Serves ``models``, which may change while it does."""

    def __init__(self, models: Mapping[str, ServedModel], options: Options, port: int) -> None:
        """``port``: 0 for any that is free. Raises RuntimeError where it is taken."""
        self._models, self._running = models, threading.Semaphore(options.running)
        answers: dict[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": True},
            "ServerMetadata": lambda _: server_metadata(),
            "ModelReady": self._ready,
            "ModelMetadata": lambda asked: metadata(self._find(asked.name, asked.version).model.manifest),
            "ModelInfer": self._infer,
            "RepositoryIndex": lambda _: {"models": [index(one.model.manifest) for one in list(models.values())]},
        }
        threads = ThreadPoolExecutor(options.running + 2, "grpc")
        self._server = grpc.server(
            threads,
            maximum_concurrent_rpcs=options.running + options.queue,
            options=[
                ("grpc.max_receive_message_length", options.max_body),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 1),
            ],
        )
        methods = {name: _handler(answer, name) for name, answer in answers.items()}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
        self.port: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def drain(self, patience_s: float) -> None:
        """Accept no more, and answer what runs."""
        self._server.stop(patience_s).wait()

    def _ready(self, request: Any) -> dict[str, object]:
        try:
            self._find(request.name, request.version)
        except HttpError:
            return {"ready": False}
        return {"ready": True}

    def _infer(self, request: Any) -> Any:
        served = self._find(request.model_name, request.model_version)
        try:
            asked = read(request)
        except BadTensor as error:
            served.collector.count("refused")
            raise HttpError(400, str(error)) from error
        with self._running:
            name, answer, outputs = run(served, asked)
        return write(served.model.manifest.model, answer.model_version, name, outputs, answer.parameters)

    def _find(self, name: str, version: str) -> ServedModel:
        served = self._models.get(name)
        if served is None or version not in ("", str(served.model.manifest.version)):
            raise HttpError(404, f"no model {name[:64]!r}, version {version[:20] or 'any'}, is served here")
        return served


def read(request: Any) -> Request:
    """A ``ModelInferRequest`` as it was meant. Raises BadTensor."""
    parameters = _parameters("request", request.parameters)
    raw = request.raw_input_contents
    if not 1 <= len(request.inputs) <= MAX_TENSORS or (raw and len(raw) != len(request.inputs)):
        raise BadRequest(f"expected 1 to {MAX_TENSORS} inputs, and raw contents for all or none of them")
    inputs: Arrays = {}
    for i, tensor in enumerate(request.inputs):
        name = f"input {tensor.name[:256]}"
        _parameters(name, tensor.parameters)
        if tensor.datatype not in DATATYPES or tensor.name in inputs:
            raise BadRequest(f"{name}: expected once, of a datatype of {', '.join(DATATYPES)}")
        shape = list(tensor.shape)
        if raw:
            inputs[tensor.name] = from_binary(name, tensor.datatype, shape, memoryview(raw[i]))
        else:
            inputs[tensor.name] = _contents(name, tensor.datatype, shape, tensor.contents)
    outputs = {}
    for output in request.outputs:
        _parameters(f"output {output.name[:256]}", output.parameters)
        outputs[output.name] = True
    try:
        identity = msgspec.convert(request.id, RequestId) if request.id else None
    except msgspec.ValidationError as error:
        raise BadRequest(f"id: {error}") from error
    return Request(identity, inputs, outputs, True, parameters)


def write(model: str, version: int, identity: str, outputs: Arrays, parameters: Mapping[str, Any]) -> Any:
    """A ``ModelInferResponse`` with raw contents."""
    response = message("ModelInferResponse")(model_name=model, model_version=str(version), id=identity)
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param"}.get(type(value), "string_param")
        setattr(response.parameters[name], kind, value)
    for name, array in outputs.items():
        response.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        response.raw_output_contents.append(bytes(to_binary(array)))
    return response


def _contents(name: str, datatype: str, shape: list[int], contents: Any) -> Any:
    if datatype == "BYTES":
        data = contents.bytes_contents
        packed = b"".join(len(value).to_bytes(4, "little") + value for value in data)
        return from_binary(name, datatype, shape, memoryview(packed))
    field = _CONTENTS.get(datatype)
    if field is None:
        raise BadRequest(f"{name}: {datatype} has no contents of its own; send raw_input_contents")
    values = getattr(contents, field)
    if len(values) != count(name, shape):
        raise BadRequest(f"{name}: shape {shape} does not hold {len(values)} values of {field}")
    return from_json(name, datatype, shape, list(values))


def _parameters(where: str, given: Any) -> dict[str, str | int | float | bool]:
    parameters = {}
    for name, value in given.items():
        chosen = value.WhichOneof("parameter_choice")
        parameters[name] = getattr(value, chosen) if chosen else ""
        if name in UNSUPPORTED and parameters[name]:
            raise BadRequest(f"{where}: {name}: expected none: this agent does not serve {UNSUPPORTED[name]}")
    return parameters


def _handler(answer: Callable[[Any], Any], name: str) -> Any:
    request, response = message(f"{name}Request"), message(f"{name}Response")

    def handle(asked: Any, context: Any) -> Any:
        try:
            answered = answer(asked)
        except HttpError as error:
            context.abort(_CODES.get(error.status, grpc.StatusCode.INTERNAL), str(error))
        return response(**answered) if isinstance(answered, dict) else answered

    return grpc.unary_unary_rpc_method_handler(handle, request.FromString, response.SerializeToString)
