"""The desired state: when a generation rises, what a device is told, and that nothing committed stays unpublished."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from edgewise.bundle import unseal
from edgewise.wire.control import Desired, Transfer
from edgewise.wire.quality import Quality
from edgewise_hub.fleet import desired
from edgewise_hub.fleet.tables import Assignment, DesiredState
from edgewise_hub.hub import Hub
from edgewise_hub.learning.tables import SampleRequestRow
from edgewise_hub.mqtt.inbox import Outbound
from edgewise_hub.registry.tables import Model
from edgewise_hub.settings import Settings, SettingsError

from .conftest import OTHER_PROFILE, PROFILE, add_device, add_version

NOW = 1_000_000.0
DAY = 86400.0


def assign(hub: Hub, device: str, version: int, now: float = NOW) -> list[str]:
    """Assign a version of ``digits``, and refresh."""
    with hub.database.write() as session:
        session.merge(
            Assignment(tenant_id=hub.tenant, device_id=device, model="digits", version=version, updated_at=now)
        )
        return desired.refresh(session, hub, [device], now)


def told(hub: Hub, device: str) -> Desired:
    """What the device's newest envelope says, its signature checked."""
    with hub.database.read() as session:
        row = session.get(DesiredState, (hub.tenant, device))
    assert row is not None
    return unseal(row.envelope, Desired, lambda keyid, _sig, _payload: keyid == hub.signer.public.keyid)


def test_a_generation_rises_exactly_when_the_content_changes(hub: Hub, tmp_path: Path) -> None:
    add_device(hub, "cam-1")
    (bundle,) = add_version(hub, tmp_path)
    assert assign(hub, "cam-1", 1) == ["cam-1"]
    assert assign(hub, "cam-1", 1, NOW + DAY) == []
    state = told(hub, "cam-1")
    duty = state.models["digits"].duties["active"]
    assert (state.generation, state.device, state.profile) == (1, "cam-1", PROFILE)
    assert (duty.bundle, duty.size, duty.version, duty.release) == (bundle.digest, bundle.size, 1, 1)
    assert state.not_before < NOW < state.not_after == NOW + desired.LIFETIME_S
    add_version(hub, tmp_path)
    assert assign(hub, "cam-1", 2) == ["cam-1"]
    assert told(hub, "cam-1").generation == 2


def test_a_state_is_signed_again_before_it_expires_and_not_earlier(hub: Hub, tmp_path: Path) -> None:
    add_device(hub, "cam-1")
    add_version(hub, tmp_path)
    assign(hub, "cam-1", 1)
    assert desired.renew(hub, NOW + 22 * DAY) == []
    assert desired.renew(hub, NOW + 24 * DAY) == ["cam-1"]
    state = told(hub, "cam-1")
    assert (state.generation, state.not_after) == (2, NOW + 24 * DAY + desired.LIFETIME_S)


def test_a_device_whose_profile_has_no_bundle_keeps_what_it_has(hub: Hub, tmp_path: Path) -> None:
    add_device(hub, "cam-1")
    add_device(hub, "pi-1", OTHER_PROFILE)
    add_version(hub, tmp_path, profiles=(PROFILE, OTHER_PROFILE))
    add_version(hub, tmp_path, profiles=(PROFILE,))
    assign(hub, "pi-1", 1)
    assign(hub, "cam-1", 2)
    with hub.database.write() as session:
        model = session.get(Model, (hub.tenant, "digits"))
        assert model is not None
        model.floor = 2
    assert assign(hub, "pi-1", 2) == ["pi-1"]
    kept = told(hub, "pi-1").models["digits"]
    assert (kept.duties["active"].version, kept.floor) == (1, 1), "never a floor above what it is told to serve"


def test_a_device_that_was_never_told_of_a_model_is_told_nothing_without_a_bundle(hub: Hub, tmp_path: Path) -> None:
    add_device(hub, "pi-1", OTHER_PROFILE)
    add_version(hub, tmp_path, profiles=(PROFILE,))
    assign(hub, "pi-1", 1)
    assert told(hub, "pi-1").models == {}


def test_the_newest_open_sample_request_of_a_group_reaches_its_devices_alone(hub: Hub, tmp_path: Path) -> None:
    add_version(hub, tmp_path)
    for device, group in (("cam-1", "district-b"), ("cam-2", "district-a")):
        add_device(hub, device, group=group)
        assign(hub, device, 1)
    with hub.database.write() as session:
        for number, state in ((1, "open"), (2, "open"), (3, "closed")):
            session.add(
                SampleRequestRow(
                    tenant_id=hub.tenant,
                    id=f"request-{number}",
                    model="digits",
                    group="district-b",
                    count=100 * number,
                    bytes=1000,
                    state=state,
                    created_at=float(number),
                )
            )
        assert desired.refresh(session, hub, ["cam-1", "cam-2"], NOW) == ["cam-1"]
    asked = told(hub, "cam-1").models["digits"].samples
    assert asked is not None and (asked.id, asked.count) == ("request-2", 200)
    assert told(hub, "cam-2").models["digits"].samples is None


def test_what_is_committed_is_published_once_and_again_at_a_new_connection(
    hub: Hub, tmp_path: Path, hub_published: list[Outbound]
) -> None:
    add_device(hub, "cam-1")
    add_version(hub, tmp_path)
    assign(hub, "cam-1", 1)
    assert hub_published == [], "nothing is published inside a transaction"
    assert desired.publish_pending(hub) == 1
    assert [(m.topic, m.retain) for m in hub_published] == [("ew/1/main/d/cam-1/desired", True)]
    assert desired.publish_pending(hub) == 0
    assert desired.publish_pending(hub, everything=True) == 1
    assert hub_published[0] == hub_published[1]


def test_without_a_connection_nothing_counts_as_published(
    hub: Hub, tmp_path: Path, hub_published: list[Outbound]
) -> None:
    add_device(hub, "cam-1")
    add_version(hub, tmp_path)
    assign(hub, "cam-1", 1)
    hub.broker_connected = lambda: False
    assert desired.publish_pending(hub) == 0
    hub.broker_connected = lambda: True
    assert desired.publish_pending(hub) == 1 == len(hub_published)


def test_a_refresh_that_is_rolled_back_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    add_device(hub, "cam-1")
    add_version(hub, tmp_path)
    with pytest.raises(RuntimeError), hub.database.write() as session:
        desired.refresh(session, hub, ["cam-1"], NOW)
        raise RuntimeError("power cut")
    assert desired.publish_pending(hub) == 0


def test_limits_on_downloads_go_to_every_device(hub: Hub, tmp_path: Path) -> None:
    add_device(hub, "cam-1")
    add_version(hub, tmp_path)
    assign(hub, "cam-1", 1)
    assert told(hub, "cam-1").transfer == Transfer()
    hub.settings = dataclasses.replace(hub.settings, download_bytes_s=50_000, quiet_hours=("22:00-06:00",))
    assert assign(hub, "cam-1", 1) == ["cam-1"]
    assert told(hub, "cam-1").transfer == Transfer(bytes_s=50_000, quiet=["22:00-06:00"])
    for wrong in ({"EDGEWISE_QUIET_HOURS": "22-6"}, {"EDGEWISE_DOWNLOAD_BYTES_S": "10"}):
        with pytest.raises(SettingsError):
            Settings.from_environment(wrong)


def test_rules_for_inputs_that_do_not_look_right_go_to_every_device_of_the_model_and_to_no_other(
    hub: Hub, api: TestClient, tmp_path: Path, hub_published: list[Outbound]
) -> None:
    for device in ("cam-1", "cam-2", "pi-1"):
        add_device(hub, device)
    add_version(hub, tmp_path)
    for device in ("cam-1", "cam-2"):
        assign(hub, device, 1)
    assert told(hub, "cam-1").models["digits"].quality == Quality()
    rules = {"out_of_bounds": "flag", "missing": "count"}
    answer = api.patch("/api/v1/models/digits", json={"quality": rules})
    assert answer.status_code == 200
    assert answer.json()["quality"] == {**rules, "not_finite": None, "unknown_inputs": None}
    assert {m.topic for m in hub_published} == {f"ew/1/main/d/{device}/desired" for device in ("cam-1", "cam-2")}
    for device in ("cam-1", "cam-2"):
        state = told(hub, device)
        assert (state.generation, state.models["digits"].quality) == (2, Quality(out_of_bounds="flag", missing="count"))
    assert api.patch("/api/v1/models/digits", json={"quality": rules}).status_code == 200
    assert told(hub, "cam-1").generation == 2, "what says the same is no news"
    assert api.patch("/api/v1/models/digits", json={"quality": {}}).status_code == 200
    assert told(hub, "cam-1").models["digits"].quality == Quality()


def test_rules_are_checked_by_name(hub: Hub, api: TestClient, tmp_path: Path) -> None:
    add_version(hub, tmp_path)
    for wrong, named in (({"missing": "drop"}, "missing"), ({"absent": "flag"}, "absent")):
        answer = api.patch("/api/v1/models/digits", json={"quality": wrong})
        assert answer.status_code == 422 and f"quality.{named}" in answer.json()["detail"], answer.json()
    assert api.patch("/api/v1/models/cats", json={"quality": {}}).status_code == 404
    assert api.patch("/api/v1/models/edgewise-agent", json={"quality": {}}).json()["code"] == "reserved-model"
