"""Windows (a span reported), samples, and the ack that alone trims a device's spool. MessagePack; ack is JSON."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from edgewise.wire.codec import Count, Digest, Message, Name
from edgewise.wire.spans import Span

STREAM_WINDOWS = "inference"
STREAM_SAMPLES = "samples"

SketchBytes = Annotated[bytes, msgspec.Meta(max_length=8192)]


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over one window. ``inferences`` counts items answered (a batch of 8 is 8); the rest are of items too.

    ``errors``: the runtime failed. ``refused``: the input did not fit the signature. ``nonfinite_inputs`` and
    ``nonfinite_outputs``: NaN or infinity. ``out_of_bounds``: outside the range of the reference.
    ``labelled`` and ``correct``: feedback by request id; a label that comes ``late``, when the window of its answer is
    over, counts in a window of its own: of the install that answered, at the time when it did. ``repeated`` and
    ``unknown``: labels of an item that has one, and of no item that is remembered; they count nowhere else.
    ``energy_mj``: millijoules that the board drew while the install ran, estimated; 0 where the board does not tell.
    """

    inferences: Count = 0
    errors: Count = 0
    refused: Count = 0
    nonfinite_inputs: Count = 0
    nonfinite_outputs: Count = 0
    out_of_bounds: Count = 0
    labelled: Count = 0
    correct: Count = 0
    late: Count = 0
    repeated: Count = 0
    unknown: Count = 0
    energy_mj: Count = 0


Problem = Literal[
    "out_of_bounds", "not_finite", "missing", "unknown_inputs", "dropped_inputs", "wrong_shape", "wrong_dtype"
]
"""What an input can have against it. The last three are changes of schema, and are refused."""
MAX_FEATURES = 16
"""Named for one problem in one window: those with the most items."""
Feature = Annotated[str, msgspec.Meta(min_length=1, max_length=72)]
"""An input's name, or ``name[3]`` for a feature of it."""


class Window(Span, frozen=True, kw_only=True):
    """One span of one install's duty, about 1 KB. Merges only with windows of the same (model, bundle, duty, spec)."""

    bound: ClassVar[int] = 16 * 1024
    model: Name
    version: Count
    bundle: Digest
    duty: Literal["active", "shadow", "candidate"] = "active"
    spec: Digest
    """Digest of the sketch spec: windows of another spec are refused."""
    counters: Counters
    sketches: Annotated[dict[Name, SketchBytes], msgspec.Meta(max_length=32)]
    quality: Annotated[
        dict[Problem, Annotated[dict[Feature, Count], msgspec.Meta(max_length=MAX_FEATURES)]],
        msgspec.Meta(max_length=8),
    ] = {}
    """Of the features with the most items that have something against them: problem -> feature -> items."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One raw input with its label, if one came. ``input`` is the tensor's bytes in C order, without the batch axis."""

    request: Name
    input: Annotated[bytes, msgspec.Meta(max_length=96 * 1024)]
    label: int | None = None
    prediction: int | None = None
    at: float = 0.0


class Samples(Message, frozen=True, kw_only=True):
    """A batch of raw samples under the owner's opt-in; same identity and acknowledgement as a window."""

    bound: ClassVar[int] = 120 * 1024
    device: Name
    epoch: Count
    first: Count
    last: Count
    request_id: Name
    model: Name
    version: Count
    bundle: Digest
    dtype: Name
    shape: Annotated[list[Count], msgspec.Meta(max_length=8)]
    samples: Annotated[list[Sample], msgspec.Meta(max_length=1024)]


class Ack(Message, frozen=True, kw_only=True):
    """The highest sequence up to which **everything** of ``epoch`` is committed to the hub's database."""

    stream: Name
    epoch: Count
    sequence: Count
    at: float = 0.0
    """Unix seconds by the hub's clock, between its receipt of ``sequence`` and this ack; 0: it did not say."""
