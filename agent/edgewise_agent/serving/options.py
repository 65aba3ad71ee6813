"""How a device serves: bounds, concurrency, batching, and what happens to inputs that do not look right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from edgewise.errors import EdgewiseError
from edgewise.wire.quality import Quality


class Privacy(msgspec.Struct, frozen=True, kw_only=True):
    """Differential privacy of what windows say of inputs and answers (``edgewise.sketch.privacy``)."""

    epsilon: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None
    """Of one window, at ``delta``; None: no noise."""
    delta: Annotated[float, msgspec.Meta(gt=0, lt=0.1)] = 1e-6
    """The chance that ``epsilon`` does not hold."""
    limit: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """The epsilon of all windows of a model together after which they hold no sketches; None: they always do."""

    @property
    def on(self) -> bool:
        """Is there noise?"""
        return self.epsilon is not None


TokenPlace = Annotated[str, msgspec.Meta(max_length=1024, pattern=r"^[^=\s]+=(file:/|env:)[^\s]+\Z")]
_LISTS = ("escalate_to", "escalate_tokens")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Of a serve child. ``concurrency``, ``queue``, ``batch`` and ``batch_wait_s`` are of each of its models."""

    max_body: Annotated[int, msgspec.Meta(ge=1024, le=2**30)] = 8 * 1024 * 1024
    """Bytes of a request."""
    max_bodies: Annotated[int, msgspec.Meta(ge=1024, le=2**32)] = 32 * 1024 * 1024
    """Bytes of all requests that are held at a time."""
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 256
    """Connections that are open at a time."""
    idle_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """Seconds that a connection may be silent between requests."""
    receive_s: Annotated[float, msgspec.Meta(gt=0)] = 20.0
    """Seconds from a request's first byte to its last, and for a client to take its answer."""
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    """Requests of a model that run at a time; with batching, as many as a batch may hold."""
    queue: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 64
    """Requests of a model that wait; more are answered 503."""
    batch: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """Items that are run as one; 1: no batching."""
    batch_wait_s: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.002
    """Seconds that the first request of a batch waits for others."""
    quality: Quality = Quality()
    """The owner's word, which goes before the desired state's."""
    privacy: Privacy = Privacy()
    """The owner's word alone."""
    escalate_to: Annotated[list[str], msgspec.Meta(max_length=16)] = []
    """Hosts (``server.example`` or ``server.example:8443``) that inputs may be sent to, by a desired state that wants
    low confidence escalated; none: none leaves the device."""
    escalate_tokens: Annotated[list[TokenPlace], msgspec.Meta(max_length=16)] = []
    """Where the bearer tokens of such hosts lie: ``server.example=file:/etc/edgewise/token`` or
    ``server.example:8443=env:TOKEN_OF_IT``. Each goes to its host alone; none: servers are asked without."""
    memory_mb: Annotated[int, msgspec.Meta(ge=16, lt=2**31)] | None = None
    """That the serve child may take before it is replaced; None: as the device profile says."""
    grpc_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    """Port of 127.0.0.1 on which gRPC is answered (``edgewise-agent[grpc]``); None: it is not."""
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    """Of one model at most; None: as the device profile says."""

    @property
    def running(self) -> int:
        """Requests of a model that run at a time: a batch needs as many as it may hold."""
        return self.concurrency if self.batch == 1 else max(self.concurrency, self.batch)


PREFIX = "EDGEWISE_AGENT_"


class BadOption(EdgewiseError):
    """An option in the environment that cannot be read."""

    code = "bad-option"


def of_owner(environment: Mapping[str, str]) -> Options:
    """The owner's options: ``EDGEWISE_AGENT_SERVE_QUEUE``, ``EDGEWISE_AGENT_QUALITY_MISSING``,
    ``EDGEWISE_AGENT_PRIVACY_EPSILON`` and so on for each field; lists have commas. Raises BadOption.
    """

    def chosen(kind: type[msgspec.Struct], group: str) -> dict[str, Any]:
        names = {name: f"{PREFIX}{group}_{name.upper()}" for name in kind.__struct_fields__}
        return {
            name: [part.strip() for part in environment[variable].split(",")]
            if name in _LISTS
            else environment[variable]
            for name, variable in names.items()
            if environment.get(variable)
        }

    try:
        fields = {
            **chosen(Options, "SERVE"),
            "quality": chosen(Quality, "QUALITY"),
            "privacy": chosen(Privacy, "PRIVACY"),
        }
        return msgspec.convert(fields, Options, strict=False)
    except msgspec.ValidationError as error:
        raise BadOption(f"{PREFIX}SERVE_..., {PREFIX}QUALITY_... and {PREFIX}PRIVACY_...: {error}") from error
