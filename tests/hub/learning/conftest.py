"""A small fleet: two cameras in district-b that consented, one that did not, one in district-a."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from edgewise.wire.codec import encode_msgpack
from edgewise.wire.control import Consent, Reported
from edgewise.wire.topics import Topic
from edgewise.wire.windows import Sample, Samples
from edgewise_hub.fleet.tables import Assignment, Device, Membership
from edgewise_hub.hub import Hub
from edgewise_hub.learning.tables import SampleRequestRow
from edgewise_hub.mqtt.inbox import Inbound

PROFILE = "linux-x86-64"
REQUEST = "request1"
FLEET = {
    "b1": ("district-b", True),
    "b2": ("district-b", True),
    "b3": ("district-b", False),
    "a1": ("district-a", True),
}


@pytest.fixture
def fleet(hub: Hub) -> Hub:
    """``hub`` with the fleet, serving version 1 of ``tiny``, and an open sample request of district-b: 40 samples and
    4096 bytes a device."""
    with hub.database.write() as session:
        for number, (name, (group, consents)) in enumerate(FLEET.items()):
            consent = {"tiny": Consent(count=400, bytes=40_000)} if consents else {}
            reported = Reported(device=name, profile=PROFILE, agent="0.1.0", generation=1, consent=consent)
            session.add(
                Device(
                    tenant_id=hub.tenant,
                    id=name,
                    profile=PROFILE,
                    public_key=str(number),
                    join_token_id="t",
                    enrolled_at=1.0,
                    reported=msgspec.to_builtins(reported),
                )
            )
            session.add(Membership(tenant_id=hub.tenant, device_id=name, group=group))
            session.add(Assignment(tenant_id=hub.tenant, device_id=name, model="tiny", version=1, updated_at=1.0))
        session.add(
            SampleRequestRow(
                tenant_id=hub.tenant,
                id=REQUEST,
                model="tiny",
                group="district-b",
                count=40,
                bytes=4096,
                state="open",
                created_at=1.0,
            )
        )
    return hub


Message = Callable[..., Inbound]


@pytest.fixture
def message() -> Message:
    """Makes a ``sample/samples`` message: ``inputs`` of raw bytes, from ``device``; the rest as given."""

    def make(
        device: str = "b1",
        sequence: int = 1,
        inputs: list[bytes] | None = None,
        *,
        sender: str | None = None,
        label: int | None = 1,
        start: int = 0,
        at: float = 10.0,
        **changes: object,
    ) -> Inbound:
        batch = Samples(
            device=device,
            epoch=1,
            first=sequence,
            last=sequence,
            request_id=REQUEST,
            model="tiny",
            version=1,
            bundle="0" * 64,
            dtype="FP32",
            shape=[4],
            samples=[
                Sample(request=f"i{start + i}", input=data, label=label)
                for i, data in enumerate([bytes(16)] if inputs is None else inputs)
            ],
        )
        batch = msgspec.structs.replace(batch, **changes)
        return Inbound(Topic("main", sender or device, "sample", "samples"), encode_msgpack(batch), at)

    return make
