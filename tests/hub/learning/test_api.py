"""Jobs and learning over the API: what a user sends, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from edgewise_hub.api.app import create_app
from edgewise_hub.api.auth import create_token
from edgewise_hub.hub import Hub
from edgewise_hub.learning import samples
from edgewise_hub.mqtt.inbox import Inbound
from edgewise_hub.registry.versions import register

RECIPE = Path(__file__).parents[1] / "jobs" / "tiny_recipe.py"
Message = Callable[..., Inbound]


@pytest.fixture
def api(fleet: Hub) -> Iterator[TestClient]:
    """The fleet's API, with the operator's token; version 1 of ``tiny`` is registered."""
    with fleet.database.write() as session:
        token = create_token(session, "test", 1.0)
        blob = fleet.blobs.put_file(RECIPE)
        source = {"kind": "recipe", "recipe": blob, "weights": blob, "config": {}}
        register(session, fleet, "tiny", source, {}, {}, "", 1.0)
    url = f"http://127.0.0.1:{fleet.settings.port}/api/v1"
    with TestClient(create_app(fleet), base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


def test_a_compile_is_a_job_and_what_cannot_be_is_a_problem(api: TestClient) -> None:
    body = {"model": "tiny", "version": 1, "profiles": ["linux-x86-64", "raspberry-pi-5"]}
    answer = api.post("/compiles", json=body)
    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["state"], job["result"]) == ("compile", "queued", None)
    assert api.get(f"/jobs/{job['id']}").json() == job
    assert api.get("/jobs").json() == {"items": [job], "next": None}
    for change, status, code in (
        ({"profiles": ["toaster"]}, 422, "unknown-profile"),
        ({"version": 2}, 404, "not-found"),
        ({"profiles": []}, 422, "invalid-request"),
    ):
        refused = api.post("/compiles", json={**body, **change})
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert api.get("/jobs/none").status_code == 404


def test_a_sample_request_shows_what_came_and_closes(api: TestClient, fleet: Hub, message: Message) -> None:
    body = {"model": "tiny", "group": "district-a", "count": 5, "bytes": 500}
    request = api.post("/sample-requests", json=body).json()
    assert (request["state"], request["received"], request["consented"]) == ("open", 0, 1)
    assert api.post("/sample-requests", json=body).json()["code"] == "sample-request-open"
    with fleet.database.write() as session:
        samples.make_handler(fleet)(session, [message("a1", request_id=request["id"])])
    shown = api.get(f"/sample-requests/{request['id']}").json()
    assert (shown["received"], shown["received_bytes"], shown["devices"]) == (1, 16, {"a1": 1})
    assert api.post(f"/sample-requests/{request['id']}/close").json()["state"] == "closed"
    assert [one["id"] for one in api.get("/sample-requests").json()["items"]] == [request["id"], "request1"]
    assert api.get("/sample-requests/none").json()["code"] == "not-found"


def test_a_training_run_is_shown_with_its_job(api: TestClient) -> None:
    body = {"model": "tiny", "strategy": "rehearsal", "sample_request": "request1"}
    answer = api.post("/training-runs", json=body)
    assert answer.status_code == 202
    run = answer.json()
    assert (run["state"], run["parent_version"], run["job"]["kind"]) == ("queued", 1, "train")
    assert api.get(f"/training-runs/{run['id']}").json() == run
    assert api.get("/training-runs", params={"model": "tiny"}).json()["items"] == [run]
    assert api.get("/training-runs", params={"model": "other"}).json()["items"] == []
    refused = api.post("/training-runs", json={**body, "sample_request": None})
    assert (refused.status_code, refused.json()["code"]) == (422, "no-samples")


def test_triggers_are_made_listed_and_removed(api: TestClient) -> None:
    body = {"model": "tiny", "min_samples": 300, "config": {"new_share": 0.5}, "rollout": {"group": "district-b"}}
    trigger = api.post("/triggers", json=body).json()
    assert (trigger["on"], trigger["min_samples"], trigger["enabled"], trigger["fired_at"]) == (
        "drift",
        300,
        True,
        None,
    )
    assert api.get("/triggers").json()["items"] == [trigger]
    assert api.post("/triggers", json={**body, "config": {"new_share": 7}}).json()["code"] == "bad-options"
    assert api.delete(f"/triggers/{trigger['id']}").status_code == 204
    assert api.delete(f"/triggers/{trigger['id']}").status_code == 404
    assert api.get("/triggers").json()["items"] == []
