"""On the wire, with a real mosquitto: what a device may do, what it hears, and what is refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from edgewise.bundle import unseal
from edgewise.wire import topics
from edgewise.wire.blocks import Block, BlockRequest, bitmap
from edgewise.wire.codec import decode_json, decode_msgpack, encode_json, encode_msgpack
from edgewise.wire.control import Desired, Presence
from edgewise.wire.windows import Ack
from edgewise_hub.fleet import desired
from edgewise_hub.fleet.tables import Assignment, Device
from edgewise_hub.hub import Hub
from edgewise_hub.main import Ticker, start_messaging
from edgewise_hub.metrics import BROKER_DENIED, BROKER_RESTARTS
from edgewise_hub.monitoring.tables import StreamPosition
from edgewise_hub.mqtt.connection import BrokerAddress, BrokerError, Connection
from edgewise_hub.mqtt.mosquitto import Mosquitto
from edgewise_hub.settings import Settings

from .conftest import OTHER_PROFILE, PROFILE, Peer, add_version, enroll, eventually

Peers = Callable[..., Peer]


def row(hub: Hub, device: str) -> Device:
    """The device's row."""
    with hub.database.read() as session:
        found = session.get(Device, (hub.tenant, device))
    assert found is not None
    return found


def online(hub: Hub, peer: Peer, session: int = 1) -> None:
    """Say that the device is there, and wait until the hub knows."""
    birth = Presence(device=peer.device, online=True, session=session)
    peer.publish(topics.presence("main", peer.device), encode_json(birth), retain=True)
    eventually(lambda: row(hub, peer.device).online, f"{peer.device} online")


def test_a_device_may_use_its_own_topics_and_no_others(live: Hub, live_api: TestClient, peers: Peers) -> None:
    one, two = peers(enroll(live_api, "cam-1")), peers(enroll(live_api, "cam-2"))
    denied_before = BROKER_DENIED._value.get()
    for rest in ("reported", "presence", "progress/1", "windows/inference", "sample/samples", "blob/get"):
        assert not one.publish(f"ew/1/main/d/cam-1/{rest}", b"x").is_failure, rest
        assert one.publish(f"ew/1/main/d/cam-2/{rest}", b"x").is_failure, rest
    for topic in ("ew/1/main/d/cam-1/desired", "ew/1/main/d/cam-1/ack/inference", "$CONTROL/dynamic-security/v1", "x"):
        assert one.publish(topic, b"x").is_failure, topic
    for rest in ("desired", "ack/+", "ack/#", "blob/block"):
        assert not one.subscribe(f"ew/1/main/d/cam-1/{rest}").is_failure, rest
    for topic in (
        "#",
        "ew/1/main/d/+/desired",
        "ew/1/main/d/cam-2/desired",
        "ew/1/main/d/cam-2/windows/#",
        "ew/1/main/d/cam-1/#",
        "$share/hub/ew/1/main/d/+/windows/+",
        "$CONTROL/dynamic-security/v1/response",
    ):
        assert one.subscribe(topic).is_failure, topic
    eventually(lambda: BROKER_DENIED._value.get() > denied_before, "denials counted")
    live.publish(desired.Outbound("ew/1/main/d/cam-2/blob/block", b"for two alone"))
    two.subscribe("ew/1/main/d/cam-2/blob/block")
    assert not one.hears("ew/1/main/d/cam-2/blob/block")


def test_presence_comes_and_goes_with_the_connection(live: Hub, live_api: TestClient, peers: Peers) -> None:
    peer = peers(enroll(live_api, "cam-1"))
    online(live, peer)
    assert live_api.get("/api/v1/system").json()["devices_online"] == 1
    peer.client._sock_close()  # the network is gone: the will speaks
    peer.client.loop_stop()
    eventually(lambda: not row(live, "cam-1").online, "offline by its will")


def test_a_desired_state_arrives_signed_and_waits_for_who_comes_late(
    live: Hub, live_api: TestClient, peers: Peers, tmp_path: Path
) -> None:
    identity = enroll(live_api, "cam-1")
    (bundle,) = add_version(live, tmp_path)
    with live.database.write() as session:
        session.add(Assignment(tenant_id="main", device_id="cam-1", model="digits", version=1, updated_at=1.0))
        desired.refresh(session, live, ["cam-1"], 1000.0)
    peer = peers(identity)
    peer.subscribe(topics.desired("main", "cam-1"))
    envelope = eventually(
        lambda: [state for state in peer.hears(topics.desired("main", "cam-1")) if bundle.digest.encode() in state],
        "the desired state",
    )[0]
    state = unseal(envelope, Desired, lambda keyid, _s, _p: keyid == identity["keys"][0]["keyid"])
    assert state.models["digits"].duties["active"].bundle == bundle.digest


def test_a_bundle_is_fetched_block_by_block_and_only_by_whom_it_is_for(
    live: Hub, live_api: TestClient, peers: Peers, tmp_path: Path
) -> None:
    mine, other = peers(enroll(live_api, "cam-1")), peers(enroll(live_api, "pi-1", profile=OTHER_PROFILE))
    (bundle,) = add_version(live, tmp_path, profiles=(PROFILE,))
    content = (tmp_path / f"digits-1-{PROFILE}-model").read_bytes()
    digest = live.blobs.put(content)

    def fetch(peer: Peer, digest: str, indices: list[int]) -> list[Block]:
        block_topic = topics.blob_block("main", peer.device)
        assert not peer.subscribe(block_topic).is_failure
        before = len(peer.hears(block_topic))
        base, bits = bitmap(indices)
        request = BlockRequest(digest=digest, base=base, bitmap=bits)
        peer.publish(topics.blob_request("main", peer.device), encode_msgpack(request))
        eventually(lambda: len(peer.hears(block_topic)) > before, "blocks")
        first = decode_msgpack(peer.hears(block_topic)[before], Block)
        if first.error is None:
            eventually(lambda: len(peer.hears(block_topic)) == before + len(indices), "every block")
        return [decode_msgpack(data, Block) for data in peer.hears(block_topic)[before:]]

    blocks = fetch(mine, digest, [0, 1])
    assert b"".join(block.data for block in blocks) == content
    assert {(block.total, block.error) for block in blocks} == {(len(content), None)}
    manifest = fetch(mine, bundle.digest, [0])
    assert manifest[0].data == live.blobs.read(bundle.digest)

    assert fetch(other, digest, [0])[0].error == "not-yours"
    assert fetch(mine, bundle.reference, [0])[0].error == "not-yours", "the reference stays on the hub"
    assert fetch(mine, "0" * 64, [0])[0].error == "unknown-blob"
    mine.publish(topics.blob_request("main", "cam-1"), b"\xc1 not MessagePack")
    eventually(lambda: row(live, "cam-1").refused == 3, "three refusals of cam-1")
    eventually(lambda: row(live, "pi-1").refused == 1, "one refusal of pi-1")
    assert live_api.get("/api/v1/system").json()["blob_bytes_sent"] == len(content) + len(manifest[0].data)


def test_a_message_that_is_none_is_counted_and_the_next_one_taken(
    live: Hub, live_api: TestClient, peers: Peers
) -> None:
    peer = peers(enroll(live_api, "cam-1"))
    peer.publish(topics.presence("main", "cam-1"), b"{")
    peer.publish(topics.presence("main", "cam-1"), encode_json(Presence(device="cam-2", online=True, session=1)))
    online(live, peer)
    assert row(live, "cam-1").refused == 2
    assert 'edgewise_refused_total{code="other-device",kind="presence"}' in live_api.get("/metrics").text


def test_a_broker_that_lost_everything_is_started_again_and_told_again(
    live: Hub, live_api: TestClient, peers: Peers
) -> None:
    identity = enroll(live_api, "cam-1")
    with live.database.write() as session:
        for epoch, sequence, at in ((1, 40, 1.0), (2, 7, 2.0)):
            session.add(
                StreamPosition(
                    tenant_id="main",
                    device_id="cam-1",
                    stream="inference",
                    epoch=epoch,
                    sequence=sequence,
                    beyond=[],
                    updated_at=at,
                )
            )
    restarts = BROKER_RESTARTS._value.get()
    broker = live.settings.data / "broker"
    (broker / "mosquitto.db").unlink(missing_ok=True)
    os.kill(int((broker / "pid").read_text()), signal.SIGKILL)
    eventually(lambda: BROKER_RESTARTS._value.get() > restarts, "a restart")
    eventually(live.broker_connected, "the hub's connection")
    peer = peers(identity, session=2)
    peer.subscribe(topics.desired("main", "cam-1"))
    peer.subscribe("ew/1/main/d/cam-1/ack/+")
    eventually(lambda: peer.hears(topics.desired("main", "cam-1")), "the desired state, again")
    acks = eventually(lambda: peer.hears(topics.ack("main", "cam-1", "inference")), "the ack, again")
    ack = decode_json(acks[-1], Ack)
    assert (ack.epoch, ack.sequence) == (2, 7)
    online(live, peer, session=2)


def test_a_broker_of_ones_own_is_used_and_nothing_is_spawned(tmp_path: Path, peers: Peers) -> None:
    with ExitStack() as stack:
        broker = Mosquitto(tmp_path / "elsewhere")
        stack.callback(broker.stop)
        own = broker.start()
        url = f"mqtt://{quote(own.username)}:{quote(own.password)}@{own.host}:{own.port}"
        hub = Hub.open(Settings(data=tmp_path / "data", broker_url=url))
        stack.callback(hub.database.close)
        start_messaging(stack, hub, Ticker(hub, ()))
        assert hub.broker_url == f"mqtt://{own.host}:{own.port}"
        assert not (tmp_path / "data" / "broker").exists()
        assert hub.accounts is not None
        username, password = hub.accounts.put("cam-1")
        peers({"tenant": "main", "device": "cam-1", "username": username, "password": password, "broker_url": url})


def test_a_broker_that_refuses_the_hub_says_so_without_the_password(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    try:
        own = broker.start()
        wrong = Connection(BrokerAddress(f"mqtt://edgewise-hub:hunter2@{own.host}:{own.port}"), "main")
        with pytest.raises(BrokerError, match="refuses the hub's account") as raised:
            wrong.start(lambda *_: None, lambda _: None, lambda: None, deadline_s=1.5)
        assert "hunter2" not in str(raised.value)
    finally:
        broker.stop()
