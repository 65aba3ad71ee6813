"""The paths of the Open Inference Protocol v2, over the models that are served.

    GET  /v2                                      server metadata
    GET  /v2/health/live, /v2/health/ready
    GET  /v2/models/{model}[/versions/{version}][/ready]
    POST /v2/models/{model}[/versions/{version}]/infer
    POST /v2/repository/index                     what is served; load and unload are the hub's, by a rollout
    POST /v2/models/{model}/feedback              ours: {"id": request id, "label": class}, or, of an interleaved
                                                  ranking, {"id": request id, "clicks": [item]} -> 204

Rules that hold here:
- errors are ``{"error": "..."}`` with 400, 403, 404, 405, 411, 413, 415, 431, 500 or 503;
- the embedding is answered only when asked for in ``outputs``; a request without an id is given one;
- parameters that the agent does not know are let pass; those that would change the answer (sequences, shared memory,
  classification) are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from edgewise.bundle import Manifest, Tensor
from edgewise_agent import __version__
from edgewise_agent.serving.channel import SampleTaken
from edgewise_agent.serving.connections import Connection
from edgewise_agent.serving.gate import Gate
from edgewise_agent.serving.http import Answer, Head, HttpError, decompress, json_answer, refuse_strangers
from edgewise_agent.serving.options import Options

if TYPE_CHECKING:
    from edgewise_agent.serving.inference import ServedModel

EXTENSIONS = ["binary_tensor_data", "model_repository"]
MAX_SMALL_BODY = 64 * 1024
"""Of everything but ``infer``."""
_NOT_OFFERED = {"config", "stats", "trace", "logging", "systemsharedmemory", "cudasharedmemory", "generate"}


class FeedbackRequest(msgspec.Struct, frozen=True):
    """The body of ``feedback``: one of the two. An item of a batch is ``id/index``; ``clicks`` are places of items in
    the ranking's output."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    label: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    clicks: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=64)] | None = None


class Api:
    """What ``Server`` serves. ``models`` may change while it does."""

    def __init__(
        self, models: dict[str, ServedModel], options: Options, sampled: Callable[[SampleTaken], None]
    ) -> None:
        self._models, self._options, self._sampled = models, options, sampled
        self._gates: dict[str, Gate[Connection]] = {}

    @cached_property
    def _infer(self) -> Callable[[ServedModel, Head, memoryview], Answer]:
        from edgewise_agent.serving.oip.infer import infer  # here: who serves no model needs no NumPy

        return infer

    def bound(self, head: Head) -> int:
        """Of a body. Raises HttpError for a stranger."""
        refuse_strangers(head)
        return self._options.max_body if head.path[-1:] == ("infer",) else MAX_SMALL_BODY

    def gate(self, head: Head) -> Gate[Connection] | None:
        """Inference waits its turn; everything else is answered at once."""
        match head.path:
            case ("v2", "models", model, *_, "infer") if model in self._models:
                gate = self._gates.get(model)
                if gate is None:
                    gate = self._gates.setdefault(
                        model, Gate(self._options.running, self._options.queue, together=self._options.batch > 1)
                    )
                return gate
        return None

    def answer(self, head: Head, body: memoryview) -> Answer:
        """The answer to one request. Raises HttpError."""
        match head.path:
            case ("v2", "models", model, *rest):
                return self._of_model(model, rest, head, body)
            case ("v2",):
                _only("GET", head)
                return json_answer(200, server_metadata())
            case ("v2", "health", "live" | "ready" as what):
                _only("GET", head)
                return json_answer(200, {what: True})
            case ("v2", "repository", "index"):
                _only("POST", head)
                return json_answer(200, [index(served.model.manifest) for served in list(self._models.values())])
            case ("v2", "repository", "models", model, "load" | "unload" as what):
                _only("POST", head)
                raise HttpError(400, f"{what} {model[:64]!r}: the hub decides what is served here, by a rollout")
        raise _nowhere(head)

    def _of_model(self, model: str, rest: list[str], head: Head, body: memoryview) -> Answer:
        served = self._models.get(model)
        if served is None:
            if model in _NOT_OFFERED and not rest:
                raise _nowhere(head)
            raise HttpError(404, f"no model {model[:64]!r} is served here; there is {sorted(self._models)}")
        manifest = served.model.manifest
        match rest:
            case ["versions", version, *rest]:
                if version != str(manifest.version):
                    raise HttpError(404, f"{model}: version {version[:20]} is not served here; {manifest.version} is")
        match rest:
            case ["infer"]:
                _only("POST", head)
                return self._infer(served, head, decompress(head, body, self._options.max_body))
            case ["feedback"]:
                _only("POST", head)
                return self._feedback(served, decompress(head, body, MAX_SMALL_BODY))
            case []:
                _only("GET", head)
                return json_answer(200, metadata(manifest))
            case ["ready"]:
                _only("GET", head)
                return json_answer(200, {"name": model, "ready": True})
        raise _nowhere(head)

    def _feedback(self, served: ServedModel, body: memoryview) -> Answer:
        try:
            request = msgspec.json.decode(body, type=FeedbackRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HttpError(400, f"feedback: {error}") from error
        if (request.label is None) == (request.clicks is None):
            raise HttpError(400, "feedback: expected label or clicks")
        try:
            if request.label is not None:
                counted = served.label(request.id, request.label, self._sampled)
            else:
                counted = served.click(request.id, request.clicks or [])
        except ValueError as error:
            raise HttpError(400, str(error)) from error
        if counted == "unknown":
            raise HttpError(404, f"feedback: no request {request.id!r} among the last ones")
        return Answer(204)


def server_metadata() -> dict[str, Any]:
    """Who serves, and what it can."""
    return {"name": "edgewise-agent", "version": __version__, "extensions": EXTENSIONS}


def metadata(manifest: Manifest) -> dict[str, Any]:
    """A model's metadata."""

    def described(tensors: list[Tensor]) -> list[dict[str, Any]]:
        return [{"name": t.name, "datatype": t.datatype, "shape": t.shape} for t in tensors]

    return {
        "name": manifest.model,
        "versions": [str(manifest.version)],
        "platform": manifest.runtime,
        "inputs": described(manifest.inputs),
        "outputs": described(manifest.outputs),
    }


def index(manifest: Manifest) -> dict[str, str]:
    """A model in the index of the repository."""
    return {"name": manifest.model, "version": str(manifest.version), "state": "READY", "reason": ""}


def _only(method: str, head: Head) -> None:
    got = "GET" if head.method == "HEAD" else head.method
    if got != method:
        raise HttpError(405, f"expected {method}, got {head.method}", {"allow": method})


def _nowhere(head: Head) -> HttpError:
    path = "/" + "/".join(head.path)
    named = next((part for part in head.path if part in _NOT_OFFERED), None)
    if named is not None:
        return HttpError(404, f"{path[:200]!r}: {named} is not among the extensions of this agent: {EXTENSIONS}")
    return HttpError(404, f"no such path: {path[:200]!r}; see the Open Inference Protocol v2")
