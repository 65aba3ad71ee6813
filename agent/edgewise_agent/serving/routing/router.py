"""Which strategy carries out a policy. A new one: one file, and a case here and in ``choose.needed``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edgewise.bundle import Manifest
from edgewise.errors import EdgewiseError
from edgewise.wire.experiment import AB, CanaryRequests, Escalate, Interleave, Policy, Shadow
from edgewise_agent.serving.inference import Answer, Request
from edgewise_agent.serving.routing.arms import Arms
from edgewise_agent.serving.routing.escalation import Ask, Escalation
from edgewise_agent.serving.routing.interleaving import Interleaving
from edgewise_agent.serving.routing.shadowing import Shadowing
from edgewise_agent.serving.routing.sharing import Sharing


class CannotShare(EdgewiseError):
    """Two installs that do not take and give the same cannot share requests."""

    code = "other-signature"


def check_same(active: Manifest, other: Manifest) -> None:
    """Do both take the same inputs and give the same outputs? Raises CannotShare."""
    if (active.inputs, active.outputs, active.scores) != (other.inputs, other.outputs, other.scores):
        raise CannotShare(
            f"expected the inputs and outputs of version {active.version}: {active.inputs} -> {active.outputs}, "
            f"got {other.inputs} -> {other.outputs}"
        )


class Strategy(Protocol):
    """Answers requests, as a policy says, while its experiment goes on."""

    @property
    def policy(self) -> Policy:
        """What it carries out."""

    def answer(self, request: Request) -> Answer:
        """Answer one request. Raises as the active install does."""

    def close(self) -> None:
        """Its time is over."""


def strategy(policy: Policy, arms: Arms, ask: Callable[[Escalate], Ask]) -> Strategy:
    """``ask``: how a server is asked, for who escalates."""
    match policy:
        case AB() | CanaryRequests():
            return Sharing(policy, arms)
        case Shadow():
            return Shadowing(policy, arms)
        case Interleave():
            return Interleaving(policy, arms)
        case Escalate():
            return Escalation(policy, arms, ask(policy))
