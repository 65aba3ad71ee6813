"""Raw samples: taken only under consent and within budgets, once, and acknowledged whatever became of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from sqlalchemy import func, select

from edgewise.wire.codec import decode_json, decode_msgpack
from edgewise.wire.topics import Topic
from edgewise.wire.windows import Ack, Samples
from edgewise_hub.api import schemas
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.learning import samples
from edgewise_hub.learning.errors import LearningError
from edgewise_hub.learning.tables import SampleRequestRow, SampleRow
from edgewise_hub.mqtt.inbox import Inbound, Outcome

REQUEST = "request1"
Message = Callable[..., Inbound]


def handle(hub: Hub, *messages: Inbound) -> Outcome:
    handler = samples.make_handler(hub)
    with hub.database.write() as session:
        return handler(session, list(messages))


def stored(hub: Hub) -> int:
    with hub.database.read() as session:
        return session.scalar(select(func.count()).select_from(SampleRow)) or 0


def acked(outcome: Outcome) -> dict[str, int]:
    """Acknowledged sequence by device."""
    return {out.topic.split("/")[4]: decode_json(out.payload, Ack).sequence for out in outcome.publish}


def codes(outcome: Outcome) -> list[str]:
    return [refusal.code for refusal in outcome.refusals]


def summary(hub: Hub) -> schemas.SampleRequestOut:
    with hub.database.read() as session:
        return samples.summary(session, hub, session.get_one(SampleRequestRow, (hub.tenant, REQUEST)))


def test_samples_are_taken_acknowledged_and_counted(fleet: Hub, message: Message) -> None:
    outcome = handle(
        fleet,
        message("b1", 1, [bytes(16)] * 3),
        message("b2", 1, [bytes(16)] * 2, label=None),
        message("b1", 2, [bytes(16)] * 3, start=3),
    )
    assert outcome.refusals == [] and acked(outcome) == {"b1": 2, "b2": 1}
    assert ("sample-request", REQUEST) in outcome.events
    shown = summary(fleet)
    assert (shown.received, shown.received_bytes, shown.labelled) == (8, 128, 6)
    assert shown.devices == {"b1": 6, "b2": 2}
    assert shown.consented == 2


def test_what_comes_twice_counts_once_and_is_acknowledged_again(fleet: Hub, message: Message) -> None:
    handle(fleet, message("b1", 1))
    again = handle(fleet, message("b1", 1), message("b1", 2))  # a new batch of the same inference
    assert acked(again) == {"b1": 2} and stored(fleet) == 1


def test_a_gap_holds_the_ack_back_until_it_is_filled(fleet: Hub, message: Message) -> None:
    assert acked(handle(fleet, message("b1", 2, start=1))) == {"b1": 0}
    assert acked(handle(fleet, message("b1", 1))) == {"b1": 2}
    assert stored(fleet) == 2


def test_what_its_device_lost_does_not_hold_the_ack_back(fleet: Hub, message: Message) -> None:
    epoch = decode_msgpack(message("b1", 1).payload, Samples).epoch
    lost = msgspec.msgpack.encode({"schema": 1, "epoch": epoch, "first": 1, "last": 1})
    outcome = handle(fleet, dataclasses.replace(message("b1", 1), payload=lost), message("b1", 2))
    assert codes(outcome) == ["bad-message"] and acked(outcome) == {"b1": 2}
    assert stored(fleet) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"device": "b3"}, "no-consent"),
        ({"device": "a1"}, "unknown-request"),  # of another group
        ({"device": "b1", "request_id": "another"}, "unknown-request"),
        ({"device": "b1", "model": "another"}, "unknown-request"),
        ({"device": "b1", "dtype": "FP64"}, "bad-samples"),
        ({"device": "b1", "dtype": "object"}, "bad-samples"),
        ({"device": "b1", "shape": [0]}, "bad-samples"),
        ({"device": "b1", "inputs": [bytes(16)] * 41}, "over-budget"),  # of 40
        ({"device": "b1", "inputs": [bytes(4100)], "shape": [1025]}, "over-budget"),  # of 4096 bytes
    ],
)
def test_a_refusal_stores_nothing_and_lets_the_ack_advance(
    fleet: Hub, message: Message, change: dict[str, object], code: str
) -> None:
    outcome = handle(fleet, message(**change))
    assert codes(outcome) == [code] and stored(fleet) == 0
    assert acked(outcome) == {change["device"]: 1}


def test_budgets_hold_over_all_messages_of_a_device_and_for_each_apart(fleet: Hub, message: Message) -> None:
    full, more, other = (
        message("b1", 1, [bytes(16)] * 40),
        message("b1", 2, start=40),
        message("b2", 1, [bytes(16)] * 40),
    )
    outcome = handle(fleet, full, more, other)
    assert codes(outcome) == ["over-budget"] and stored(fleet) == 80


def test_the_owners_budget_holds_where_it_is_the_smaller(fleet: Hub, message: Message) -> None:
    with fleet.database.write() as session:
        device = session.get_one(Device, (fleet.tenant, "b1"))
        device.reported = {**(device.reported or {}), "consent": {"tiny": {"count": 2, "bytes": 4096}}}
    assert codes(handle(fleet, message("b1", 1, [bytes(16)] * 3))) == ["over-budget"]
    assert codes(handle(fleet, message("b1", 2, [bytes(16)] * 2))) == []


def test_a_device_speaks_for_itself_alone_and_in_bounds(fleet: Hub, message: Message) -> None:
    outcome = handle(
        fleet,
        message("b2", sender="b1"),
        Inbound(Topic("main", "b1", "sample", "samples"), b"\xc1junk", 1.0),
        Inbound(Topic("main", "b1", "sample", "samples"), bytes(200_000), 1.0),
    )
    assert codes(outcome) == ["speaks-for-another", "bad-message", "too-large"]
    assert outcome.publish == [] and stored(fleet) == 0


def test_a_message_emptied_by_its_owner_is_acknowledged_without_a_refusal(fleet: Hub, message: Message) -> None:
    outcome = handle(fleet, message("b3", inputs=[]))
    assert outcome.refusals == [] and acked(outcome) == {"b3": 1}


def test_one_open_request_of_a_group_and_a_closed_one_takes_nothing(fleet: Hub, message: Message) -> None:
    body = schemas.SampleRequestIn(model="tiny", group="district-b", count=10, bytes=1000)
    with pytest.raises(LearningError, match="close it first"), fleet.database.write() as session:
        samples.create(session, fleet, body, 2.0)
    with fleet.database.write() as session:
        samples.close(session, fleet, session.get_one(SampleRequestRow, (fleet.tenant, REQUEST)), 3.0)
    assert codes(handle(fleet, message("b1"))) == ["unknown-request"]
    with fleet.database.write() as session:
        assert samples.create(session, fleet, body, 4.0).state == "open"


def test_samples_are_read_as_the_arrays_that_were_sent(fleet: Hub, message: Message) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    handle(fleet, message("b1", 1, [row.tobytes() for row in rows], label=1))
    handle(fleet, message("b2", 1, [rows[0].tobytes()], label=0), message("b2", 2, [rows[1].tobytes()], label=None))
    with fleet.database.read() as session:
        read = samples.labelled(session, fleet, REQUEST)
    assert read.keys == [f"{REQUEST}/b1/i0", f"{REQUEST}/b1/i1", f"{REQUEST}/b1/i2", f"{REQUEST}/b2/i0"]
    assert (read.inputs == rows[[0, 1, 2, 0]]).all() and read.inputs.dtype == np.float32
    assert read.labels.tolist() == [1, 1, 1, 0]


def test_samples_of_two_shapes_are_no_training_set(fleet: Hub, message: Message) -> None:
    handle(fleet, message("b1", 1), message("b2", 1, [bytes(8)], shape=[2]))
    with pytest.raises(LearningError, match="one dtype and shape"), fleet.database.read() as session:
        samples.labelled(session, fleet, REQUEST)
