"""The HTTP server on real sockets: what is strict, what is bounded, and that nothing of it hurts the next request."""

from __future__ import annotations

import dataclasses
import gzip
import json
import socket
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_builders import CLASSES, MODEL, SIDE, HubKey, infer_body, make_bundle, wait_for
from hypothesis import given
from hypothesis import strategies as st
from oip_builders import Client, Slow, error, head, opened, served, serving

from edgewise.errors import EdgewiseError
from edgewise.wire.quality import Quality
from edgewise_agent.runtimes import RuntimeFailure
from edgewise_agent.serving.batching import BatchingRuntime
from edgewise_agent.serving.gate import Gate
from edgewise_agent.serving.http import HttpError, parse_head
from edgewise_agent.serving.inference import ServedModel
from edgewise_agent.serving.listeners import SOCKET, open_listeners
from edgewise_agent.serving.model import Model
from edgewise_agent.serving.options import BadOption, Options, of_owner

INFER = f"/v2/models/{MODEL}/infer"
BODY = json.dumps(infer_body()).encode()


@pytest.fixture(scope="module")
def model(key: HubKey, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return opened(tmp_path_factory.mktemp("blobs"), make_bundle(key, 1))


@pytest.fixture(scope="module")
def address(model: Model) -> Iterator[str]:
    with serving(served(model), options=Options(max_body=64 * 1024)) as address:
        yield address


def works(address: str) -> bool:
    with Client(address) as client:
        return client.post(INFER, BODY)[0] == 200


def works_without_a_model(address: str) -> bool:
    with Client(address) as client:
        client.send(head("/v2/health/live", method="GET"))
        return client.answer()[0] == 200


# What is read strictly


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /v2\r\n\r\n", 400),
        (b"GET  /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"get /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://localhost/v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /v2 HTTP/2.0\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x10\r\n\r\n", 400),
        (b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
        (b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"v" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_closes_the_connection(address: str, data: bytes, status: int) -> None:
    with Client(address) as client:
        client.send(data)
        got, headers, body = client.answer()
        assert got == status and error(body) and headers["connection"] == "close"
        assert client.closed()
    assert works(address)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    try:
        parse_head(data)
    except HttpError as refused:
        assert refused.close and 400 <= refused.status < 500


@given(
    st.lists(st.sampled_from([b"GET", b"POST", b" ", b"/v2", b"HTTP/1.1", b"\r\n", b":", b"Host", b"1"]), max_size=20)
)
def test_any_near_head_is_a_head_or_refused(parts: list[bytes]) -> None:
    try:
        parse_head(b"".join(parts))
    except HttpError as refused:
        assert refused.close


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: rebound.example"], 403),
        (["Host: 127.0.0.1.rebound.example"], 403),
        (["Host: "], 403),
        (["Host: localhost:8600"], 200),
        (["Host: 127.0.0.1"], 200),
        (["Host: [::1]:8600"], 200),
        (["Host: localhost", "Origin: https://page.example"], 403),
        (["Host: localhost", "Origin: null"], 403),
        (["Host: localhost", "Origin: http://[oops"], 403),
        (["Host: localhost", "Origin: http://localhost:3000"], 200),
    ],
)
def test_web_pages_do_not_reach_a_model(address: str, headers: list[str], status: int) -> None:
    with Client(address) as client:
        client.send("\r\n".join(["GET /v2 HTTP/1.1", *headers, "", ""]).encode())
        assert client.answer()[0] == status


@pytest.mark.parametrize(
    ("length", "status", "says"),
    [
        ("abc", 400, "expected a number"),
        ("-1", 400, "expected a number"),
        (str(len(BODY) + 1), 400, "expected at most"),
        ("1", 400, "truncated"),
        (str(len(BODY)), 200, ""),
    ],
)
def test_a_header_length_that_lies(address: str, length: str, status: int, says: str) -> None:
    with Client(address) as client:
        got, _, body = client.post(INFER, BODY, f"Inference-Header-Content-Length: {length}")
        assert got == status and (status == 200 or says in error(body))
        assert client.post(INFER, BODY)[0] == 200, "the connection goes on"


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", b"not gzip", 400),
        ("deflate", b"not deflate", 400),
        ("br", BODY, 415),
        ("identity", BODY, 200),
    ],
)
def test_content_encodings(address: str, encoding: str, body: bytes, status: int) -> None:
    with Client(address) as client:
        assert client.post(INFER, body, f"Content-Encoding: {encoding}")[0] == status


def test_a_decompression_bomb_is_refused(address: str) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 64 * 1024
    with Client(address) as client:
        status, _, body = client.post(INFER, bomb, "Content-Encoding: gzip")
        assert status == 413 and "after decompression" in error(body)
        assert client.post(INFER, gzip.compress(BODY)[:-1], "Content-Encoding: gzip")[0] == 400


def test_what_the_quality_check_flags_is_in_the_answer(model: Model) -> None:
    options = Options(quality=Quality(out_of_bounds="flag"))
    with serving(served(model, options), options=options) as address, Client(address) as client:
        for value, said in ((0.5, None), (3.0, {"quality": "out_of_bounds: image"})):
            status, _, body = client.post(INFER, json.dumps(infer_body(value)).encode())
            assert status == 200 and json.loads(body).get("parameters") == said


# How a connection goes on


def test_keeps_alive_pipelines_and_closes_when_asked(address: str) -> None:
    with Client(address) as client:
        one = head(INFER, f"Content-Length: {len(BODY)}") + BODY
        client.send(one * 3 + head("/v2", method="HEAD") + head("/v2", "Connection: close", method="GET"))
        assert [client.answer()[0] for _ in range(3)] == [200, 200, 200]
        while b"\r\n\r\n" not in client.rest:
            client._more()
        raw, _, client.rest = client.rest.partition(b"\r\n\r\n")
        assert raw.startswith(b"HTTP/1.1 200 OK") and b"content-length: 0" not in raw, "HEAD has no body"
        status, headers, body = client.answer()
        assert (status, headers["connection"]) == (200, "close") and json.loads(body)["name"] == "edgewise-agent"
        assert client.closed()
    with Client(address) as client:
        client.send(head("/v2", method="GET", version="1.0"))
        assert client.answer()[0] == 200 and client.closed()


def test_bytes_may_come_one_by_one(address: str) -> None:
    with Client(address) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data := head(INFER, f"Content-Length: {len(BODY)}") + BODY)):
            client.send(data[i : i + 1])
        assert client.answer()[0] == 200


def test_a_client_that_waits_for_leave_is_given_it(address: str) -> None:
    with Client(address) as client:
        client.send(head(INFER, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        assert client.answer()[0] == 100
        client.send(BODY)
        assert client.answer()[0] == 200


def test_a_body_that_is_too_large_is_refused_though_it_is_still_coming(address: str) -> None:
    with Client(address) as client:
        status, headers, body = client.post(INFER, bytes(130 * 1024))
        assert status == 413 and headers["connection"] == "close" and "got 133120" in error(body)
        assert client.closed()
    with Client(address) as client:
        client.send(head(INFER, f"Content-Length: {10**14}"))
        assert client.answer()[0] == 413
    with Client(address) as client:
        client.send(head("/v2/repository/index", f"Content-Length: {65 * 1024}"))
        assert client.answer()[0] == 413


def test_a_client_that_goes_away_in_the_middle_leaves_nothing_behind(address: str) -> None:
    for cut in (3, 40, 150):
        with Client(address) as client:
            client.send((head(INFER, f"Content-Length: {len(BODY)}") + BODY)[:cut])
    assert works(address)


def test_large_answers_wait_for_a_slow_reader(model: Model) -> None:
    names = json.dumps({**infer_body(n=20_000), "outputs": [{"name": "embedding"}]}).encode()
    options = Options(max_body=len(names))
    with serving(served(model), options=options, send_buffer=16 * 1024) as address, Client(address) as client:
        status, _, body = client.post(INFER, names)
        assert status == 200 and len(json.loads(body)["outputs"][0]["data"]) == 20_000 * 6


# What is bounded


def test_silent_connections_are_closed(model: Model) -> None:
    options = Options(idle_s=0.2, receive_s=0.2)
    with serving(served(model), options=options) as address, Client(address) as idle, Client(address) as slow:
        slow.send(head(INFER, "Content-Length: 100")[:-4])
        assert idle.closed() and slow.closed()
        assert works(address)


def test_connections_over_the_bound_are_told_so(model: Model) -> None:
    with serving(served(model), options=Options(max_connections=2)) as address:
        with Client(address) as one, Client(address) as two, Client(address) as three:
            assert one.post(INFER, BODY)[0] == two.post(INFER, BODY)[0] == 200
            three.send(head("/v2", method="GET"))
            status, headers, body = three.answer()
            assert status == 503 and headers["retry-after"] == "1" and "at most 2 connections" in error(body)
            assert one.post(INFER, BODY)[0] == 200
        wait_for(lambda: works(address), "places are free again")


def held(model: Model) -> tuple[ServedModel, threading.Event, Slow]:
    """The model, whose inferences take until the event is set."""
    go = threading.Event()
    slow = Slow(model.runtime, go)
    return served(replaced(model, slow)), go, slow


def replaced(model: Model, runtime: Any) -> Model:
    """The model behind another runtime."""
    return dataclasses.replace(model, runtime=runtime)


def test_more_than_the_queue_holds_is_refused_and_health_is_still_answered(model: Model) -> None:
    one, go, slow = held(model)
    options = Options(concurrency=2, queue=3)
    with serving(one, options=options) as address, ThreadPoolExecutor(8) as pool:
        clients = [Client(address) for _ in range(8)]
        statuses = []
        waiting = []
        for i, client in enumerate(clients):
            client.send(head(INFER, f"Content-Length: {len(BODY)}") + BODY)
            if i < 2:
                wait_for(lambda i=i: len(slow.sizes) == i + 1, "it runs")
            if i >= 5:
                status, headers, body = client.answer()
                statuses.append((status, headers["retry-after"], "too many" in error(body)))
            else:
                waiting.append(pool.submit(client.answer))
        assert statuses == [(503, "1", True)] * 3 and len(slow.sizes) == 2
        assert works_without_a_model(address)
        go.set()
        assert [future.result(20)[0] for future in waiting] == [200] * 5
        for client in clients:
            client.sock.close()


def test_one_client_stays_on_one_thread_and_whoever_comes_meanwhile_gets_another(model: Model) -> None:
    go = threading.Event()
    slow = Slow(model.runtime, go)
    options = Options(batch=2, batch_wait_s=0.0)  # each inference is taken for a long one
    one = served(replaced(model, slow), options)
    with serving(one, options=options) as address, Client(address) as first, Client(address) as second:
        go.set()
        assert [first.post(INFER, BODY)[0] for _ in range(20)] == [200] * 20
        assert len(set(slow.threads[1:])) == 1
        go.clear()
        for running, client in enumerate((first, second), 21):
            client.send(head(INFER, f"Content-Length: {len(BODY)}") + BODY)
            wait_for(lambda running=running: len(slow.threads) == running, "it runs")
        assert slow.threads[-2] != slow.threads[-1]
        assert works_without_a_model(address), "a third thread listens"
        go.set()
        assert [client.answer()[0] for client in (first, second)] == [200, 200]


def test_bytes_that_are_held_are_bounded(model: Model) -> None:
    one, go, slow = held(model)
    options = Options(concurrency=1, max_bodies=1024 + len(BODY))
    with serving(one, options=options) as address, Client(address) as first, Client(address) as second:
        first.send(head(INFER, f"Content-Length: {len(BODY)}") + BODY)
        wait_for(lambda: slow.sizes, "it runs")
        status, _, body = second.post(INFER, BODY + b" " * 1024)
        assert status == 503 and "bytes of requests" in error(body)
        go.set()
        assert first.answer()[0] == 200
        wait_for(lambda: works(address), "the bytes are free again")


def test_draining_answers_what_is_there_and_closes(model: Model) -> None:
    one, go, slow = held(model)
    with ExitStack() as stack:
        with serving(one) as address:
            client = stack.enter_context(Client(address))
            client.send(head(INFER, f"Content-Length: {len(BODY)}") + BODY)
            wait_for(lambda: slow.sizes, "it runs")
            threading.Timer(0.2, go.set).start()
        status, headers, _ = client.answer()
        assert (status, headers["connection"]) == (200, "close") and client.closed()


@given(st.lists(st.sampled_from(["enter", "leave"]), max_size=60), st.integers(1, 3), st.integers(0, 3))
def test_a_gate_lets_through_in_order_and_never_more_than_it_may(steps: list[str], running: int, waiting: int) -> None:
    gate: Gate[int] = Gate(running, waiting)
    inside: list[int] = []
    queue: list[int] = []
    for number, step in enumerate(steps):
        if step == "enter":
            entered = gate.enter(number)
            assert entered == ("run" if len(inside) < running else "wait" if len(queue) < waiting else "full")
            if entered == "run":
                inside.append(number)
            elif entered == "wait":
                queue.append(number)
        elif inside:
            inside.pop(0)
            job = gate.leave(0.001)
            assert job == (queue[0] if queue else None)
            if job is not None:
                inside.append(queue.pop(0))
        assert len(gate) == len(queue)


# Batching


def test_requests_that_come_together_run_together_and_each_gets_its_own(model: Model) -> None:
    go = threading.Event()
    go.set()
    counted = Slow(model.runtime, go)
    runtime = BatchingRuntime(counted, items=8, wait_s=1.0)
    rng = np.random.default_rng(0)
    given = [{"image": rng.uniform(size=(n, 1, SIDE, SIDE)).astype(np.float32)} for n in (1, 2, 1, 3, 1)]
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(runtime.infer, given))
    assert counted.sizes == [8], "the batch is full, and nobody waits"
    for inputs, answer in zip(given, answers, strict=True):
        np.testing.assert_allclose(answer["scores"], model.runtime.infer(inputs)["scores"], rtol=1e-5)


def test_a_request_does_not_wait_longer_than_it_may_and_a_full_one_not_at_all(model: Model) -> None:
    one = {"image": np.zeros((1, 1, SIDE, SIDE), np.float32)}
    assert BatchingRuntime(model.runtime, items=8, wait_s=0.01).infer(one)["scores"].shape == (1, CLASSES)
    many = {"image": np.zeros((9, 1, SIDE, SIDE), np.float32)}
    assert BatchingRuntime(model.runtime, items=8, wait_s=3600).infer(many)["scores"].shape == (9, CLASSES)


def test_only_the_request_that_is_at_fault_fails(model: Model) -> None:
    class Picky:
        """Refuses a batch that holds a 7."""

        version, describe = model.runtime.version, model.runtime.describe

        def infer(self, inputs: Any) -> Any:
            if (inputs["image"] == 7).any():
                raise RuntimeFailure("it holds a 7")
            return model.runtime.infer(inputs)

    runtime = BatchingRuntime(Picky(), items=3, wait_s=5.0)  # type: ignore[arg-type]
    given = [{"image": np.full((1, 1, SIDE, SIDE), value, np.float32)} for value in (0.1, 7, 0.3)]

    def run(inputs: Any) -> object:
        try:
            return runtime.infer(inputs)["scores"].shape
        except RuntimeFailure as failure:
            return str(failure)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(run, given)) == [(1, CLASSES), "it holds a 7", (1, CLASSES)]


def test_batches_form_behind_the_server(model: Model) -> None:
    go = threading.Event()
    go.set()
    counted = Slow(model.runtime, go)
    options = Options(batch=4, batch_wait_s=1.0)
    with serving(served(replaced(model, counted), options), options=options) as address, ThreadPoolExecutor(4) as pool:

        def ask(i: int) -> int:
            with Client(address) as client:
                return client.post(INFER, BODY)[0]

        assert list(pool.map(ask, range(4))) == [200] * 4
    assert counted.sizes == [4]


# Where it listens, and how it is set


def test_the_unix_socket_serves_and_is_the_owners_alone(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(served(model), unix=path), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(head(INFER, f"Content-Length: {len(BODY)}", "Connection: close") + BODY)
        assert sock.recv(64).startswith(b"HTTP/1.1 200 OK")
    data = tmp_path / "data"
    data.mkdir()
    for _ in range(2):  # the second time, over what a killed agent left
        with open_listeners(data, 0) as (port, local):
            assert port.getsockname()[0] == "127.0.0.1" and local.getsockname() == str(data / SOCKET)
            assert stat.S_IMODE((data / SOCKET).stat().st_mode) == 0o600
        assert not (data / SOCKET).exists()
        (data / SOCKET).touch()


def test_a_path_too_long_for_a_socket_leaves_the_port(tmp_path: Path) -> None:
    data = tmp_path / ("d" * 120)
    data.mkdir()
    with open_listeners(data, 0) as listeners:
        assert len(listeners) == 1


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(EdgewiseError, match=f"port {port}: .*--port"), open_listeners(tmp_path, port):
            pass


def test_the_owner_sets_options_by_environment() -> None:
    assert of_owner({}) == Options()
    chosen = of_owner(
        {
            "EDGEWISE_AGENT_SERVE_QUEUE": "7",
            "EDGEWISE_AGENT_SERVE_BATCH_WAIT_S": "0.5",
            "EDGEWISE_AGENT_QUALITY_MISSING": "flag",
            "EDGEWISE_AGENT_SERVE_ESCALATE_TO": "server.example, 10.0.0.5:8443",
            "EDGEWISE_AGENT_SERVE_MEMORY_MB": "200",
        }
    )
    hosts = ["server.example", "10.0.0.5:8443"]
    assert chosen == Options(
        queue=7, batch_wait_s=0.5, quality=Quality(missing="flag"), escalate_to=hosts, memory_mb=200
    )
    for name, value in (("SERVE_QUEUE", "-1"), ("SERVE_QUEUE", "many"), ("QUALITY_MISSING", "ignore")):
        with pytest.raises(BadOption, match="EDGEWISE_AGENT_SERVE"):
            of_owner({f"EDGEWISE_AGENT_{name}": value})
