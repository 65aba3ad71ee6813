"""The Open Inference Protocol v2 (REST, JSON tensors) on localhost: parsing and answers only.

    GET  /v2                                      server metadata
    GET  /v2/health/live, /v2/health/ready
    GET  /v2/models/{model}[/versions/{version}][/ready]
    POST /v2/models/{model}[/versions/{version}]/infer
    POST /v2/models/{model}/feedback              ours: {"id": request id, "label": class} -> 204

Rules that hold here:
- errors are ``{"error": "..."}`` with 400, 403, 404, 405, 413, 500 or 503;
- a body is at most ``MAX_BODY``, and so much may be in flight: ``MAX_IN_FLIGHT`` requests, ``MAX_BODIES`` bytes;
- a request whose Host is not this machine's is refused: a web page must not reach the model through a name of its own;
- the embedding is answered only when asked for in ``outputs``; a request without an id is given one.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Annotated, Any

import msgspec
import numpy as np

from edgewise.bundle import Datatype, Manifest
from edgewise.errors import EdgewiseError
from edgewise.wire.codec import Name
from edgewise_agent import __version__
from edgewise_agent.runtimes import Arrays
from edgewise_agent.runtimes.tensors import NUMPY
from edgewise_agent.serving.channel import SampleTaken
from edgewise_agent.serving.inference import InferenceFailed, ServedModel
from edgewise_agent.serving.quality import InputRefused

MAX_BODY = 8 * 1024 * 1024
MAX_BODIES = 32 * 1024 * 1024
MAX_IN_FLIGHT = 64
PATIENCE = 4
"""Up to so many times its bound, a body that is too large is read to its end before it is refused."""
_HOSTS = {"127.0.0.1", "localhost", "[::1]"}

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class TensorIn(msgspec.Struct, frozen=True):
    """One input tensor; ``data`` flat or nested, in row-major order."""

    name: str
    datatype: Datatype
    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=0, lt=2**31)]], msgspec.Meta(max_length=8)]
    data: list[Any]


class OutputWish(msgspec.Struct, frozen=True):
    """An output that shall be answered."""

    name: str


class InferRequest(msgspec.Struct, frozen=True):
    """The body of ``infer``; ``parameters`` are accepted and mean nothing yet."""

    inputs: Annotated[list[TensorIn], msgspec.Meta(min_length=1, max_length=32)]
    id: Name | None = None
    outputs: Annotated[list[OutputWish], msgspec.Meta(max_length=32)] | None = None


class FeedbackRequest(msgspec.Struct, frozen=True):
    """The body of ``feedback``. An item of a batch is ``id/index``."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    label: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class HttpError(EdgewiseError):
    """An answer that is not 2xx."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}


class App:
    """ASGI application over the served models. ``draining``: each answer closes its connection."""

    def __init__(self, models: dict[str, ServedModel], pool: Executor, sampled: Callable[[SampleTaken], None]) -> None:
        self.models, self.draining = models, False
        self._pool, self._sampled = pool, sampled
        self._in_flight = self._bodies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            return
        headers: dict[str, str] = {}
        try:
            status, answer = await self._answer(scope, receive)
        except HttpError as error:
            status, answer, headers = error.status, {"error": str(error)}, error.headers
        body = b"" if answer is None else msgspec.json.encode(answer)
        if status != 204:
            headers = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        if self.draining:
            headers["connection"] = "close"
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, object]:
        host = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"host"), "localhost")
        if (host if host.endswith("]") else host.rpartition(":")[0] or host) not in _HOSTS:
            raise HttpError(403, f"host {host[:100]!r}: expected 127.0.0.1 or localhost")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        match [part for part in scope["path"].split("/") if part]:
            case ["v2"]:
                self._only("GET", method)
                return 200, {"name": "edgewise-agent", "version": __version__, "extensions": []}
            case ["v2", "health", "live"]:
                self._only("GET", method)
                return 200, {"live": True}
            case ["v2", "health", "ready"]:
                self._only("GET", method)
                return 200, {"ready": True}
            case ["v2", "models", model, "feedback"]:
                self._only("POST", method)
                return await self._feedback(self._model(model), scope, receive)
            case ["v2", "models", model, *rest]:
                served = self._model(model)
                if rest[:1] == ["versions"] and len(rest) >= 2:
                    self._version(served, rest[1])
                    rest = rest[2:]
                if rest == ["infer"]:
                    self._only("POST", method)
                    return await self._infer(served, scope, receive)
                if rest in ([], ["ready"]):
                    self._only("GET", method)
                    manifest = served.model.manifest
                    return 200, {"name": model, "ready": True} if rest else _metadata(manifest)
        raise HttpError(404, f"no such path: {scope['path'][:200]!r}; see the Open Inference Protocol v2")

    def _only(self, expected: str, method: str) -> None:
        if method != expected:
            raise HttpError(405, f"expected {expected}, got {method}", {"allow": expected})

    def _model(self, name: str) -> ServedModel:
        if name not in self.models:
            raise HttpError(404, f"no model {name[:64]!r} is served here; there is {sorted(self.models)}")
        return self.models[name]

    def _version(self, served: ServedModel, version: str) -> None:
        manifest = served.model.manifest
        if version != str(manifest.version):
            raise HttpError(404, f"{manifest.model}: version {version[:20]} is not served here; {manifest.version} is")

    async def _infer(self, served: ServedModel, scope: Scope, receive: Receive) -> tuple[int, object]:
        if self._in_flight >= MAX_IN_FLIGHT:
            raise HttpError(503, f"at most {MAX_IN_FLIGHT} requests at a time", {"retry-after": "1"})
        self._in_flight += 1
        size = 0
        try:
            body = await self._body(scope, receive, MAX_BODY)
            size = len(body)
            self._bodies += size
            if self._bodies > MAX_BODIES:
                raise HttpError(503, f"at most {MAX_BODIES} bytes of requests at a time", {"retry-after": "1"})
            # Parsing and inference both take their time: neither on the event loop.
            return 200, await asyncio.get_running_loop().run_in_executor(self._pool, _infer, served, body)
        finally:
            self._bodies -= size
            self._in_flight -= 1

    async def _feedback(self, served: ServedModel, scope: Scope, receive: Receive) -> tuple[int, object]:
        try:
            request = msgspec.json.decode(await self._body(scope, receive, 4096), type=FeedbackRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HttpError(400, f"feedback: {error}") from error
        if not served.label(request.id, request.label, self._sampled):
            raise HttpError(404, f"feedback: no request {request.id!r} among the last ones")
        return 204, None

    async def _body(self, scope: Scope, receive: Receive, bound: int) -> bytes:
        too_large = HttpError(413, f"a body of at most {bound} bytes is accepted", {"connection": "close"})
        length = int(next((v for k, v in scope["headers"] if k == b"content-length"), b"0"))
        body, seen, more = bytearray(), 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HttpError(400, "the client went away")
            part, more = message.get("body", b""), message.get("more_body", False)
            seen += len(part)
            # A client that sends before it listens would lose the answer: somewhat too much is read, and forgotten.
            if max(seen, length) > PATIENCE * bound:
                raise too_large
            if seen <= bound:
                body += part
        if seen > bound:
            raise too_large
        return bytes(body)


def _metadata(manifest: Manifest) -> dict[str, object]:
    def tensors(what: list[Any]) -> list[dict[str, object]]:
        return [{"name": t.name, "datatype": t.datatype, "shape": t.shape} for t in what]

    return {
        "name": manifest.model,
        "versions": [str(manifest.version)],
        "platform": manifest.runtime,
        "inputs": tensors(manifest.inputs),
        "outputs": tensors(manifest.outputs),
    }


def _infer(served: ServedModel, body: bytes) -> dict[str, object]:
    """Body in, answer out; on a thread of the inference pool."""
    manifest = served.model.manifest
    try:
        request = msgspec.json.decode(body, type=InferRequest)
        inputs = {tensor.name: array_of(tensor) for tensor in request.inputs}
        names = [t.name for t in manifest.outputs]
        wanted = [n for n in names if n != manifest.embedding]
        if request.outputs:
            wanted = [wish.name for wish in request.outputs]
            unknown = sorted(set(wanted) - set(names))
            if unknown:
                raise ValueError(f"outputs: expected some of {names}, got {unknown[0][:64]!r}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        served.collector.count("refused")
        raise HttpError(400, str(error)) from error
    name = request.id or uuid.uuid4().hex
    try:
        outputs = served.infer(name, inputs)
    except InputRefused as error:
        raise HttpError(400, str(error)) from error
    except InferenceFailed as error:
        raise HttpError(500, str(error)) from error
    return {
        "model_name": manifest.model,
        "model_version": str(manifest.version),
        "id": name,
        "outputs": _tensors_out(manifest, outputs, wanted),
    }


def array_of(tensor: TensorIn) -> np.ndarray[Any, np.dtype[np.generic]]:
    """A JSON tensor as an array of its datatype. Raises ValueError for data that is not of it."""
    if tensor.datatype not in NUMPY:
        raise ValueError(f"input {tensor.name[:64]}: {tensor.datatype} is not served here")
    data = np.asarray(tensor.data)  # ragged data raises ValueError here
    kinds = {"BOOL": "b", "FP16": "iuf", "FP32": "iuf", "FP64": "iuf"}.get(tensor.datatype, "iu")
    if data.size and data.dtype.kind not in kinds:
        raise ValueError(f"input {tensor.name[:64]}: expected data of {tensor.datatype}")
    if data.size != math.prod(tensor.shape):
        raise ValueError(f"input {tensor.name[:64]}: shape {tensor.shape} does not hold {data.size} values")
    dtype = NUMPY[tensor.datatype]
    if data.size and kinds == "iu":
        limits = np.iinfo(np.dtype(dtype).str)
        if data.min() < limits.min or data.max() > limits.max:
            raise ValueError(f"input {tensor.name[:64]}: a value is out of the range of {tensor.datatype}")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinity, which the quality check names
        return data.astype(dtype).reshape(tensor.shape)


def _tensors_out(manifest: Manifest, outputs: Arrays, wanted: list[str]) -> list[dict[str, object]]:
    datatypes = {tensor.name: tensor.datatype for tensor in manifest.outputs}
    return [
        {
            "name": name,
            "datatype": datatypes[name],
            "shape": list(outputs[name].shape),
            "data": outputs[name].ravel().tolist(),
        }
        for name in wanted
    ]
