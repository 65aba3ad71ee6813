"""Asking a server: only where the owner allows it, within a budget and a timeout, and left alone when it fails."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import numpy as np
import pytest
from agent_builders import CLASSES, MODEL, SIDE, HubKey, make_bundle
from oip_builders import opened, served, serving

from edgewise.wire.experiment import Escalate
from edgewise_agent.serving.channel import Load
from edgewise_agent.serving.oip.asking import LENGTH, read_answer, write_question
from edgewise_agent.serving.oip.messages import read_request
from edgewise_agent.serving.oip.tensors import BadTensor
from edgewise_agent.serving.options import BadOption, of_owner
from edgewise_agent.serving.routing.budget import DAY_S, Budget
from edgewise_agent.serving.routing.escalation import Unanswered
from edgewise_agent.serving.routing.remote import Server

INPUTS = {"image": np.full((1, 1, SIDE, SIDE), 0.5, np.float32)}
ENOUGH = 2**30


def server(url: str, allowed: list[str], timeout_s: float = 20.0, budget: Budget | None = None) -> Server:
    policy = Escalate(experiment="e", threshold=0.5, url=url, model=MODEL, timeout_s=timeout_s)
    return Server(policy, allowed, budget or Budget(None, ENOUGH), at_once=1)


def test_a_question_is_a_request_of_the_protocol() -> None:
    headers, body = write_question(INPUTS, ["scores"])
    request = read_request(memoryview(body), int(headers["Inference-Header-Content-Length"]))
    assert np.array_equal(request.inputs["image"], INPUTS["image"]) and request.outputs == {"scores": True}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"outputs":[{"name":"s","datatype":"FP32","shape":[2]}]}', b"[1]"])
def test_an_answer_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(BadTensor):
        read_answer(None, body)
    with pytest.raises(BadTensor):
        read_answer("many", body)


def test_asks_again_over_the_connection_that_is_kept(key: HubKey, tmp_path: Path) -> None:
    with serving(served(opened(tmp_path, make_bundle(key, 2)))) as address:
        ask = server(f"http://{address}/v2", [address])
        for _ in range(3):
            reply = ask(INPUTS, ["scores"])
            assert reply.outputs["scores"].shape == (1, CLASSES) and reply.bytes > INPUTS["image"].nbytes
        assert len(ask._idle) == 1


@pytest.mark.parametrize(
    ("url", "allowed", "says"),
    [
        ("http://127.0.0.1:1/v2", [], "owner allows"),
        ("http://127.0.0.1:1/v2", ["127.0.0.1:2", "example"], "owner allows"),
        ("http://server.example/v2", ["server.example"], "expected https"),
    ],
)
def test_nothing_is_sent_where_the_owner_does_not_allow_it(url: str, allowed: list[str], says: str) -> None:
    budget = Budget(None, ENOUGH)
    with pytest.raises(Unanswered, match=says) as refused:
        server(url, allowed, budget=budget)(INPUTS, ["scores"])
    assert not refused.value.asked and budget.take(ENOUGH, time.time()), "and nothing is spent"


def test_a_server_that_is_silent_costs_one_timeout_and_is_left_alone() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(4)

        def listen() -> None:
            with listener.accept()[0] as peer:
                while peer.recv(2**16):
                    pass  # until the other side gives up

        thread = threading.Thread(target=listen)
        thread.start()
        port = listener.getsockname()[1]
        ask = server(f"http://127.0.0.1:{port}/v2", ["127.0.0.1"], timeout_s=0.5)
        with pytest.raises(Unanswered, match=r"within 0\.5 s|timed out") as silent:
            ask(INPUTS, ["scores"])
        assert silent.value.asked and silent.value.bytes > 0
        with pytest.raises(Unanswered, match="a moment ago") as alone:
            ask(INPUTS, ["scores"])
        assert not alone.value.asked
        thread.join(30)


@contextmanager
def guarded(behind: str, token: list[str]) -> Iterator[tuple[str, list[str | None]]]:
    """host:port of a server that answers as ``behind`` does whoever has the newest token; and what it was sent."""
    sent: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent.append(self.headers["Authorization"])
            answer, headers = b"", {}
            if sent[-1] == f"Bearer {token[-1]}":
                asked = http.client.HTTPConnection(behind, timeout=20)
                asked.request("POST", self.path, body, {LENGTH: self.headers[LENGTH]})
                got = asked.getresponse()
                answer, headers = got.read(), {LENGTH: got.headers[LENGTH]}
            self.send_response(200 if answer else 401)
            for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{found.server_port}", sent
    finally:
        found.shutdown()
        thread.join()
        found.server_close()


def test_a_token_goes_to_its_host_alone_and_may_be_replaced(
    key: HubKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file, tokens = tmp_path / "token", ["first-s3cret"]
    file.write_text(tokens[0] + "\n")
    monkeypatch.setenv("TOKEN_OF_IT", "second-s3cret")
    with (
        serving(served(opened(tmp_path / "blobs", make_bundle(key, 2)))) as behind,
        guarded(behind, tokens) as (address, sent),
    ):

        def ask(*places: str) -> Server:
            policy = Escalate(experiment="e", threshold=0.5, url=f"http://{address}/v2", model=MODEL, timeout_s=20)
            return Server(policy, [address], Budget(None, ENOUGH), 1, places)

        with_file = ask(f"{address}=file:{file}", "server.example=env:TOKEN_OF_IT")
        assert with_file(INPUTS, ["scores"]).outputs["scores"].shape == (1, CLASSES)
        tokens.append("second-s3cret")
        file.write_text("second-s3cret")
        assert with_file(INPUTS, ["scores"]).outputs["scores"].shape == (1, CLASSES), "the file was replaced"
        assert ask("127.0.0.1=env:TOKEN_OF_IT")(INPUTS, ["scores"]).outputs["scores"].shape == (1, CLASSES)
        assert sent == ["Bearer first-s3cret", "Bearer second-s3cret", "Bearer second-s3cret"]
        with pytest.raises(Unanswered, match="status 401"):
            ask("server.example=env:TOKEN_OF_IT")(INPUTS, ["scores"])
        assert sent[3:] == [None], "another host's token stays here"
        for place, content in ((f"file:{tmp_path / 'none'}", ""), (f"file:{file}", "two s3cret\n"), ("env:UNSET", "")):
            file.write_text(content)
            with pytest.raises(Unanswered, match="token") as refused:
                ask(f"127.0.0.1={place}")(INPUTS, ["scores"])
            assert not refused.value.asked and "s3cret" not in str(refused.value)
        assert len(sent) == 4, "nothing is sent without its token"
    assert caplog.records and "s3cret" not in caplog.text


def test_where_tokens_lie_is_an_option_and_they_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_OF_IT", "s3cret")
    places = "server.example=env:TOKEN_OF_IT, 10.0.0.5:8443=file:/etc/edgewise/token"
    options = of_owner({"EDGEWISE_AGENT_SERVE_ESCALATE_TOKENS": places, "TOKEN_OF_IT": "s3cret"})
    assert options.escalate_tokens == ["server.example=env:TOKEN_OF_IT", "10.0.0.5:8443=file:/etc/edgewise/token"]
    assert b"s3cret" not in msgspec.msgpack.encode(Load(models=[], blobs="", options=options))
    for wrong in ("s3cret", "server.example=s3cret", "server.example=file:relative"):
        with pytest.raises(BadOption):
            of_owner({"EDGEWISE_AGENT_SERVE_ESCALATE_TOKENS": wrong})


def test_an_answer_of_another_kind_is_no_answer(key: HubKey, tmp_path: Path) -> None:
    with serving(served(opened(tmp_path, make_bundle(key, 2)))) as address:
        ask = server(f"http://{address}/v2", [address])
        with pytest.raises(Unanswered, match="status 400") as refused:
            ask({"image": np.zeros((1, 2), np.float32)}, ["scores"])
        assert refused.value.asked


def test_the_budget_holds_over_restarts_and_is_new_each_day(tmp_path: Path) -> None:
    path, day = tmp_path / "answers" / "m.budget", 20_000 * DAY_S
    assert Budget(path, 100).take(60, day) and not Budget(path, 100).take(60, day + DAY_S - 1)
    assert Budget(path, 100).take(40, day + 5) and not Budget(path, 100).take(1, day + 5)
    after = Budget(path, 100)
    assert after.take(60, day + DAY_S) and not after.take(60, day), "a clock that goes back gives no new budget"
    assert after.take(500, day + DAY_S, over=True) and not after.take(1, day + DAY_S)
    assert not Budget(tmp_path / "answers" / "m.budget" / "none", 100).take(1, day), "a disk that fails gives none"
