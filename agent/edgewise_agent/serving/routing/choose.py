"""Which duty answers a request, and whether a shadow sees it too. Pure: (policy, request) -> role.

Rules that hold here:
- a choice is a hash of the experiment and a unit, never a coin: it is sticky, and another process chooses the same;
- a request id or a key is the application's word and may repeat: then so does the choice.
"""

from __future__ import annotations

from typing import Literal

from edgewise.wire.control import Role
from edgewise.wire.experiment import AB, CanaryRequests, Interleave, Policy, Shadow, draw

Answering = Literal["active", "candidate"]


def needed(policy: Policy | None) -> Role | None:
    """Which install a policy needs beside the active one, if any."""
    match policy:
        case AB() | CanaryRequests() | Interleave():
            return "candidate"
        case Shadow():
            return "shadow"
    return None


def choose(policy: Policy | None, *, request: str, key: str | None, device: str) -> Answering:
    """Who answers. ``request``: its id; ``key``: what the application draws by, such as a user; ``device``: our name.

    An A/B by key counts a request without a key by its device, so that one application is not split unawares.
    """
    match policy:
        case AB(weight=weight, by=by):
            by_key = by == "key" and key is not None
            unit = f"key:{key}" if by_key else f"device:{device}"
            return "candidate" if draw(policy, unit) < weight else "active"
        case CanaryRequests(share=share):
            return "candidate" if draw(policy, request) < share else "active"
    return "active"


def mirrored(policy: Policy | None, *, request: str) -> bool:
    """Does the shadow see this request, after its answer has gone out?"""
    return isinstance(policy, Shadow) and draw(policy, request) < policy.share
