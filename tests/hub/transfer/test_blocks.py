"""Blocks over a real broker: many are sent one cast, a greedy device delays nobody, and strangers hear nothing."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from edgewise.bundle import Blob, Manifest, Tensor, digest
from edgewise.wire import topics
from edgewise.wire.blocks import BLOCK_SIZE, CASTING, Block, BlockRequest, DeltaOffer, DeltaRequest, Heard, bitmap
from edgewise.wire.codec import decode_msgpack, encode_msgpack
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.registry import versions

ground: Any = sys.modules["hub_ground"]
Peers = Callable[..., Any]
BLOCKS = 60


def add_model(hub: Hub, folder: Path, content: bytes) -> str:
    """A version whose bundle holds this model; the model's digest."""
    files = {"model": content, "sketch": b"{}", "smoke": b"smoke"}
    paths = {role: folder / role for role in files}
    for role, data in files.items():
        paths[role].write_bytes(data)
    with hub.database.write() as session:
        version = versions.register(session, hub, "digits", {"kind": "onnx"}, {}, {}, "", 1.0)
        manifest = Manifest(
            tenant=hub.tenant,
            model="digits",
            version=version.version,
            release=version.release,
            profile=ground.PROFILE,
            runtime="onnxruntime",
            inputs=[Tensor(name="x", datatype="FP32", shape=[-1, 4])],
            outputs=[Tensor(name="y", datatype="FP32", shape=[-1, 2])],
            blobs={role: Blob(sha256=digest(data), size=len(data)) for role, data in files.items()},
            created_at=1.0,
        )
        versions.add_bundle(session, hub, manifest, paths, paths["smoke"], {}, 2.0)
    return digest(content)


def ask(peer: Any, sha256: str, indices: list[int], cast: bool = False) -> None:
    base, bits = bitmap(indices)
    request = BlockRequest(digest=sha256, base=base, bitmap=bits, cast=cast)
    peer.publish(topics.blob_request("main", peer.device), encode_msgpack(request))


def blocks(peer: Any, topic: str) -> list[Block]:
    return [decode_msgpack(payload, Block) for payload in peer.hears(topic)]


def own(peer: Any) -> list[Block]:
    return blocks(peer, topics.blob_block("main", peer.device))


@pytest.fixture
def content() -> bytes:
    return random.Random(0).randbytes(BLOCKS * BLOCK_SIZE - 5)


def test_a_blob_that_many_want_is_sent_once(
    live: Hub, live_api: TestClient, peers: Peers, tmp_path: Path, content: bytes
) -> None:
    sha256 = add_model(live, tmp_path, content)
    cast = topics.cast("main", sha256)
    cameras = [peers(ground.enroll(live_api, f"cam-{number}")) for number in range(6)]
    for camera in cameras:
        assert not camera.subscribe(topics.blob_block("main", camera.device)).is_failure
        assert not camera.subscribe(cast).is_failure
    for camera in cameras:
        ask(camera, sha256, list(range(8)), cast=True)

    def told() -> int:
        return sum(any(block.error == CASTING for block in own(camera)) for camera in cameras)

    ground.eventually(lambda: told() >= len(cameras) - live.settings.cast_from + 1, "those that came late are told")
    answered: set[tuple[str, int]] = set()

    def answer_paces() -> bool:
        """As devices do; until the last block is there."""
        for camera in cameras:
            for block in blocks(camera, cast):
                if block.pace is not None and (camera.device, block.pace.round) not in answered:
                    answered.add((camera.device, block.pace.round))
                    heard = Heard(digest=sha256, round=block.pace.round)
                    camera.publish(topics.blob_heard("main", camera.device), encode_msgpack(heard))
        return all(any(block.index == BLOCKS - 1 for block in blocks(camera, cast)) for camera in cameras)

    ground.eventually(answer_paces, "the whole cast")
    for camera in cameras:
        heard = blocks(camera, cast)
        assert [block.index for block in heard] == list(range(BLOCKS))
        assert b"".join(block.data for block in heard) == content
    asked_before = (live.settings.cast_from - 1) * 8 * BLOCK_SIZE
    assert live.blob_bytes_sent <= len(content) + asked_before
    assert "edgewise_casts_total 1.0" in live_api.get("/metrics").text
    ask(cameras[0], sha256, [5], cast=True)
    ground.eventually(lambda: any(block.index == 5 and not block.error for block in own(cameras[0])), "its gap")


def test_nobody_can_listen_to_all_casts_or_cast(live: Hub, live_api: TestClient, peers: Peers) -> None:
    camera = peers(ground.enroll(live_api, "cam-1"))
    cast = topics.cast("main", "0" * 64)
    assert not camera.subscribe(cast).is_failure
    for wide in (topics.casts("main") + "+", topics.casts("main") + "#", "ew/1/+/cast/" + "0" * 64):
        assert camera.subscribe(wide).is_failure, wide
    assert camera.publish(cast, b"mine").is_failure


def test_one_that_asks_for_much_delays_nobody(
    live: Hub, live_api: TestClient, peers: Peers, tmp_path: Path, content: bytes
) -> None:
    sha256 = add_model(live, tmp_path, content)
    greedy, modest = (peers(ground.enroll(live_api, name)) for name in ("greedy", "modest"))
    for peer in (greedy, modest):
        peer.subscribe(topics.blob_block("main", peer.device))
    for _ in range(3):
        ask(greedy, sha256, list(range(32)))
    ask(modest, sha256, [0])
    ground.eventually(lambda: own(modest), "the one block")
    ground.eventually(lambda: len(own(greedy)) == 96, "and all the others")
    ask(modest, sha256, [BLOCKS])

    def refused() -> int:
        with live.database.read() as session:
            return session.scalars(select(Device.refused).where(Device.id == "modest")).one()

    ground.eventually(lambda: refused() == 1, "a block that there is not")


def test_a_delta_is_made_offered_and_fetched_by_whom_it_is_for(
    live: Hub, live_api: TestClient, peers: Peers, tmp_path: Path, content: bytes
) -> None:
    base = add_model(live, tmp_path, content)
    target = add_model(live, tmp_path, content[:-1] + b"!")
    mine = peers(ground.enroll(live_api, "cam-1"))
    other = peers(ground.enroll(live_api, "pi-1", profile=ground.OTHER_PROFILE))

    def offered(peer: Any, target: str, bases: list[str]) -> DeltaOffer:
        topic = topics.blob_offer("main", peer.device)
        before = len(peer.hears(topic))
        request = DeltaRequest(target=target, bases=bases)
        peer.publish(topics.blob_delta("main", peer.device), encode_msgpack(request))
        ground.eventually(lambda: len(peer.hears(topic)) > before, "an answer")
        return decode_msgpack(peer.hears(topic)[before], DeltaOffer)

    for peer in (mine, other):
        for topic in (topics.blob_offer("main", peer.device), topics.blob_block("main", peer.device)):
            assert not peer.subscribe(topic).is_failure
    assert offered(mine, target, [base]).state == "wait"

    def ready() -> DeltaOffer | None:
        offer = offered(mine, target, ["0" * 64, base])
        return offer if offer.state == "ready" else None

    offer = ground.eventually(ready, "a delta")
    assert offer.base == base and 0 < offer.size < 0.01 * len(content)
    ask(mine, offer.delta, [0])
    ground.eventually(lambda: own(mine), "the delta")
    assert own(mine)[0].data == live.blobs.read(offer.delta)
    assert offered(other, target, [base]).state == "none"
    ask(other, offer.delta, [0])
    ground.eventually(lambda: own(other), "a no")
    assert own(other)[0].error == "not-yours"
    assert offered(mine, target, [target]).state == "none"
    assert offered(mine, "0" * 64, [base]).state == "none"
