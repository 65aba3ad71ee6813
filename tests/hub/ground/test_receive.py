"""The inbox's runner: acknowledged after the commit, one bad message blocks nobody, a full disk loses nothing."""

from __future__ import annotations

import threading

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from edgewise.wire import topics
from edgewise_hub.fleet.tables import Device, Membership
from edgewise_hub.hub import Hub
from edgewise_hub.metrics import REFUSED
from edgewise_hub.mqtt.inbox import Inbound, Outbound, Outcome, Refusal
from edgewise_hub.mqtt.receive import Receiver, Waiting

from .conftest import DEADLINE_S, add_device, eventually


def inbound(device: str, payload: bytes = b"x", kind: str = "windows") -> Inbound:
    """A message of a device."""
    return Inbound(topics.Topic("main", device, kind, "inference"), payload, 7.0)


def stored(hub: Hub, device: str) -> Device:
    """The row."""
    with hub.database.read() as session:
        row = session.get(Device, ("main", device))
    assert row is not None
    return row


def saving(session: Session, messages: list[Inbound]) -> Outcome:
    """A handler that saves what it gets as a group's name, and fails on ``poison``."""
    outcome = Outcome()
    for message in messages:
        if message.payload == b"poison":
            raise ZeroDivisionError("a fault that nobody foresaw")
        group = message.payload.decode()
        session.add(Membership(tenant_id="main", device_id=message.topic.device, group=group))
        outcome.publish.append(Outbound("acknowledged", message.payload))
        outcome.events.append(("device", message.topic.device))
    return outcome


def saved(hub: Hub) -> list[str]:
    """What ``saving`` saved and committed."""
    with hub.database.read() as session:
        groups = session.query(Membership.group).where(Membership.group != "lab").order_by(Membership.group)
        return [group for (group,) in groups]


def test_a_batch_is_committed_then_published_then_acknowledged(hub: Hub, hub_published: list[Outbound]) -> None:
    add_device(hub, "cam-1")
    events = hub.events.subscribe()
    seen: list[tuple[list[str], list[bytes]]] = []

    def acknowledge() -> None:
        seen.append((saved(hub), [message.payload for message in hub_published]))

    receiver = Receiver(hub, {"windows": saving})
    receiver.process([Waiting(inbound("cam-1", b"a"), acknowledge), Waiting(inbound("cam-1", b"b"), acknowledge)])
    assert seen == [(["a", "b"], [b"a", b"b"])] * 2
    assert events.qsize() == 1, "the same change is told once a batch"
    assert stored(hub, "cam-1").last_seen == 7.0


def test_a_message_that_fails_its_handler_is_refused_alone(hub: Hub) -> None:
    add_device(hub, "cam-1")
    acknowledged: list[bytes] = []
    refused_before = REFUSED.labels("windows", "handler-failed")._value.get()
    batch = [
        Waiting(inbound("cam-1", payload), lambda payload=payload: acknowledged.append(payload))  # type: ignore[misc]
        for payload in (b"a", b"poison", b"b")
    ]
    Receiver(hub, {"windows": saving}).process(batch)
    assert saved(hub) == ["a", "b"]
    assert acknowledged == [b"a", b"poison", b"b"]
    assert stored(hub, "cam-1").refused == 1
    assert REFUSED.labels("windows", "handler-failed")._value.get() == refused_before + 1


def test_only_enrolled_devices_reach_a_handler(hub: Hub) -> None:
    add_device(hub, "cam-1")
    add_device(hub, "cam-2")
    with hub.database.write() as session:
        revoked = session.get(Device, ("main", "cam-2"))
        assert revoked is not None
        revoked.revoked_at = 1.0
    refused_before = REFUSED.labels("windows", "unknown-device")._value.get()
    receiver = Receiver(hub, {"windows": saving})
    receiver.process(
        [Waiting(inbound(device, device.encode()), lambda: None) for device in ("cam-1", "cam-2", "ghost")]
    )
    assert saved(hub) == ["cam-1"]
    assert REFUSED.labels("windows", "unknown-device")._value.get() == refused_before + 2


def test_refusals_from_elsewhere_are_counted_on_the_device(hub: Hub) -> None:
    add_device(hub, "cam-1")
    Receiver(hub, {}).process([Waiting(Refusal("cam-1", "blob", "not-yours", "no"), lambda: None)] * 3)
    assert stored(hub, "cam-1").refused == 3


def test_a_database_that_cannot_be_written_loses_nothing(hub: Hub) -> None:
    add_device(hub, "cam-1")
    acknowledged = threading.Event()
    full = [True]

    def on_a_full_disk(session: Session, messages: list[Inbound]) -> Outcome:
        if full[0]:
            full[0] = False
            raise OperationalError("INSERT", {}, Exception("database or disk is full"))
        return saving(session, messages)

    receiver = Receiver(hub, {"windows": on_a_full_disk})
    receiver.start()
    receiver.offer(inbound("cam-1", b"a"), acknowledged.set)
    eventually(lambda: not full[0], "the first try")
    assert not acknowledged.is_set()
    assert acknowledged.wait(DEADLINE_S)
    receiver.stop()
    assert saved(hub) == ["a"]
