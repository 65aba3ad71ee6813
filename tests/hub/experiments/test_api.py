"""Experiments over the real API."""

from __future__ import annotations

import time

import pytest
from cameras import MODEL, Cameras
from fastapi.testclient import TestClient

from edgewise_hub.api.app import create_app
from edgewise_hub.api.auth import create_token
from edgewise_hub.mqtt.inbox import Outbound
from edgewise_hub.rollouts import controller as rollouts

URL = "/api/v1/experiments"
SHADOW = {"model": MODEL, "candidate": 2, "policy": {"kind": "shadow"}}


@pytest.fixture
def client(cameras: Cameras) -> TestClient:
    """Signed in, with two cameras that run version 1, and version 2 compiled."""
    cameras.now = time.time()
    cameras.enroll("cam-1", "cam-2")
    cameras.compile()
    cameras.compile()
    with cameras.hub.database.write() as session:
        token = create_token(session, "test", 1.0)
    settings = cameras.hub.settings
    made = TestClient(
        create_app(cameras.hub),
        base_url=f"http://{settings.host}:{settings.port}",
        headers={"Authorization": f"Bearer {token}"},
    )
    gates = {"errors": None, "latency_ratio": None, "mix_distance": None, "deadline": 60}
    body = {"model": MODEL, "version": 1, "stages": [{"percent": 100}], "gates": gates}
    assert made.post("/api/v1/rollouts", json=body).status_code == 201
    cameras.obey("cam-1", "cam-2")
    rollouts.tick(cameras.hub, cameras.now + 1)
    return made


def test_create_tells_the_devices_at_once_and_shows_the_whole(
    client: TestClient, hub_published: list[Outbound]
) -> None:
    hub_published.clear()
    answer = client.post(URL, json=SHADOW)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert len(hub_published) == 2 and all(message.retain for message in hub_published)
    assert (made["control"], made["candidate"], made["metric"]) == (1, 2, "agreement")
    assert made["policy"] == {"kind": "shadow", "share": 1.0}
    assert [device["state"] for device in made["devices"]] == ["waiting", "waiting"]
    assert client.get(f"{URL}/{made['id']}").json()["id"] == made["id"]
    assert client.get(URL, params={"state": "running"}).json()["items"][0]["id"] == made["id"]
    assert client.get(URL, params={"model": "other"}).json()["items"] == []


def test_stop_then_promote_by_force(client: TestClient) -> None:
    made = client.post(URL, json=SHADOW).json()
    refused = client.post(f"{URL}/{made['id']}/promote", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "not-proved")
    assert client.post(f"{URL}/{made['id']}/stop").json()["decision"] == "stopped"
    again = client.post(f"{URL}/{made['id']}/stop")
    assert (again.status_code, again.json()["code"]) == (409, "experiment-over")
    done = client.post(f"{URL}/{made['id']}/promote", json={"force": True, "stages": [{"percent": 100}]}).json()
    rollout = client.get(f"/api/v1/rollouts/{done['rollout']}").json()
    assert (rollout["to_version"], rollout["state"]) == (2, "running")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"candidate": 9}, 404, "unknown-version"),
        ({"candidate": None}, 422, "bad-plan"),
        ({"metric": "reward"}, 422, "bad-plan"),
        ({"policy": {"kind": "shadow", "share": 0}}, 422, "invalid-request"),
        ({"policy": {"kind": "roulette"}}, 422, "invalid-request"),
        ({"policy": {"kind": "escalate", "threshold": 1, "url": "file:///x", "model": "m"}}, 422, "invalid-request"),
        ({"alpha": 0.9}, 422, "invalid-request"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    client: TestClient, changes: dict[str, object], status: int, code: str
) -> None:
    answer = client.post(URL, json={**SHADOW, **changes})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert "\n" not in answer.json()["detail"]


def test_nobody_else_may(client: TestClient) -> None:
    assert client.post(URL, json=SHADOW, headers={"Authorization": "Bearer no"}).status_code == 401
    assert client.get(f"{URL}/none").status_code == 404
