"""What the client makes of whatever can come over a wire."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgewise import transport
from edgewise.client import Client, HubError
from edgewise.endpoints import JobError
from edgewise.errors import EdgewiseError
from edgewise.resources import Event

GROUP = {"name": "a", "devices": 1, "online": 1}
JOB = {
    "id": "j1", "kind": "compile", "state": "queued", "progress": 0.0, "progress_text": "", "result": None,
    "error": None, "created_at": 1.0, "started_at": None, "finished_at": None,
}  # fmt: skip


@pytest.fixture
def client(server: Any) -> Iterator[Client]:
    with Client(server.url, "ew_token", timeout=5) as made:
        yield made


def test_a_problem_keeps_its_code_and_its_sentence(server: Any, client: Client) -> None:
    problem = {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "v2 is rolling out", "code": "busy"}
    server.answer = lambda asked: server.json(problem, 409, Content_Type="application/problem+json")
    with pytest.raises(HubError, match=r"^v2 is rolling out$") as caught:
        client.rollouts.create("digits", 3)
    assert (caught.value.code, caught.value.status, caught.value.detail) == ("busy", 409, "v2 is rolling out")


@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b"[1]", b'{"code": 5}', b"\xff\xfe"])
def test_a_refusal_that_is_no_problem_document_is_a_hub_error_too(server: Any, client: Client, body: bytes) -> None:
    server.answer = lambda asked: server.reply(502, body)
    with pytest.raises(HubError, match="the hub answered 502") as caught:
        client.system()
    assert caught.value.code == "http-502"


@pytest.mark.parametrize("body", [b"", b"hello", b'{"name": "a"}', b'{"items": 3}', b"[" * 100_000])
def test_an_answer_of_another_kind_is_a_hub_error(server: Any, client: Client, body: bytes) -> None:
    server.answer = lambda asked: server.reply(200, body)
    with pytest.raises(HubError, match="update edgewise") as caught:
        client.groups.list()
    assert caught.value.code == "bad-answer"


def test_an_answer_past_the_bound_is_not_read(server: Any, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER", 1000)
    server.answer = lambda asked: server.reply(200, b" " * 2000)
    with pytest.raises(HubError, match="over 1000 bytes"):
        client.system()


def test_a_redirect_is_not_followed(server: Any, client: Client) -> None:
    server.answer = lambda asked: server.reply(307, b"", {"Location": "http://127.0.0.1:9/elsewhere"})
    with pytest.raises(HubError, match="answered 307"):
        client.system()
    assert len(server.asked) == 1


def test_a_hub_that_hangs_is_a_timeout(server: Any) -> None:
    server.answer = lambda asked: server.reply(hang=True)
    with Client(server.url, "ew_token", timeout=0.2) as client, pytest.raises(HubError, match="in time") as caught:
        client.system()
    assert caught.value.code == "timeout"


def test_pages_are_hidden(server: Any, client: Client) -> None:
    def answer(asked: Any) -> Any:
        at = int(asked.query.get("cursor", 0))
        items = [{**GROUP, "name": f"g{n}"} for n in range(at, min(at + 2, 5))]
        return server.json({"items": items, "next": str(at + 2) if at + 2 < 5 else None})

    server.answer = answer
    assert [group.name for group in client.groups.list()] == ["g0", "g1", "g2", "g3", "g4"]
    assert [asked.query.get("cursor") for asked in server.asked] == [None, "2", "4"]


def test_a_limit_stops_the_pages(server: Any, client: Client) -> None:
    server.answer = lambda asked: server.json({"items": [JOB] * int(asked.query["limit"]), "next": "more"})
    assert len(client.jobs.list(limit=3)) == 3
    assert [asked.query["limit"] for asked in server.asked] == ["3"]


def test_pages_that_never_end_are_refused(server: Any, client: Client) -> None:
    server.answer = lambda asked: server.json({"items": [GROUP], "next": "same"})
    with pytest.raises(HubError, match="same page"):
        client.groups.list()


def test_names_cannot_climb_out_of_their_path(server: Any, client: Client) -> None:
    with pytest.raises(HubError, match="answered 404"):
        client.models.get("../devices?x=1")
    assert server.asked[0].path == "/api/v1/models/..%2Fdevices%3Fx%3D1"
    for name in ("", ".", ".."):
        with pytest.raises(HubError, match="expected a name"):
            client.models.get(name)
    assert len(server.asked) == 1


def test_filters_that_are_not_given_are_not_sent(server: Any, client: Client) -> None:
    server.answer = lambda asked: server.json({"items": [], "next": None})
    client.alerts.list()
    client.alerts.list(open=True, limit=7)
    assert [asked.query for asked in server.asked] == [{"limit": "200"}, {"limit": "7", "open": "true"}]


def test_a_blob_is_sent_once(server: Any, client: Client, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "model.onnx").write_bytes(content)
    kept: dict[str, bytes] = {}

    def answer(asked: Any) -> Any:
        if asked.method == "PUT":
            kept[asked.path] = asked.body
        return server.reply(204 if asked.path in kept else 404)

    server.answer = answer
    sha256 = client.upload(tmp_path / "model.onnx")
    assert sha256 == hashlib.sha256(content).hexdigest() == client.upload(tmp_path / "model.onnx")
    assert kept == {f"/api/v1/blobs/{sha256}": content}
    assert [asked.method for asked in server.asked] == ["HEAD", "PUT", "HEAD"]


def test_a_file_that_is_not_there_is_named(server: Any, client: Client, tmp_path: Path) -> None:
    with pytest.raises(EdgewiseError, match=r"recipe\.py: cannot be read: No such file"):
        client.models.train("digits", tmp_path / "recipe.py")
    assert server.asked == []


def test_waiting_tells_each_change_once_and_bears_a_restart(
    server: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewise.endpoints.jobs.EVERY_S", 0.01)
    steps = iter([("queued", 0.0), ("running", 0.5), ("running", 0.5), None, ("done", 1.0)])

    def answer(asked: Any) -> Any:
        step = next(steps)
        if step is None:
            return server.reply(200, b"", {"Content-Length": "100"})  # and the connection ends: a hub that was killed
        return server.json({**JOB, "state": step[0], "progress": step[1]})

    server.answer = answer
    heard: list[str] = []
    assert client.jobs.wait("j1", lambda job: heard.append(job.state), timeout=20).state == "done"
    assert heard == ["queued", "running", "done"]


def test_a_failed_job_says_why(server: Any, client: Client) -> None:
    error = {"code": "bad-recipe", "detail": "recipe.py: expected a function build"}
    server.answer = lambda asked: server.json({**JOB, "state": "failed", "error": error})
    with pytest.raises(JobError, match=r"compile j1 failed: recipe\.py: expected a function build") as caught:
        client.jobs.wait("j1")
    assert caught.value.code == "bad-recipe"


def test_waiting_ends_with_its_timeout(server: Any, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewise.endpoints.jobs.EVERY_S", 0.01)
    server.answer = lambda asked: server.json(JOB)
    with pytest.raises(HubError, match=r"waited 0\.05 s") as caught:
        client.jobs.wait("j1", timeout=0.05)
    assert caught.value.code == "timeout"


def test_a_refusal_ends_a_wait_at_once(server: Any, client: Client) -> None:
    with pytest.raises(HubError, match="answered 404"):
        client.rollouts.wait("gone", timeout=20)
    assert len(server.asked) == 1


def stream(*events: tuple[str, str]) -> bytes:
    return b"retry: 10\n\n" + b"".join(
        f"event: {kind}\ndata: {msgspec.json.encode({'id': identifier}).decode()}\n\n".encode()
        for kind, identifier in events
    )


def test_events_come_again_after_a_lost_connection(server: Any, client: Client) -> None:
    streams = iter([stream(("device", "d1"), ("rollout", "r1")), stream(("job", "j1"))])
    server.answer = lambda asked: server.reply(200, next(streams), {"Content-Type": "text/event-stream"})
    events = client.events()
    assert [next(events) for _ in range(4)] == [
        Event(kind="device", id="d1"),
        Event(kind="rollout", id="r1"),
        Event(kind="resync", id=""),
        Event(kind="job", id="j1"),
    ]
    events.close()  # type: ignore[attr-defined]
    assert [asked.path for asked in server.asked] == ["/api/v1/events"] * 2


def test_events_bear_a_hub_that_restarts_and_end_with_a_refusal(server: Any, client: Client) -> None:
    answers = iter(
        [
            server.reply(200, stream(("device", "d1"))),
            server.json({"detail": "starting", "code": "starting", "title": "", "status": 503}, 503),
            server.reply(200, stream(("device", "d2"))),
            server.json({"detail": "no", "code": "unauthorized", "title": "", "status": 401}, 401),
        ]
    )
    server.answer = lambda asked: next(answers)
    seen = []
    with pytest.raises(HubError) as caught:
        for event in client.events():
            seen.append(event.id or event.kind)
    assert caught.value.status == 401
    assert seen == ["d1", "resync", "d2"]


def test_no_events_without_a_first_connection(server: Any, client: Client) -> None:
    with pytest.raises(HubError, match="answered 404"):
        next(client.events())


def test_two_clients_do_not_share_anything(server: Any) -> None:
    server.answer = lambda asked: server.json({"items": [GROUP], "next": None})
    clients = [Client(server.url, f"ew_{n}") for n in range(4)]
    threads = [threading.Thread(target=client.groups.list) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked.headers["Authorization"] for asked in server.asked) == [f"Bearer ew_{n}" for n in range(4)]
    for client in clients:
        client.close()
