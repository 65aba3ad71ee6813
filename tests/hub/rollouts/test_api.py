"""Rollouts and accuracy over the real API."""

from __future__ import annotations

import time

import pytest
from cameras import MODEL, Cameras
from fastapi.testclient import TestClient

from edgewise_hub.api.app import create_app
from edgewise_hub.api.auth import create_token
from edgewise_hub.mqtt.inbox import Outbound

URL = "/api/v1/rollouts"


@pytest.fixture
def client(cameras: Cameras) -> TestClient:
    """Signed in, with three cameras and version 1."""
    cameras.now = time.time()
    cameras.enroll("cam-1", "cam-2", "cam-3")
    cameras.compile()
    with cameras.hub.database.write() as session:
        token = create_token(session, "test", 1.0)
    settings = cameras.hub.settings
    return TestClient(
        create_app(cameras.hub),
        base_url=f"http://{settings.host}:{settings.port}",
        headers={"Authorization": f"Bearer {token}"},
    )


def test_create_publishes_at_once_and_shows_the_whole(client: TestClient, hub_published: list[Outbound]) -> None:
    answer = client.post(URL, json={"model": MODEL, "version": 1})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert [stage["title"] for stage in made["stages"]] == ["1 device", "25%", "100%"]
    assert [stage["devices"] for stage in made["stages"]] == [1, 1, 3]
    assert [device["state"] for device in made["devices"]] == ["pending", "waiting", "waiting"]
    assert made["events"][0]["decision"] == "start"
    assert len(hub_published) == 1 and hub_published[0].retain
    assert client.get(f"{URL}/{made['id']}").json()["id"] == made["id"]


def test_the_list_goes_newest_first_page_by_page(client: TestClient) -> None:
    made = []
    for _ in range(3):
        made.append(client.post(URL, json={"model": MODEL, "version": 1}).json()["id"])
        assert client.post(f"{URL}/{made[-1]}/abort").json()["state"] == "aborted"
    first = client.get(URL, params={"limit": 2}).json()
    second = client.get(URL, params={"limit": 2, "cursor": first["next"]}).json()
    assert [item["id"] for item in first["items"] + second["items"]] == made[::-1]
    assert second["next"] is None
    assert client.get(URL, params={"state": "running"}).json()["items"] == []
    assert len(client.get(URL, params={"model": MODEL, "state": "aborted"}).json()["items"]) == 3
    assert client.get(URL, params={"model": "other"}).json()["items"] == []


def test_pause_resume_abort(client: TestClient) -> None:
    rollout = client.post(URL, json={"model": MODEL, "version": 1}).json()["id"]
    assert client.post(f"{URL}/{rollout}/pause").json()["state"] == "paused"
    assert client.post(f"{URL}/{rollout}/pause").json()["state"] == "paused"
    assert client.post(f"{URL}/{rollout}/resume").json()["state"] == "running"
    assert client.post(f"{URL}/{rollout}/abort").json()["state"] == "aborted"
    over = client.post(f"{URL}/{rollout}/pause")
    assert (over.status_code, over.json()["code"]) == (409, "rollout-over")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": MODEL, "version": 9}, 404, "unknown-version"),
        ({"model": MODEL, "version": 1, "group": "nowhere"}, 409, "no-devices"),
        ({"model": MODEL, "version": 1, "stages": [{"count": 1}]}, 422, "bad-plan"),
        ({"model": MODEL, "version": 1, "stages": []}, 422, "invalid-request"),
        ({"model": MODEL, "version": 1, "gates": {"errors": 2}}, 422, "invalid-request"),
    ],
)
def test_a_wrong_request_is_a_problem_with_a_code(
    client: TestClient, body: dict[str, object], status: int, code: str
) -> None:
    answer = client.post(URL, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get(URL).json()["items"] == []


def test_an_unknown_rollout_is_not_found(client: TestClient) -> None:
    for answer in (client.get(f"{URL}/none"), client.post(f"{URL}/none/pause")):
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_accuracy(client: TestClient, cameras: Cameras) -> None:
    cameras.send(cameras.window("cam-1", 1, 50, correct=40))
    (found,) = client.get("/api/v1/accuracy", params={"model": MODEL}).json()
    assert (found["group"], found["version"], found["labelled"], found["correct"]) == ("district-a", 1, 50, 40)
    assert client.get("/api/v1/accuracy", params={"model": MODEL, "group": "district-b"}).json() == []
    later = client.get("/api/v1/accuracy", params={"model": MODEL, "since": cameras.now + 1})
    assert later.json() == []
    assert client.get("/api/v1/accuracy", params={"model": MODEL, "since": "nan"}).status_code == 422
