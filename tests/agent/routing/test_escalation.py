"""Asking a server: only where the owner allows it, within a budget and a timeout, and left alone when it fails."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from agent_builders import CLASSES, MODEL, SIDE, HubKey, make_bundle
from oip_builders import opened, served, serving

from edgewise.wire.experiment import Escalate
from edgewise_agent.serving.oip.asking import read_answer, write_question
from edgewise_agent.serving.oip.messages import read_request
from edgewise_agent.serving.oip.tensors import BadTensor
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
