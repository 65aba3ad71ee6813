"""The agent's HTTP server over real models and real sockets, in this process; and a client that may misbehave."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent_builders import Bundle, write_blobs

from edgewise_agent.runtimes import Runtime
from edgewise_agent.serving.inference import Busy, ServedModel
from edgewise_agent.serving.model import Model, batching, open_model
from edgewise_agent.serving.oip.api import Api
from edgewise_agent.serving.options import Options
from edgewise_agent.serving.server import Server
from edgewise_agent.windows.collector import Collector


def opened(folder: Path, bundle: Bundle) -> Model:
    """The bundle, written to the folder and opened."""
    write_blobs(folder, bundle)
    return open_model(bundle.digest, folder)


def collector(model: Model) -> Collector:
    """A window that stays open."""
    return Collector(
        model=model.manifest.model,
        version=model.manifest.version,
        bundle=model.bundle,
        spec=model.spec,
        spec_digest=model.spec_digest,
        projection=model.projection,
        window_s=1e9,
        now=time.monotonic(),
        clock=time.time(),
    )


def served(model: Model, options: Options | None = None) -> ServedModel:
    """The model, ready for requests."""
    options = options or Options()
    return ServedModel(batching(model, options), collector(model), Busy(), sampling=False, policy=options.quality)


@contextmanager
def serving(
    *models: ServedModel, options: Options | None = None, unix: Path | None = None, send_buffer: int | None = None
) -> Iterator[str]:
    """host:port of a server of these models; drained at the end. ``send_buffer``: of the kernel."""
    options = options or Options()
    with socket.socket() as listener, socket.socket(socket.AF_UNIX) as local:
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)  # its connections inherit it
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        listeners = [listener]
        if unix is not None:
            local.bind(str(unix))
            local.listen(16)
            listeners.append(local)
        api = Api({one.model.manifest.model: one for one in models}, options, lambda taken: None)
        server = Server(api, listeners, options, options.running * len(models))
        server.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.drain(0.1)


def head(path: str, *headers: str, method: str = "POST", version: str = "1.1") -> bytes:
    """A request's head, to the blank line."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: localhost", *headers, "", ""]).encode("latin-1")


class Client:
    """One connection on which any bytes may be sent. A context manager."""

    def __init__(self, address: str, timeout: float = 20.0) -> None:
        host, _, port = address.rpartition(":")
        self.sock = socket.create_connection((host, int(port)), timeout)
        self.rest = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def post(self, path: str, body: bytes, *headers: str) -> tuple[int, dict[str, str], bytes]:
        self.send(head(path, f"Content-Length: {len(body)}", *headers) + body)
        return self.answer()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of the next answer."""
        while b"\r\n\r\n" not in self.rest:
            self._more()
        raw, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("content-length", 0))
        while len(self.rest) < length:
            self._more()
        body, self.rest = self.rest[:length], self.rest[length:]
        return int(first.split(" ")[1]), headers, body

    def closed(self) -> bool:
        """Waits for the server's end of the connection; False if it sends more instead."""
        try:
            return not self.rest and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        data = self.sock.recv(65536)
        assert data, f"the server closed the connection after {self.rest!r}"
        self.rest += data


def error(body: bytes) -> str:
    """What an error answer says."""
    said = json.loads(body)
    assert list(said) == ["error"]
    text: str = said["error"]
    return text


class Slow:
    """A runtime whose inference takes until it is let go: what back-pressure and batching are shown on."""

    def __init__(self, inside: Runtime, gate: Any) -> None:
        self._inside, self._gate = inside, gate
        self.sizes: list[int] = []
        self.threads: list[int] = []
        self.version = inside.version
        self.describe = inside.describe

    def infer(self, inputs: Any) -> Any:
        self.threads.append(threading.get_ident())
        self.sizes.append(len(next(iter(inputs.values()))))
        assert self._gate.wait(30)
        return self._inside.infer(inputs)
