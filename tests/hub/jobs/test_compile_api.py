"""Asking for a compilation over the real API: the job is given what was asked for, and what is wrong is refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from edgewise_hub.api.app import create_app
from edgewise_hub.api.auth import create_token
from edgewise_hub.hub import Hub
from edgewise_hub.jobs.tables import Job
from edgewise_hub.registry.versions import register

URL = "/api/v1/compiles"
ASKED: dict[str, Any] = {"model": "tiny", "version": 1, "profiles": ["linux-x86-64"]}


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> TestClient:
    """Signed in; version 1 of ``tiny`` is registered."""
    (tmp_path / "blob").write_bytes(b"model")
    blob = hub.blobs.put_file(tmp_path / "blob")
    with hub.database.write() as session:
        register(session, hub, "tiny", {"kind": "onnx", "model": blob, "data": blob}, {}, {}, "", time.time())
        token = create_token(session, "test", 1.0)
    base_url = f"http://{hub.settings.host}:{hub.settings.port}"
    return TestClient(create_app(hub), base_url=base_url, headers={"Authorization": f"Bearer {token}"})


def payload(hub: Hub, identifier: str) -> dict[str, Any]:
    with hub.database.read() as session:
        return session.get_one(Job, (hub.tenant, identifier)).payload


def test_a_budget_reaches_the_job(client: TestClient, hub: Hub) -> None:
    plain = client.post(URL, json=ASKED)
    assert plain.status_code == 202
    nothing = {"budget": None, "training": None, "allow_over_budget": False}
    assert payload(hub, plain.json()["id"]) == {**ASKED, **nothing}
    limits = {"max_latency_ratio": 0.5, "max_metric_drop": 0.0}
    wished = {"training": False, "allow_over_budget": True}
    asked = client.post(URL, json={**ASKED, "budget": {**limits, "max_size": None}, **wished})
    assert payload(hub, asked.json()["id"]) == {**ASKED, "budget": limits, **wished}


@pytest.mark.parametrize(
    "budget", [{"max_size": 0}, {"max_latency_p95": -1}, {"max_beauty": 1}, {"max_size": "small"}, 5], ids=str
)
def test_a_budget_that_cannot_be_is_refused_before_there_is_a_job(client: TestClient, budget: Any) -> None:
    answer = client.post(URL, json={**ASKED, "budget": budget})
    assert answer.status_code == 422 and "budget" in answer.json()["detail"]
    assert client.get("/api/v1/jobs").json()["items"] == []
