"""How a device serves: bounds, concurrency, batching, and what happens to inputs that do not look right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from edgewise.errors import EdgewiseError

Policy = Literal["pass", "flag", "refuse"]
"""Let through, counted; let through, counted and said in the answer's parameters; not run."""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to an input that fits the signature and does not look right. Every case is counted."""

    out_of_bounds: Policy = "pass"
    """A value outside the range of the reference."""
    not_finite: Policy = "refuse"
    """NaN or infinity. In an input of features ([-1, n]) NaN says that a feature is missing: ``missing``."""
    missing: Policy = "refuse"
    """NaN in an input of features."""
    unknown_inputs: Policy = "refuse"
    """An input that the model does not have; it is dropped where it is let through."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Of a serve child; the last four are of each of its models."""

    max_body: Annotated[int, msgspec.Meta(ge=1024, le=2**30)] = 8 * 1024 * 1024
    """Bytes of a request."""
    max_bodies: Annotated[int, msgspec.Meta(ge=1024, le=2**32)] = 32 * 1024 * 1024
    """Bytes of all requests that are held at a time."""
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 256
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

    @property
    def running(self) -> int:
        """Requests of a model that run at a time: a batch needs as many as it may hold."""
        return self.concurrency if self.batch == 1 else max(self.concurrency, self.batch)


PREFIX = "EDGEWISE_AGENT_"


class BadOption(EdgewiseError):
    """An option in the environment that cannot be read."""

    code = "bad-option"


def of_owner(environment: Mapping[str, str]) -> Options:
    """The owner's options: ``EDGEWISE_AGENT_SERVE_QUEUE``, ``EDGEWISE_AGENT_QUALITY_MISSING`` and so on for each field.

    Raises BadOption.
    """

    def chosen(kind: type[msgspec.Struct], group: str) -> dict[str, Any]:
        names = {name: f"{PREFIX}{group}_{name.upper()}" for name in kind.__struct_fields__}
        return {name: environment[variable] for name, variable in names.items() if environment.get(variable)}

    try:
        fields = {**chosen(Options, "SERVE"), "quality": chosen(Quality, "QUALITY")}
        return msgspec.convert(fields, Options, strict=False)
    except msgspec.ValidationError as error:
        raise BadOption(f"{PREFIX}SERVE_... and {PREFIX}QUALITY_...: {error}") from error
