"""What devices say of themselves, taken in; and, from that, where each model on a device stands and why.

``handle_*`` are inbox handlers (``mqtt.inbox.Handler``): they keep the newest ``reported``, ``presence`` and, a model,
``progress`` message of each device. ``standing`` is pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from sqlalchemy.orm import Session

from edgewise.errors import WireError
from edgewise.wire.codec import decode_json
from edgewise.wire.control import Presence, Progress, Reported, ReportedModel
from edgewise_hub.fleet.tables import Device
from edgewise_hub.mqtt.inbox import Inbound, Outcome, Refusal

M = TypeVar("M", Reported, Presence, Progress)

State = Literal["none", "pending", "trial", "confirmed", "failed"]

MAX_MODELS = 64
"""Models whose progress is kept a device: what a desired state may hold."""


def handle_reported(session: Session, messages: list[Inbound]) -> Outcome:
    """Keep each device's newest reported state."""
    outcome = Outcome()
    for device, message, reported in _decoded(session, messages, Reported, outcome):
        if reported.profile != device.profile:
            reason = f"expected profile {device.profile}, as enrolled, got {reported.profile}"
            outcome.refusals.append(Refusal(device.id, message.topic.kind, "other-profile", reason))
            continue
        device.reported = msgspec.to_builtins(reported)
        outcome.events.append(("device", device.id))
    return outcome


def handle_presence(session: Session, messages: list[Inbound]) -> Outcome:
    """Who is online. A will of a session older than the newest seen is stale: the device has connected again since."""
    outcome = Outcome()
    for device, _message, presence in _decoded(session, messages, Presence, outcome):
        if presence.session < device.session:
            continue
        device.session = presence.session
        device.online = presence.online
        outcome.events.append(("device", device.id))
    return outcome


def handle_progress(session: Session, messages: list[Inbound]) -> Outcome:
    """Keep each device's newest progress of each model; one of an older generation is late, and ignored."""
    outcome = Outcome()
    for device, message, progress in _decoded(session, messages, Progress, outcome):
        kept: dict[str, Any] = dict(device.progress or {})
        if progress.model in kept and kept[progress.model]["generation"] > progress.generation:
            continue
        if progress.model not in kept and len(kept) >= MAX_MODELS:
            reason = f"at most {MAX_MODELS} models a device"
            outcome.refusals.append(Refusal(device.id, message.topic.kind, "too-many-models", reason))
            continue
        kept[progress.model] = msgspec.to_builtins(progress)
        device.progress = kept
        outcome.events.append(("device", device.id))
    return outcome


def _decoded(
    session: Session, messages: list[Inbound], kind: type[M], outcome: Outcome
) -> list[tuple[Device, Inbound, M]]:
    """The messages that are good, with their devices; the others become refusals."""
    good = []
    for message in messages:
        sender = message.topic.device
        device = session.get(Device, (message.topic.tenant, sender))
        try:
            if device is None:
                raise WireError("it is not enrolled here", code="unknown-device")
            content = decode_json(message.payload, kind)
            if content.device != sender:
                raise WireError(f"{sender} may not speak for {content.device}", code="other-device")
            good.append((device, message, content))
        except WireError as error:
            outcome.refusals.append(Refusal(sender, message.topic.kind, error.code, str(error)))
    return good


class Wish(NamedTuple):
    """What is wished for of one model: the assigned ``version``, the ``bundle`` that the device was told (None: not
    compiled for its profile, or not told yet), and the newest desired ``generation``."""

    version: int
    bundle: str | None
    generation: int


class Standing(NamedTuple):
    """Where a model on a device stands; ``reason`` answers "why is it not at the wished version?", else is empty."""

    state: State
    reason: str = ""


def standing(
    wish: Wish | None,
    device: Device,
    reported: Reported | None,
    model: str,
    *,
    has_bundle: bool,
) -> Standing:
    """Compare wish and report of one model. ``has_bundle``: is the wished version compiled for the device's profile?"""
    if wish is None:
        return Standing("none")
    if not has_bundle:
        return Standing("pending", f"version {wish.version} is not compiled for {device.profile}")
    there = reported.models.get(model, ReportedModel()) if reported else ReportedModel()
    if wish.bundle is not None and there.confirmed == wish.bundle == there.running:
        return Standing("confirmed")
    for failure in there.failed:
        if failure.bundle == wish.bundle:
            return Standing("failed", f"{failure.code}: {failure.reason}")
    if wish.bundle is not None and there.running == wish.bundle:
        return Standing("trial", "in its trial, not confirmed yet")
    if device.revoked_at is not None:
        return Standing("pending", "the device is revoked")
    if not device.online:
        return Standing("pending", "offline" if device.last_seen else "it has never connected")
    if reported is not None and reported.rejected and reported.rejected.generation >= wish.generation:
        return Standing(
            "pending", f"it rejects the desired state: {reported.rejected.code}: {reported.rejected.reason}"
        )
    step = _step(device.progress, model, wish)
    if step:
        return Standing("pending", step)
    seen = reported.generation if reported else 0
    if seen < wish.generation:
        return Standing("pending", f"waiting for generation {wish.generation}, the device has seen {seen}")
    return Standing("pending", "installing")


def _step(progress: Mapping[str, Any] | None, model: str, wish: Wish) -> str:
    """The newest step in words, when it is of the wished bundle."""
    newest = (progress or {}).get(model)
    if newest is None or newest["bundle"] != wish.bundle:
        return ""
    if newest["step"] == "downloading":
        return f"downloading, {newest['done']} of {newest['total']} bytes"
    return str(newest["step"])


def decode_reported(device: Device) -> Reported | None:
    """The stored report as a message; None when there is none."""
    return msgspec.convert(device.reported, Reported) if device.reported else None
