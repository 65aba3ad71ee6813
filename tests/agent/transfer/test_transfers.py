"""A real agent, a real broker and a hub that sends deltas and casts: what is fetched, and what is not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from agent_builders import (
    MODEL,
    AgentProcess,
    Broker,
    Bundle,
    HubKey,
    MiniHub,
    call,
    infer_body,
    make_bundle,
    make_desired,
    onnx_bytes,
    wait_for,
)
from delta_builders import in_place

from edgewise.wire.blocks import BLOCK_SIZE, DeltaOffer
from edgewise.wire.control import Transfer

SIZE = 4 * 1024 * 1024
INFER = f"/v2/models/{MODEL}/infer"


@pytest.fixture
def hub(key: HubKey, broker: Broker) -> Iterator[MiniHub]:
    hub = MiniHub(key, broker)
    yield hub
    hub.close()


@pytest.fixture
def agent(tmp_path: Path, key: HubKey, broker: Broker) -> Iterator[AgentProcess]:
    agent = AgentProcess(tmp_path / "agent", key, broker.url)
    agent.start()
    yield agent
    agent.stop()


def install(hub: MiniHub, generation: int, bundle: Bundle, **changes: object) -> None:
    hub.publish(make_desired(generation, bundle, **changes), bundle)  # type: ignore[arg-type]
    wait_for(lambda: hub.runs(bundle), f"generation {generation} confirmed")


def tuned(data: bytes, seed: int) -> bytes:
    """The same model with some of its padding, which nothing reads, changed a little."""
    draw, changed = random.Random(seed), bytearray(data)
    for _ in range(2000):
        at = draw.randrange(len(data) // 4, len(data) // 2)
        changed[at] = (changed[at] + 1) % 256
    return bytes(changed)


@pytest.fixture
def pair(key: HubKey) -> tuple[Bundle, Bundle]:
    """Two versions, the second a fine-tune of the first."""
    first = onnx_bytes(1, padding=SIZE)
    return make_bundle(key, 1, model_bytes=first), make_bundle(key, 2, model_bytes=tuned(first, 0))


def model_of(bundle: Bundle) -> tuple[str, bytes]:
    sha256 = bundle.manifest.blobs["model"].sha256
    return sha256, bundle.blobs[sha256]


def test_a_delta_is_fetched_instead_of_the_whole(
    agent: AgentProcess, hub: MiniHub, pair: tuple[Bundle, Bundle]
) -> None:
    old, new = pair
    install(hub, 1, old)
    (base, before), (target, after) = model_of(old), model_of(new)
    hub.offer(base, target, in_place(before, after))
    install(hub, 2, new)
    assert target not in hub.asked_for, "not a block of the whole was asked for"
    assert call(agent.url + INFER, infer_body())[1]["model_version"] == "2"
    blobs = {path.name for path in (agent.data / "blobs" / "sha256").iterdir()}
    assert blobs == set(new.blobs), "the delta is thrown away, and so is the old version"


@pytest.mark.parametrize("trouble", ["damaged", "other-base", "too-large", "unknown", "makes-something-else"])
def test_whatever_is_wrong_with_a_delta_the_whole_is_fetched(
    agent: AgentProcess, hub: MiniHub, pair: tuple[Bundle, Bundle], trouble: str
) -> None:
    old, new = pair
    install(hub, 1, old)
    (base, before), (target, after) = model_of(old), model_of(new)
    hub.offer(base, target, in_place(before, after))
    offer = hub.deltas[target]
    assert offer.delta is not None
    match trouble:
        case "damaged":
            hub.corrupt = offer.delta
        case "other-base":
            hub.deltas[target] = msgspec.structs.replace(offer, base="0" * 64)
        case "too-large":
            hub.deltas[target] = msgspec.structs.replace(offer, size=len(after) - 1)
        case "unknown":
            hub.deltas[target] = DeltaOffer(target=target, state="ready", base=base, delta="1" * 64, size=5)
            hub.blobs["1" * 64] = b"12345"
        case "makes-something-else":
            hub.offer(base, target, in_place(before, tuned(before, 1)))
    install(hub, 2, new)
    assert set(hub.asked_for[target]) == set(range(-(-len(after) // BLOCK_SIZE)))
    assert call(agent.url + INFER, infer_body())[1]["model_version"] == "2"


def test_a_delta_that_is_being_made_is_waited_for(
    agent: AgentProcess, hub: MiniHub, pair: tuple[Bundle, Bundle]
) -> None:
    old, new = pair
    install(hub, 1, old)
    (base, before), (target, after) = model_of(old), model_of(new)
    hub.deltas[target] = DeltaOffer(target=target, state="wait")
    hub.publish(make_desired(2, new), new)
    wait_for(lambda: (agent.data / "blobs" / "sha256" / new.digest).exists(), "the manifest is here")
    hub.offer(base, target, in_place(before, after))
    wait_for(lambda: hub.runs(new), "generation 2 confirmed")
    assert target not in hub.asked_for


def test_of_a_cast_only_the_gaps_are_asked_for(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    bundle = make_bundle(key, 1, padding=SIZE)
    sha256, data = model_of(bundle)
    blocks = -(-len(data) // BLOCK_SIZE)
    hub.casting.add(sha256)
    hub.publish(make_desired(1, bundle), bundle)
    wait_for(lambda: hub.casts_heard, "the device is told to wait for a cast")
    hub.casting.clear()
    first = hub.asked_for.pop(sha256)
    assert set(first) == set(range(len(first)))
    lost = {3, 17, blocks - 1}
    hub.cast(sha256, [index for index in range(blocks) if index not in lost])
    wait_for(lambda: hub.runs(bundle), "it is installed")
    asked = set(hub.asked_for[sha256])  # on a slow machine, what is on its way besides
    assert lost <= asked, "not even the lost last block hangs it"
    assert len(asked) < blocks / 2, "what came is not asked for"


def test_a_cast_that_never_comes_is_done_without(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    bundle = make_bundle(key, 1, padding=SIZE)
    hub.casting.add(model_of(bundle)[0])
    install(hub, 1, bundle)
    assert hub.casts_heard


def test_nothing_is_fetched_in_quiet_hours(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    first, second = make_bundle(key, 1), make_bundle(key, 2)
    install(hub, 1, first)
    sent = hub.blocks_sent
    always = Transfer(quiet=["00:00-23:59", "23:59-00:00"])
    hub.publish(make_desired(2, second, transfer=always), second)
    wait_for(lambda: hub.reported and hub.reported.generation == 2, "it has seen generation 2")
    call(agent.url + INFER, infer_body())
    wait_for(lambda: hub.windows, "and lives on")
    assert hub.blocks_sent == sent and not hub.asked_for.get(second.digest)
    install(hub, 3, second)
    assert call(agent.url + INFER, infer_body())[1]["model_version"] == "2"
