"""Experiments on a device: how requests are shared between two installs, and the sums that are reported of each.

Rules that hold here:
- every statistic is a sum of integers, so that ``merge`` is exact, associative and commutative;
- a draw depends on the experiment, its salt and the unit alone: it is sticky, and the same on every side;
- an ``Experiment`` is one message a window, at most 4 KB, with the identity and the ack of a window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeVar

import msgspec

from edgewise.wire.codec import Count, Name
from edgewise.wire.spans import Span

STREAM_EXPERIMENT = "experiment"

CLASSES = 11
"""Rows and columns of a confusion: classes 0..9 and, in the last, all above."""
CALIBRATION_BINS = 10
"""Bins of confidence, equally wide in [0, 1]."""
DISTANCE_BINS = 32
"""Of relative L2 distance: bin 0 holds all below 2**-24, then one an octave; the last holds all above."""

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Bin = Annotated[int, msgspec.Meta(ge=0, lt=128)]
Bins = Annotated[dict[Bin, Count], msgspec.Meta(max_length=128)]
"""A sparse histogram: bin -> count."""


class _Policy(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """``experiment`` names it in what is reported; another ``salt`` draws anew."""

    experiment: Name
    salt: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Shadow(_Policy, frozen=True, kw_only=True, tag="shadow"):
    """A share of the requests, by request id, is also run by the ``shadow``, after the answer has gone out."""

    share: Share = 1.0


class AB(_Policy, frozen=True, kw_only=True, tag="ab"):
    """``weight``: share of the units that the ``candidate`` answers. A request without a key counts by its device."""

    weight: Share = 0.5
    by: Literal["key", "device"] = "key"


class CanaryRequests(_Policy, frozen=True, kw_only=True, tag="canary-requests"):
    """The ``candidate`` answers a share of the requests, by request id."""

    share: Share = 0.05


class Interleave(_Policy, frozen=True, kw_only=True, tag="interleave"):
    """Team-draft interleaving of the rankings that ``active`` and ``candidate`` give in ``output``: scores [1, items]
    or [items] of one request, floats, at most 1024 items. The answer has scores that rank as drafted."""

    output: Name


class Escalate(_Policy, frozen=True, kw_only=True, tag="escalate"):
    """Where the largest softmax probability is below ``threshold``, a server's OIP endpoint is asked. ``url``: up to
    ``/v2``, https unless it is this machine, and a host that the device's owner allows. The local answer stands where
    the server fails or the budget is spent: ``bytes_per_day``, sent and received, by UTC days."""

    threshold: Share
    url: Annotated[str, msgspec.Meta(max_length=512, pattern=r"^https?://[^\s@]+\Z")]
    model: Name
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=30)] = 1.0
    bytes_per_day: Count = 16 * 1024 * 1024


S = TypeVar("S", bound=msgspec.Struct)

Policy = Shadow | AB | CanaryRequests | Interleave | Escalate


def draw(policy: Policy, unit: str) -> float:
    """Where a unit (a request id, a key, a device) lies in [0, 1): the same for ever, uniform over units."""
    text = "\0".join((policy.experiment, policy.salt, unit))
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11) / 2.0**53


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """What one install saw in an experiment. ``latency`` has the bins of ``sketch.LatencySketch``; ``confusion`` the
    bins ``truth * CLASSES + prediction``; ``confident`` and ``right`` are items labelled and correct by bin of
    confidence; ``clicks`` and ``wins`` (requests that it won, see Radlinski et al. 2008) come of interleaving."""

    requests: Count = 0
    errors: Count = 0
    latency: Bins = {}
    labelled: Count = 0
    correct: Count = 0
    confusion: Bins = {}
    confident: Bins = {}
    right: Bins = {}
    clicks: Count = 0
    wins: Count = 0


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A shadow's answers held against those that went out. ``dropped``: not run, since too many waited."""

    compared: Count = 0
    agreed: Count = 0
    distance: Bins = {}
    dropped: Count = 0


class Escalated(msgspec.Struct, frozen=True, kw_only=True):
    """What went to a server. ``fallbacks``: asked, or wished to, and answered here; ``bytes``: sent and received."""

    asked: Count = 0
    answered: Count = 0
    fallbacks: Count = 0
    changed: Count = 0
    bytes: Count = 0


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an experiment adds up. ``ties``: interleaved requests that both won."""

    arms: Annotated[dict[Literal["active", "shadow", "candidate"], Arm], msgspec.Meta(max_length=3)] = {}
    compared: Compared = Compared()
    escalated: Escalated = Escalated()
    ties: Count = 0


class Experiment(Span, frozen=True, kw_only=True):
    """One window of one experiment on one device. ``versions``: role -> version that had it."""

    bound: ClassVar[int] = 4096
    model: Name
    experiment: Name
    kind: Name
    versions: Annotated[dict[Name, Count], msgspec.Meta(max_length=3)]
    sums: Sums


def merge(a: Sums, b: Sums) -> Sums:
    """Both together."""
    roles = sorted({*a.arms, *b.arms})
    return Sums(
        arms={role: _add(a.arms.get(role, Arm()), b.arms.get(role, Arm())) for role in roles},
        compared=_add(a.compared, b.compared),
        escalated=_add(a.escalated, b.escalated),
        ties=a.ties + b.ties,
    )


def add_bins(a: Mapping[int, int], b: Mapping[int, int]) -> dict[int, int]:
    """Two sparse histograms together."""
    return {bin: a.get(bin, 0) + b.get(bin, 0) for bin in sorted({*a, *b})}


def _add(a: S, b: S) -> S:
    """Field by field: counts and histograms."""
    added: dict[str, int | dict[int, int]] = {}
    for name in a.__struct_fields__:
        x, y = getattr(a, name), getattr(b, name)
        added[name] = x + y if isinstance(x, int) else add_bins(x, y)
    return type(a)(**added)
