"""The plan of an experiment: how requests are shared, what is measured, and what ends it, as the row keeps it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from edgewise.errors import WireError
from edgewise.wire.codec import Message
from edgewise.wire.control import Role
from edgewise.wire.experiment import AB, CanaryRequests, Escalate, Policy, Shadow
from edgewise_hub.api.schemas import ExperimentIn
from edgewise_hub.experiments.errors import ExperimentError

Metric = Literal["accuracy", "agreement", "latency", "reward"]

METRICS: dict[str, tuple[Metric, ...]] = {
    "shadow": ("agreement", "accuracy"),
    "ab": ("accuracy",),
    "canary-requests": ("accuracy", "latency"),
    "interleave": ("reward",),
    "escalate": ("agreement",),
}
"""By kind, what can be measured without a bias; the first is the default. Latencies of an A/B are of different devices
or users, and a shadow runs in another thread, at a low priority, when its inputs are warm: neither compares."""
MARGINS: dict[Metric, float] = {"accuracy": 0.01, "agreement": 0.02, "latency": 0.1, "reward": 0.02}
_UNNAMED = "experiment"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``policy`` has no name or salt yet: see ``assign.policy``. ``margin``: differences up to it are none. ``block``:
    items of an arm that make one value; ``cap``: values that one device gives. ``devices``: share that takes part.
    ``max_*``: the guardrails, as ``api.schemas.GuardrailsIn`` describes them; None leaves one out."""

    policy: Policy
    metric: Metric
    margin: float
    min_samples: int
    alpha: float
    block: int
    cap: int
    devices: float
    max_failed: float
    max_errors: float | None
    max_latency_ratio: float | None

    @property
    def role(self) -> Role | None:
        """The duty of the candidate; None where it is a server."""
        match self.policy:
            case Shadow():
                return "shadow"
            case Escalate():
                return None
        return "candidate"

    @property
    def weight(self) -> float | None:
        """The candidate's share of what is split between two arms; None where nothing is split."""
        match self.policy:
            case AB(weight=weight):
                return weight
            case CanaryRequests(share=share):
                return share
        return None

    def to_json(self) -> dict[str, Any]:
        """For the row."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Plan:
        """From the row."""
        return msgspec.convert(content, cls)


class _Holder(Message, frozen=True, kw_only=True):
    policy: Policy


def make_plan(body: ExperimentIn) -> Plan:
    """The plan that was asked for. Raises ExperimentError (``bad-plan``)."""
    wished = body.policy.model_dump()
    try:
        policy = msgspec.convert({"policy": {**wished, "experiment": _UNNAMED}}, _Holder).policy
    except (msgspec.ValidationError, WireError) as error:
        raise ExperimentError(f"policy: {error}", code="bad-plan") from error
    kind = body.policy.kind
    metric = body.metric or METRICS[kind][0]
    if metric not in METRICS[kind]:
        raise ExperimentError(f"metric {metric} of {kind}: expected {' or '.join(METRICS[kind])}", code="bad-plan")
    if (kind == "escalate") != (body.candidate is None):
        wanted = "no candidate, since a server is asked" if kind == "escalate" else "a candidate version"
        raise ExperimentError(f"{kind}: expected {wanted}", code="bad-plan")
    by_device = isinstance(policy, AB)  # sticky units: what a device says twice is said once
    guards = body.guardrails
    return Plan(
        policy=policy,
        metric=metric,
        margin=MARGINS[metric] if body.margin is None else body.margin,
        min_samples=body.min_samples,
        alpha=body.alpha,
        block=body.block,
        cap=1 if by_device else body.cap,
        devices=body.devices,
        max_failed=guards.failed,
        max_errors=None if kind == "escalate" else guards.errors,
        max_latency_ratio=None if kind in ("escalate", "shadow") else guards.latency_ratio,
    )
