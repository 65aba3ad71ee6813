"""A real HTTP server that answers what a test says: for how the client behaves on the wire, not for what a hub does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """One answer. ``hang`` waits for the test's end in place of answering."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}
    hang: bool = False


class Server:
    """``answer`` decides; ``asked`` keeps what came, ``came`` says that something did."""

    def __init__(self) -> None:
        self.answer: Callable[[Asked], Answer] = lambda _asked: Answer(404)
        self.asked: list[Asked] = []
        self.came = threading.Event()
        self.ending = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = Asked(self.command, parts.path, dict(parse_qsl(parts.query)), dict(self.headers), body)
                outer.asked.append(asked)
                outer.came.set()
                answer = outer.answer(asked)
                if answer.hang:
                    outer.ending.wait(30)
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = _serve

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    reply = Answer

    @staticmethod
    def json(value: object, status: int = 200, **headers: str) -> Answer:
        """A JSON answer."""
        return Answer(status, msgspec.json.encode(value), {name.replace("_", "-"): v for name, v in headers.items()})

    @contextmanager
    def running(self) -> Iterator[Server]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.ending.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_hub_around(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test finds the hub of whoever runs it."""
    for name in ("EDGEWISE_URL", "EDGEWISE_TOKEN", "EDGEWISE_DATA", "EDGEWISE_PROFILES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("nowhere"))
