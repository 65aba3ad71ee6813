"""Enrollment through the API, with a real broker: an identity once, and again for who already has it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from edgewise.wire.enrollment import SIGNATURE_HEADER
from edgewise_hub.fleet.tables import Device, JoinToken
from edgewise_hub.hub import Hub

from .conftest import DeviceKey, Peer, eventually


def make_token(client: TestClient, **wish: object) -> dict[str, object]:
    """A join token."""
    response = client.post("/api/v1/join-tokens", json=wish)
    assert response.status_code == 201
    return dict(response.json())


def ask(
    client: TestClient, key: DeviceKey, name: str, token: object, profile: str = "linux-x86-64"
) -> tuple[int, dict[str, str]]:
    """POST /enroll without an API token: (status, body)."""
    body, headers = key.request(name, str(token), profile)
    response = client.post("/api/v1/enroll", content=body, headers={**headers, "Authorization": ""})
    return response.status_code, response.json()


def test_a_device_gets_its_identity_once_and_again(live: Hub, live_api: TestClient, peers: Callable[..., Peer]) -> None:
    key, token = DeviceKey(), make_token(live_api, groups=["district-a"])["token"]
    status, first = ask(live_api, key, "cam-1", token)
    assert status == 200
    assert (first["device"], first["username"], first["broker_url"]) == ("cam-1", "main.cam-1", live.broker_url)
    assert first["keys"][0]["keyid"] == live.signer.public.keyid  # type: ignore[index]
    lost = peers(first)

    status, second = ask(live_api, key, "cam-1", token)
    assert status == 200, "the same key and its own token, used up as it is"
    assert second["password"] != first["password"]
    assert lost.disconnected.wait(10), "the old password's session is cut"
    with live.database.read() as session:
        assert session.query(Device).count() == 1
        assert session.query(JoinToken).one().uses_left == 0
    lost.close()
    peers(second)
    shown = live_api.get("/api/v1/devices/cam-1").json()
    assert (shown["groups"], shown["profile"], shown["generation"]) == (["district-a"], "linux-x86-64", 1)


def test_what_may_not_enroll_is_told_why_and_leaves_nothing(live: Hub, live_api: TestClient) -> None:
    token = make_token(live_api, uses=10)["token"]
    key = DeviceKey()
    assert ask(live_api, key, "cam-1", token)[0] == 200
    used = make_token(live_api)["token"]
    assert ask(live_api, DeviceKey(), "cam-2", used)[0] == 200
    deleted = make_token(live_api)
    assert live_api.delete(f"/api/v1/join-tokens/{deleted['id']}").status_code == 204

    for device_key, name, shown, profile, status, code in [
        (DeviceKey(), "cam-1", token, "linux-x86-64", 409, "name-taken"),
        (key, "cam-9", token, "linux-x86-64", 409, "key-taken"),
        (key, "cam-1", token, "raspberry-pi-5", 409, "other-profile"),
        (DeviceKey(), "cam-9", token, "toaster", 422, "unknown-profile"),
        (DeviceKey(), "cam-9", "not-a-token", "linux-x86-64", 403, "bad-token"),
        (DeviceKey(), "cam-9", used, "linux-x86-64", 403, "bad-token"),
        (DeviceKey(), "cam-9", deleted["token"], "linux-x86-64", 403, "bad-token"),
        (key, "cam-1", "not-a-token", "linux-x86-64", 403, "bad-token"),
    ]:
        got, problem = ask(live_api, device_key, name, shown, profile)
        assert (got, problem["code"]) == (status, code), (name, code)
        assert str(shown) not in problem["detail"]
    with live.database.read() as session:
        assert sorted(device for (device,) in session.query(Device.id)) == ["cam-1", "cam-2"]
        assert {row.uses_left for row in session.query(JoinToken)} == {9, 0}


def test_a_request_must_be_signed_by_the_key_that_it_names(live_api: TestClient) -> None:
    token = str(make_token(live_api)["token"])
    body, headers = DeviceKey().request("cam-1", token)
    other = base64.b64encode(DeviceKey().key.sign(body)).decode()
    for signature in ({}, {SIGNATURE_HEADER: other}, {SIGNATURE_HEADER: "%%%"}):
        response = live_api.post("/api/v1/enroll", content=body, headers=signature)
        assert (response.status_code, response.json()["code"]) == (403, "bad-signature")
    changed = live_api.post("/api/v1/enroll", content=body.replace(b"cam-1", b"cam-2"), headers=headers)
    assert changed.json()["code"] == "bad-signature"


@pytest.mark.parametrize(("body", "status"), [(b"{}", 400), (b"\xff", 400), (b" " * 17_000, 413)])
def test_a_bad_body_is_refused_before_it_is_read(live_api: TestClient, body: bytes, status: int) -> None:
    assert live_api.post("/api/v1/enroll", content=body).status_code == status


def test_a_join_token_expires(live: Hub, live_api: TestClient) -> None:
    token = make_token(live_api, expires_in=0.01)["token"]
    eventually(lambda: time.time() > _expiry(live), "the token's expiry")
    assert ask(live_api, DeviceKey(), "cam-1", token)[1]["code"] == "bad-token"


def _expiry(hub: Hub) -> float:
    with hub.database.read() as session:
        return session.query(JoinToken).one().expires_at


def test_a_revoked_device_is_cut_off_and_stays_out(live: Hub, live_api: TestClient, peers: Callable[..., Peer]) -> None:
    key, token = DeviceKey(), make_token(live_api, uses=5)["token"]
    _status, identity = ask(live_api, key, "cam-1", token)
    peer = peers(identity)
    assert live_api.post("/api/v1/devices/cam-1/revoke").json()["revoked"] is True
    assert peer.disconnected.wait(10)
    peer.close()
    assert ask(live_api, key, "cam-1", token)[1]["code"] == "revoked"
    with pytest.raises(AssertionError, match="did not connect"):
        _never_connects(identity)


def _never_connects(identity: dict[str, str]) -> None:
    """Connecting with a disabled account fails at once."""
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    answers: list[bool] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="late", protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(identity["username"], identity["password"])
    client.on_connect = lambda _c, _d, _f, reason, _p: answers.append(reason.is_failure)
    client.connect("127.0.0.1", int(identity["broker_url"].rpartition(":")[2]))
    client.loop_start()
    eventually(lambda: answers, "the broker's answer")
    client.disconnect()
    client.loop_stop()
    assert not answers[0], "did not connect"
