"""Control messages between hub and device: desired, reported, presence, progress. JSON."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from edgewise.wire.codec import Count, Digest, Message, Name, Text
from edgewise.wire.experiment import Policy
from edgewise.wire.quality import Quality

Role = Literal["active", "shadow", "candidate"]
"""A duty's kind. ``shadow`` runs after the answer is out; ``candidate`` is the other arm of an A/B, of a canary by
requests or of an interleaving."""


class Duty(msgspec.Struct, frozen=True, kw_only=True):
    """One install's duty. ``bundle``: digest of its signed manifest's bytes; ``size``: their number."""

    bundle: Digest
    size: Count
    version: Count
    release: Count


class SampleRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The hub asks for raw samples. The device sends none unless its owner consented, and never past either budget."""

    id: Name
    count: Count
    bytes: Count


class DesiredModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a device shall do for one model. ``floor``: the lowest release that the device may ever serve."""

    duties: Annotated[dict[Role, Duty], msgspec.Meta(max_length=3)]
    policy: Policy | None = None
    """How requests are shared between the duties; None: ``active`` answers all of them."""
    quality: Quality = Quality()
    floor: Count = 0
    window_s: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 60.0
    trial_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 30.0
    samples: SampleRequest | None = None


Hours = Annotated[str, msgspec.Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]\Z")]
"""A daily span of local time, ``22:00-06:00``; the end is outside."""


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """Limits on downloads: ``bytes_s`` on average (None: none), and none at all within the ``quiet`` hours."""

    bytes_s: Annotated[int, msgspec.Meta(ge=1024, lt=2**40)] | None = None
    quiet: Annotated[list[Hours], msgspec.Meta(max_length=8)] = []


class Desired(Message, frozen=True, kw_only=True):
    """The whole wish for one device; travels in a signed envelope. Times are Unix seconds."""

    bound: ClassVar[int] = 64 * 1024
    tenant: Name
    device: Name
    profile: Name
    generation: Count
    models: Annotated[dict[Name, DesiredModel], msgspec.Meta(max_length=64)]
    issued_at: float
    not_before: float
    not_after: float
    transfer: Transfer = Transfer()


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a bundle is not served: a stable ``code``, a sentence, and the generation in which it was tried."""

    bundle: Digest
    generation: Count
    code: Name
    reason: Text
    log_tail: Text = ""


class ReportedModel(msgspec.Struct, frozen=True, kw_only=True):
    """Installed, running and confirmed are three things, and reported apart."""

    installed: Annotated[list[Digest], msgspec.Meta(max_length=16)] = []
    running: Digest | None = None
    confirmed: Digest | None = None
    failed: Annotated[list[Failure], msgspec.Meta(max_length=8)] = []


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """What the device's owner opted in to, and how much of it is spent."""

    count: Count
    bytes: Count
    sent_count: Count = 0
    sent_bytes: Count = 0


class Reported(Message, frozen=True, kw_only=True):
    """What a device is. ``facts`` are measured on the device (machine, cores, memory_mb, runtime versions, url...)."""

    bound: ClassVar[int] = 64 * 1024
    device: Name
    profile: Name
    agent: Text
    generation: Count
    models: Annotated[dict[Name, ReportedModel], msgspec.Meta(max_length=64)] = {}
    rejected: Failure | None = None
    consent: dict[Name, Consent] = {}
    facts: Annotated[dict[Name, str | int | float | bool], msgspec.Meta(max_length=64)] = {}
    at: float = 0.0


class Presence(Message, frozen=True, kw_only=True):
    """Birth (online) and will (offline) on one topic; an offline of a ``session`` older than the newest is stale."""

    device: Name
    online: bool
    session: Count


Step = Literal["downloading", "installed", "trial", "confirmed", "failed", "rejected"]


class Progress(Message, frozen=True, kw_only=True):
    """How far one bundle has come on one device; ``done`` and ``total`` are bytes while downloading."""

    device: Name
    generation: Count
    model: Name
    bundle: Digest
    step: Step
    done: Count = 0
    total: Count = 0
    code: Text = ""
    reason: Text = ""
    log_tail: Text = ""
