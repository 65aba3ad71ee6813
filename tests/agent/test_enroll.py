"""Enrollment over real HTTP: the key first, a signature over the exact bytes, refusals in one line."""

from __future__ import annotations

import base64
import json
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from agent_builders import PROFILE, TENANT, HubKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edgewise.errors import EdgewiseError
from edgewise.wire.codec import decode_json, encode_json
from edgewise.wire.enrollment import SIGNATURE_HEADER, EnrollRequest, EnrollResponse
from edgewise_agent import identity as identities
from edgewise_agent.enroll import endpoint, enroll
from edgewise_agent.store.disk import Disk

TOKEN = "join-token-of-the-test"


class Hub:
    """A small hub that enrolls: checks the signature, gives one identity a key."""

    def __init__(self, key: HubKey) -> None:
        self.key, self.requests = key, list[EnrollRequest]()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = hub.answer(self.path, body, self.headers[SIGNATURE_HEADER])
                self.send_response(status)
                if status == 307:
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.redirects = False
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, body: bytes, signature: str) -> tuple[int, bytes]:
        request = decode_json(body, EnrollRequest)
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(request.public_key))
        public.verify(base64.b64decode(signature), body)
        assert path == "/api/v1/enroll"
        self.requests.append(request)
        if self.redirects:
            return 307, b""
        if request.token != TOKEN:
            return 403, json.dumps({"title": "Forbidden", "status": 403, "detail": "this join token is spent"}).encode()
        response = EnrollResponse(
            tenant=TENANT,
            device=request.name,
            profile=request.profile,
            broker_url="mqtt://127.0.0.1:1883",
            username="u",
            password="the-password",
            keys=[self.key.public],
            time=1.0,
        )
        return 200, encode_json(response)


@pytest.fixture
def hub(key: HubKey) -> Iterator[Hub]:
    hub = Hub(key)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def ask(hub: Hub, data: Path, name: str = "cam-1", token: str = TOKEN) -> identities.Identity:
    return enroll(Disk(), data, hub=hub.url, token=token, name=name, profile=PROFILE)


def test_enrolls_and_keeps_secrets_to_its_owner(hub: Hub, tmp_path: Path) -> None:
    who = ask(hub, tmp_path / "d")
    assert identities.load(tmp_path / "d") == who and who.password == "the-password"
    for name in (identities.KEY_FILE, identities.IDENTITY_FILE):
        assert stat.S_IMODE((tmp_path / "d" / name).stat().st_mode) == 0o600
    assert hub.requests[0].facts["cores"]


def test_again_with_the_same_key_is_the_same_device(hub: Hub, tmp_path: Path) -> None:
    first = ask(hub, tmp_path)
    (tmp_path / identities.IDENTITY_FILE).unlink()
    assert ask(hub, tmp_path) == first
    assert hub.requests[0].public_key == hub.requests[1].public_key
    assert ask(hub, tmp_path) == first


def test_a_refusal_says_the_hubs_reason_and_keeps_the_key(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(EdgewiseError, match="this join token is spent"):
        ask(hub, tmp_path, token="a-spent-token")
    assert (tmp_path / identities.KEY_FILE).exists()
    assert not (tmp_path / identities.IDENTITY_FILE).exists()


def test_a_folder_belongs_to_one_device(hub: Hub, tmp_path: Path) -> None:
    first = ask(hub, tmp_path)
    with pytest.raises(EdgewiseError, match="another --data"):
        ask(hub, tmp_path, name="cam-2")
    assert identities.load(tmp_path) == first


def test_follows_no_redirect(hub: Hub, tmp_path: Path) -> None:
    hub.redirects = True
    with pytest.raises(EdgewiseError, match="HTTP 307"):
        ask(hub, tmp_path)


@pytest.mark.parametrize("url", ["http://hub.example", "ftp://127.0.0.1", "hub", "http://u:p@127.0.0.1", "http://[::1"])
def test_refuses_addresses_that_a_token_must_not_go_to(url: str) -> None:
    with pytest.raises(EdgewiseError, match="--hub"):
        endpoint(url)


def cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgewise_agent.main", *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environment},
        timeout=30,
        check=False,
    )


def test_command_line(hub: Hub, tmp_path: Path) -> None:
    data = str(tmp_path / "d")
    who = ["--hub", hub.url, "--name", "cam-1", "--profile", PROFILE, "--data", data]
    missing = cli("enroll", *who)
    assert missing.returncode == 2 and "EDGEWISE_JOIN_TOKEN" in missing.stderr
    none = cli("status", "--data", data)
    assert none.returncode == 1 and len(none.stderr.splitlines()) == 1 and "enroll" in none.stderr
    done = cli("enroll", *who, EDGEWISE_JOIN_TOKEN=TOKEN)
    assert done.returncode == 0 and done.stdout == f"enrolled as {TENANT}/cam-1 ({PROFILE})\n"
    status = cli("status", "--json", EDGEWISE_AGENT_DATA=data)
    assert status.returncode == 0 and json.loads(status.stdout)["device"] == "cam-1"
    assert "the-password" not in status.stdout
    given = cli("consent", "--data", data, "--model", "digits", "--count", "5", "--bytes", "1000")
    assert given.stdout == "digits: at most 5 samples and 1000 bytes\n"
    assert cli("consent", "--data", data, "--model", "digits", "--count", "-5", "--bytes", "1").returncode == 2
    assert cli("consent", "--data", data, "--model", "digits", "--none").stdout == "digits: no samples\n"
    in_use = cli("run", "--data", data, "--port", hub.url.rpartition(":")[2])
    assert in_use.returncode == 1 and "--port" in in_use.stderr
