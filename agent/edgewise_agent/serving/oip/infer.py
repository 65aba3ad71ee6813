"""One inference, whatever the protocol that it came by."""

from __future__ import annotations

import os

from edgewise.bundle import Manifest
from edgewise_agent.runtimes import Arrays
from edgewise_agent.serving import inference
from edgewise_agent.serving.http import Answer, Head, HttpError
from edgewise_agent.serving.inference import InferenceFailed, ServedModel
from edgewise_agent.serving.oip.messages import Request, read_request, write_answer
from edgewise_agent.serving.oip.tensors import FLOATS, BadTensor
from edgewise_agent.serving.quality import InputRefused


def infer(served: ServedModel, head: Head, body: memoryview) -> Answer:
    """One inference, from its body to its answer. Raises HttpError."""
    manifest = served.model.manifest
    try:
        length = head.number(b"inference-header-content-length")
        floats = all(tensor.datatype in FLOATS for tensor in manifest.inputs)
        request = read_request(body, length, floats=floats)
    except BadTensor as error:
        served.collector.count("refused")
        raise HttpError(400, str(error)) from error
    name, answer, outputs = run(served, request)
    return write_answer(manifest.model, answer.model_version, request, name, outputs, answer.parameters)


def run(served: ServedModel, request: Request) -> tuple[str, inference.Answer, Arrays]:
    """(id, answer, the outputs that are wanted of it) of a request. Raises HttpError."""
    try:
        wanted = _wanted(served.model.manifest, request.outputs)
    except BadTensor as error:
        served.collector.count("refused")
        raise HttpError(400, str(error)) from error
    name = request.id or os.urandom(16).hex()
    try:
        key = request.parameters.get("key")
        answer = served.answer(
            inference.Request(name, request.inputs, None if key is None else str(key), tuple(request.outputs))
        )
    except InputRefused as error:
        raise HttpError(400, str(error)) from error
    except InferenceFailed as error:
        raise HttpError(500, str(error)) from error
    return name, answer, {n: answer.outputs[n] for n in wanted}


def _wanted(manifest: Manifest, wished: dict[str, bool]) -> list[str]:
    names = [tensor.name for tensor in manifest.outputs]
    if not wished:
        return [name for name in names if name != manifest.embedding]
    unknown = [name for name in wished if name not in names]
    if unknown:
        raise BadTensor(f"outputs: expected some of {names}, got {unknown[0][:64]!r}")
    return list(wished)
