"""Every MQTT topic, built and parsed in one place: ``ew/1/{tenant}/d/{device}/...``, at most 7 slashes."""

from __future__ import annotations

import re
from typing import NamedTuple

from edgewise.errors import WireError

ROOT = "ew/1"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


class Topic(NamedTuple):
    """A device's topic, parsed: ``kind`` is desired, reported, presence, progress, windows, ack, blob, sample."""

    tenant: str
    device: str
    kind: str
    rest: str


def base(tenant: str, device: str) -> str:
    """``ew/1/{tenant}/d/{device}``; raises WireError for a name that could widen a topic (``/``, ``+``, ``#``)."""
    _check(tenant, device)
    return f"{ROOT}/{tenant}/d/{device}"


def desired(tenant: str, device: str) -> str:
    """hub -> device, retained: the signed desired state."""
    return f"{base(tenant, device)}/desired"


def reported(tenant: str, device: str) -> str:
    """device -> hub, retained."""
    return f"{base(tenant, device)}/reported"


def presence(tenant: str, device: str) -> str:
    """device -> hub, retained: birth and will on one topic."""
    return f"{base(tenant, device)}/presence"


def progress(tenant: str, device: str, generation: int) -> str:
    """device -> hub: how far one generation has come."""
    return f"{base(tenant, device)}/progress/{generation}"


def windows(tenant: str, device: str, stream: str) -> str:
    """device -> hub: one message a window."""
    return f"{base(tenant, device)}/windows/{stream}"


def sample(tenant: str, device: str, stream: str) -> str:
    """device -> hub: raw samples, only under the owner's opt-in."""
    return f"{base(tenant, device)}/sample/{stream}"


def ack(tenant: str, device: str, stream: str) -> str:
    """hub -> device, retained: what is committed to the database."""
    return f"{base(tenant, device)}/ack/{stream}"


def blob_request(tenant: str, device: str) -> str:
    """device -> hub: which blocks are wanted."""
    return f"{base(tenant, device)}/blob/get"


def blob_block(tenant: str, device: str) -> str:
    """hub -> device: one block."""
    return f"{base(tenant, device)}/blob/block"


def blob_delta(tenant: str, device: str) -> str:
    """device -> hub: is there a delta from what I have?"""
    return f"{base(tenant, device)}/blob/delta"


def blob_offer(tenant: str, device: str) -> str:
    """hub -> device: a delta, or that there is none."""
    return f"{base(tenant, device)}/blob/offer"


def blob_heard(tenant: str, device: str) -> str:
    """device -> hub: how far a cast was heard."""
    return f"{base(tenant, device)}/blob/heard"


def casts(tenant: str) -> str:
    """What every cast's topic begins with."""
    _check(tenant)
    return f"{ROOT}/{tenant}/cast/"


def cast(tenant: str, digest: str) -> str:
    """hub -> every device that wants this blob: its blocks, each once."""
    _check(digest)
    return casts(tenant) + digest


def _check(*names: str) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise WireError(f"topic: expected a name of letters, digits, '.', '_' or '-', got {name!r}")


def parse(topic: str) -> Topic:
    """Parse a device topic. Raises WireError for anything else."""
    parts = topic.split("/")
    if len(parts) < 6 or parts[0] != "ew" or parts[1] != "1" or parts[3] != "d":
        raise WireError(f"topic: expected {ROOT}/TENANT/d/DEVICE/KIND, got {topic[:200]!r}")
    return Topic(parts[2], parts[4], parts[5], "/".join(parts[6:]))
