"""What devices say of themselves, and the answer to "why is this device not updated?"."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from fastapi.testclient import TestClient

from edgewise.wire import topics
from edgewise.wire.codec import Message, encode_json
from edgewise.wire.control import Failure, Presence, Progress, Reported, ReportedModel
from edgewise_hub.fleet.devices import (
    Standing,
    Wish,
    handle_presence,
    handle_progress,
    handle_reported,
    standing,
)
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.mqtt.inbox import Handler, Inbound, Outcome

from .conftest import OTHER_PROFILE, PROFILE, add_device, add_version
from .test_desired import assign

OLD, NEW = "a" * 64, "b" * 64
WISH = Wish(version=2, bundle=NEW, generation=5)


def device(online: bool = True, last_seen: float | None = 1.0, progress: Progress | None = None) -> Device:
    """A row, as far as a standing looks at it."""
    kept = {"digits": msgspec.to_builtins(progress)} if progress else None
    return Device(profile=PROFILE, online=online, last_seen=last_seen, progress=kept)


def report(generation: int = 5, rejected: Failure | None = None, **there: object) -> Reported:
    """A report of one model."""
    models = {"digits": ReportedModel(**there)}  # type: ignore[arg-type]
    return Reported(
        device="cam-1", profile=PROFILE, agent="test", generation=generation, models=models, rejected=rejected
    )


FAILED = Failure(bundle=NEW, generation=5, code="smoke-failed", reason="the smoke inference gave NaN")


@pytest.mark.parametrize(
    ("row", "reported", "expected"),
    [
        (device(), report(running=NEW, confirmed=NEW), Standing("confirmed")),
        (device(), report(running=NEW, confirmed=OLD), Standing("trial", "in its trial, not confirmed yet")),
        (
            device(),
            report(running=OLD, confirmed=OLD, failed=[FAILED]),
            Standing("failed", "smoke-failed: the smoke inference gave NaN"),
        ),
        (device(online=False), report(running=OLD), Standing("pending", "offline")),
        (device(online=False, last_seen=None), None, Standing("pending", "it has never connected")),
        (
            device(),
            report(generation=4, running=OLD),
            Standing("pending", "waiting for generation 5, the device has seen 4"),
        ),
        (device(), None, Standing("pending", "waiting for generation 5, the device has seen 0")),
        (device(), report(running=OLD), Standing("pending", "installing")),
        (
            device(
                progress=Progress(
                    device="cam-1", generation=5, model="digits", bundle=NEW, step="downloading", done=3, total=9
                )
            ),
            report(running=OLD),
            Standing("pending", "downloading, 3 of 9 bytes"),
        ),
        (
            device(),
            report(running=OLD, rejected=Failure(bundle=NEW, generation=5, code="below-floor", reason="release 1")),
            Standing("pending", "it rejects the desired state: below-floor: release 1"),
        ),
    ],
)  # fmt: skip
def test_a_device_that_is_not_at_the_wished_version_says_why(
    row: Device, reported: Reported | None, expected: Standing
) -> None:
    assert standing(WISH, row, reported, "digits", has_bundle=True) == expected


def test_without_a_wish_or_a_bundle_there_is_nothing_to_wait_for() -> None:
    assert standing(None, device(), report(running=OLD), "digits", has_bundle=False) == Standing("none")
    assert standing(WISH, device(), report(), "digits", has_bundle=False) == Standing(
        "pending", f"version 2 is not compiled for {PROFILE}"
    )


def deliver(hub: Hub, handler: Handler, sender: str, *messages: Message | bytes) -> Outcome:
    """Hand messages to a handler, as the inbox does."""
    topic = topics.Topic(hub.tenant, sender, "test", "")
    payloads = [message if isinstance(message, bytes) else encode_json(message) for message in messages]
    with hub.database.write() as session:
        return handler(session, [Inbound(topic, payload, 1.0) for payload in payloads])


def stored(hub: Hub, device_id: str) -> Device:
    """The row."""
    with hub.database.read() as session:
        row = session.get(Device, (hub.tenant, device_id))
    assert row is not None
    return row


def test_a_will_of_an_older_session_does_not_take_a_device_offline(hub: Hub) -> None:
    add_device(hub, "cam-1")
    deliver(hub, handle_presence, "cam-1", Presence(device="cam-1", online=True, session=8))
    stale = deliver(hub, handle_presence, "cam-1", Presence(device="cam-1", online=False, session=7))
    assert (stored(hub, "cam-1").online, stale.events, stale.refusals) == (True, [], [])
    deliver(hub, handle_presence, "cam-1", Presence(device="cam-1", online=False, session=8))
    assert stored(hub, "cam-1").online is False


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Presence(device="cam-2", online=True, session=1), "other-device"),
        (b"{", "bad-message"),
        (b'{"schema":2,"device":"cam-1","online":true,"session":1}', "bad-schema"),
        (b" " * 20_000, "too-large"),
    ],
)
def test_a_bad_message_is_refused_with_its_code_and_the_next_one_taken(
    hub: Hub, message: Message | bytes, code: str
) -> None:
    add_device(hub, "cam-1")
    add_device(hub, "cam-2")
    good = Presence(device="cam-1", online=True, session=1)
    outcome = deliver(hub, handle_presence, "cam-1", message, good)
    assert [(refusal.device, refusal.code) for refusal in outcome.refusals] == [("cam-1", code)]
    assert (stored(hub, "cam-1").online, stored(hub, "cam-2").online) == (True, False)


def test_a_report_of_another_profile_is_refused(hub: Hub) -> None:
    add_device(hub, "cam-1")
    other = Reported(device="cam-1", profile=OTHER_PROFILE, agent="test", generation=1)
    assert deliver(hub, handle_reported, "cam-1", other).refusals[0].code == "other-profile"
    assert stored(hub, "cam-1").reported is None


def test_progress_keeps_the_newest_of_each_model(hub: Hub) -> None:
    add_device(hub, "cam-1")

    def progress(model: str, generation: int, done: int) -> Progress:
        return Progress(
            device="cam-1", generation=generation, model=model, bundle=NEW, step="downloading", done=done, total=9
        )

    deliver(hub, handle_progress, "cam-1", progress("a", 2, 1), progress("b", 2, 5), progress("a", 2, 3))
    deliver(hub, handle_progress, "cam-1", progress("a", 1, 9))
    kept = stored(hub, "cam-1").progress
    assert kept is not None and {model: content["done"] for model, content in kept.items()} == {"a": 3, "b": 5}


def test_the_api_shows_a_device_with_wish_report_and_reason(hub: Hub, api: TestClient, tmp_path: Path) -> None:
    add_device(hub, "cam-1", group="district-a")
    add_device(hub, "cam-2", group="district-b")
    (bundle,) = add_version(hub, tmp_path)
    assign(hub, "cam-1", 1)
    deliver(hub, handle_presence, "cam-1", Presence(device="cam-1", online=True, session=1))
    deliver(hub, handle_reported, "cam-1", report(1, running=bundle.digest, confirmed=bundle.digest))
    shown = api.get("/api/v1/devices/cam-1").json()
    assert (shown["online"], shown["groups"], shown["generation"]) == (True, ["district-a"], 1)
    assert shown["models"] == [
        {
            "model": "digits",
            "version": 1,
            "bundle": bundle.digest,
            "running_version": 1,
            "confirmed_version": 1,
            "state": "confirmed",
            "reason": "",
        }
    ]
    assert [d["id"] for d in api.get("/api/v1/devices?group=district-b").json()["items"]] == ["cam-2"]
    assert [d["id"] for d in api.get("/api/v1/devices?state=online").json()["items"]] == ["cam-1"]
    first = api.get("/api/v1/devices?limit=1").json()
    second = api.get("/api/v1/devices", params={"limit": 1, "cursor": first["next"]}).json()
    assert ([d["id"] for d in first["items"] + second["items"]], second["next"]) == (["cam-1", "cam-2"], None)
    assert api.get("/api/v1/groups").json()["items"] == [
        {"name": "district-a", "devices": 1, "online": 1},
        {"name": "district-b", "devices": 1, "online": 0},
    ]
    assert api.get("/api/v1/models/digits").json()["serving"] == {"1": 1}


def test_groups_are_replaced(hub: Hub, api: TestClient) -> None:
    add_device(hub, "cam-1")
    assert api.patch("/api/v1/devices/cam-1", json={"groups": ["b", "a", "b"]}).json()["groups"] == ["a", "b"]
    assert api.patch("/api/v1/devices/cam-1", json={"groups": ["../x"]}).status_code == 422
    assert api.patch("/api/v1/devices/none", json={"groups": []}).status_code == 404
