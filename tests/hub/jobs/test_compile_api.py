"""Asking for a compilation over the real API: the job is given what was asked for, and what is wrong is refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from edgewise_compiler.errors import CompileError
from edgewise_compiler.techniques import Techniques
from edgewise_hub.api.app import create_app
from edgewise_hub.api.auth import create_token
from edgewise_hub.api.schemas import TechniquesIn
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
    nothing = {"budget": None, "training": None, "allow_over_budget": False, "techniques": {}}
    assert payload(hub, plain.json()["id"]) == {**ASKED, **nothing}
    limits = {"max_latency_ratio": 0.5, "max_metric_drop": 0.0}
    wished = {"training": False, "allow_over_budget": True}
    asked = client.post(URL, json={**ASKED, "budget": {**limits, "max_size": None}, **wished})
    assert payload(hub, asked.json()["id"]) == {**ASKED, "budget": limits, **wished, "techniques": {}}


def test_techniques_by_name_reach_the_job(client: TestClient, hub: Hub) -> None:
    with hub.database.write() as session:
        source = {"kind": "onnx", "model": hub.blobs.put(b"small"), "data": hub.blobs.put(b"data")}
        register(session, hub, "small", source, {}, {}, "", time.time())
    wished = {"steps": 10, "loss": "dkd", "mask": "2:4", "student": {"model": "small", "version": 1}}
    asked = client.post(URL, json={**ASKED, "techniques": {**wished, "epochs": None}})
    assert payload(hub, asked.json()["id"])["techniques"] == {**wished, "apart": False}


@pytest.mark.parametrize("mask", ["2:4", "0.8", ".5", "0.80", "0", "1.0", "-0.5", "1:2", "nan"])
@pytest.mark.parametrize("lora", [None, 2])
@pytest.mark.parametrize("apart", [False, True])
def test_the_api_takes_what_the_compiler_takes(mask: str, lora: int | None, apart: bool) -> None:
    for one in (None, mask):
        fields = {"mask": one, "lora": lora, "apart": apart}
        try:
            TechniquesIn.model_validate(fields)
        except ValueError:
            with pytest.raises(CompileError):
                Techniques(**fields).check()
        else:
            Techniques(**fields).check()


@pytest.mark.parametrize(
    ("techniques", "said"),
    [
        ({"steps": 0}, "steps"),
        ({"loss": "l2"}, "loss"),
        ({"mask": "most"}, "mask"),
        ({"mask": "0.0"}, "mask"),
        ({"mask": "1"}, "mask"),
        ({"apart": True}, "apart: expected the rank"),
        ({"mask": "2:4", "lora": 2}, "expected mask or lora, got both"),
        ({"student": {"model": "none", "version": 1}}, "none version 1: there is none"),
        ({"student": {"model": "tiny", "version": 1}}, "tiny version 1 itself"),
        ({"student": "tiny.onnx"}, "student"),
    ],
    ids=str,
)
def test_techniques_that_cannot_be_are_refused_before_there_is_a_job(
    client: TestClient, techniques: Any, said: str
) -> None:
    answer = client.post(URL, json={**ASKED, "techniques": techniques})
    assert answer.status_code == 422 and said in answer.json()["detail"]
    assert client.get("/api/v1/jobs").json()["items"] == []


@pytest.mark.parametrize(
    "budget", [{"max_size": 0}, {"max_latency_p95": -1}, {"max_beauty": 1}, {"max_size": "small"}, 5], ids=str
)
def test_a_budget_that_cannot_be_is_refused_before_there_is_a_job(client: TestClient, budget: Any) -> None:
    answer = client.post(URL, json={**ASKED, "budget": budget})
    assert answer.status_code == 422 and "budget" in answer.json()["detail"]
    assert client.get("/api/v1/jobs").json()["items"] == []
