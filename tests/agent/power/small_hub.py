"""A hub that only enrolls: the first key that asks under a name is that device's; another is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from agent_builders import TENANT, HubKey

from edgewise.wire.codec import decode_json, encode_json
from edgewise.wire.enrollment import EnrollRequest, EnrollResponse


class EnrollHub:
    """Real HTTP on the loopback. ``known``: the key of the one device; ``heard`` is called with it."""

    def __init__(self, key: HubKey, broker_url: str = "mqtt://127.0.0.1:1") -> None:
        self.known: str | None = None
        self.heard: Callable[[str], None] = lambda _: None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = decode_json(self.rfile.read(int(self.headers["Content-Length"])), EnrollRequest)
                status, body = 403, b'{"detail": "this name belongs to another key"}'
                if hub.known in (None, request.public_key):
                    hub.known = request.public_key
                    hub.heard(request.public_key)
                    status, body = 200, encode_json(hub.identity(request, key, broker_url))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @staticmethod
    def identity(request: EnrollRequest, key: HubKey, broker_url: str) -> EnrollResponse:
        """What it answers."""
        return EnrollResponse(
            tenant=TENANT,
            device=request.name,
            profile=request.profile,
            broker_url=broker_url,
            username="device",
            password="a-secret-of-the-device",
            keys=[key.public],
            time=1.0,
        )

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
