"""What a fetch asks over time, under the limits of both sides."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from agent_builders import MODEL, PROFILE, TENANT, HubKey, make_bundle

from edgewise.wire import topics
from edgewise.wire.blocks import BLOCK_SIZE, Block, BlockRequest, asked
from edgewise.wire.codec import decode_msgpack
from edgewise.wire.control import Transfer as Limits
from edgewise_agent.fetch import Fetching
from edgewise_agent.identity import verifier
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import FREE_MARGIN, Disk, DiskError
from edgewise_agent.transfer import Transfer
from edgewise_agent.trust import check_manifest

DEVICE, RATE = "cam-1", 50_000


@dataclass
class Wire:
    """A network that keeps what it was handed."""

    connected: bool = True
    heard: list[str | None] = field(default_factory=list)
    sent: list[tuple[str, bytes]] = field(default_factory=list)

    def publish(self, topic: str, payload: bytes) -> bool:
        self.sent.append((topic, payload))
        return True

    def hear(self, topic: str | None) -> bool:
        self.heard.append(topic)
        return True


def at(hour: int) -> time.struct_time:
    return time.struct_time((2026, 1, 1, hour, 0, 0, 3, 1, 0))


def test_no_faster_than_the_limit_and_not_in_quiet_hours(tmp_path: Path, key: HubKey) -> None:
    bundle = make_bundle(key, 1, padding=3 * 1024 * 1024)
    store = BlobStore(Disk(), tmp_path / "blobs")
    fetching = Fetching(
        MODEL,
        bundle.duty,
        1,
        store,
        lambda envelope: check_manifest(
            envelope,
            bundle.duty,
            tenant=TENANT,
            model=MODEL,
            profile=PROFILE,
            runtimes={"onnxruntime"},
            floor=0,
            verify=verifier([key.public]),
        ),
    )
    wire = Wire()
    transfer = Transfer(wire, TENANT, DEVICE, Limits(quiet=["22:00-06:00"]), 0.0)
    transfer.limit(Limits(bytes_s=RATE), 0.0)
    transfer.look(fetching, 0.0, at(23))
    assert not wire.sent, "it is night"
    now, asked_bytes = 0.0, 0
    while not fetching.done:
        transfer.look(fetching, now, at(12))
        for topic, payload in wire.sent:
            assert topic == topics.blob_request(TENANT, DEVICE)
            request = decode_msgpack(payload, BlockRequest)
            assert not request.cast, "a cast has its own pace"
            data = bundle.blobs[request.digest]
            for index in asked(request):
                part = data[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]
                fetching.receive(Block(digest=request.digest, index=index, total=len(data), data=part), now)
            asked_bytes += len(asked(request)) * BLOCK_SIZE
        wire.sent.clear()
        assert asked_bytes <= RATE * now + BLOCK_SIZE
        now += 0.5
    assert set(wire.heard) == {None}
    assert 0.8 * asked_bytes <= RATE * now, "nor much slower"
    for digest, data in bundle.blobs.items():
        assert store.read(digest, len(data)) == data


class SmallDisk(Disk):
    """Room for so many bytes more, and the margin."""

    def __init__(self, room: int) -> None:
        self.room = room

    def free(self, folder: Path) -> int:
        return FREE_MARGIN + self.room


def test_the_disk_has_room_for_the_whole_bundle_or_no_blob_is_asked_for(tmp_path: Path, key: HubKey) -> None:
    """Each blob alone would fit: it is their sum that counts, and it is known from the manifest."""
    bundle = make_bundle(key, 1, padding=1024 * 1024)
    whole = sum(len(data) for digest, data in bundle.blobs.items() if digest != bundle.digest)
    for room in (whole - 1, whole):
        store = BlobStore(SmallDisk(room), tmp_path / str(room))
        fetching = Fetching(MODEL, bundle.duty, 1, store, lambda envelope: bundle.manifest)
        wire = Wire()
        transfer = Transfer(wire, TENANT, DEVICE, Limits(), 0.0)
        transfer.look(fetching, 0.0, at(12))
        data = bundle.blobs[bundle.digest]
        block = Block(digest=bundle.digest, index=0, total=len(data), data=data)
        wire.sent.clear()
        if room < whole:
            with pytest.raises(DiskError) as refused:
                fetching.receive(block, 0.1)
            assert refused.value.code == "disk-full"
        else:
            fetching.receive(block, 0.1)
            transfer.look(fetching, 0.2, at(12))
            assert {decode_msgpack(payload, BlockRequest).digest for _, payload in wire.sent} <= set(bundle.blobs)
            assert wire.sent
