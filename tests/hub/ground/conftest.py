"""What the ground's tests stand on: the API of a hub, a hub with a real mosquitto, a device that speaks real MQTT, and
the hub as a real process."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.testclient import TestClient
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edgewise.bundle import Blob, Manifest, Tensor, digest
from edgewise.wire import topics
from edgewise.wire.codec import encode_json
from edgewise.wire.control import Presence
from edgewise.wire.enrollment import SIGNATURE_HEADER, EnrollRequest
from edgewise_hub.api.app import create_app
from edgewise_hub.api.auth import create_token
from edgewise_hub.fleet import groups
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.main import TICKS, Ticker, start_messaging
from edgewise_hub.registry import versions
from edgewise_hub.registry.tables import Bundle
from edgewise_hub.settings import Settings

DEADLINE_S = 60.0
PROFILE = "linux-x86-64"
OTHER_PROFILE = "raspberry-pi-5"


def eventually(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Wait until ``condition`` is true, and give what it gave."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        threading.Event().wait(0.02)
    raise AssertionError(f"did not happen within {deadline_s} s: {what}")


@pytest.fixture
def token(hub: Hub) -> str:
    """An API token of ``hub``."""
    with hub.database.write() as session:
        return create_token(session, "test", 0.0)


@pytest.fixture
def anonymous(hub: Hub) -> Iterator[TestClient]:
    """A client of ``hub``'s API without a token."""
    with TestClient(create_app(hub), base_url=f"http://127.0.0.1:{hub.settings.port}") as client:
        yield client


@pytest.fixture
def api(hub: Hub, token: str) -> Iterator[TestClient]:
    """A client of ``hub``'s API with a token."""
    with TestClient(
        create_app(hub),
        base_url=f"http://127.0.0.1:{hub.settings.port}",
        headers={"Authorization": f"Bearer {token}"},
    ) as client:
        yield client


@pytest.fixture
def live(tmp_path: Path, migrated_database: Path) -> Iterator[Hub]:
    """A hub in this process with a mosquitto of its own, connected, its inbox, blocks and ticker running."""
    data = tmp_path / "live"
    data.mkdir()
    (data / "hub.db").write_bytes(migrated_database.read_bytes())
    with ExitStack() as stack:
        hub = Hub.open(Settings(data=data, tick_s=0.1))
        stack.callback(hub.database.close)
        ticker = Ticker(hub, TICKS)
        start_messaging(stack, hub, ticker)
        ticker.start()
        stack.callback(ticker.stop)
        yield hub


@pytest.fixture
def live_api(live: Hub) -> Iterator[TestClient]:
    """A client of ``live``'s API with a token."""
    with live.database.write() as session:
        token = create_token(session, "test", 0.0)
    with TestClient(
        create_app(live),
        base_url=f"http://127.0.0.1:{live.settings.port}",
        headers={"Authorization": f"Bearer {token}"},
    ) as client:
        yield client


class DeviceKey:
    """A device's key, and the enrollment request that it signs."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        raw = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = base64.b64encode(raw).decode()

    def request(self, name: str, token: str, profile: str = PROFILE) -> tuple[bytes, dict[str, str]]:
        """(body, headers) of POST /enroll."""
        body = encode_json(EnrollRequest(token=token, name=name, profile=profile, public_key=self.public))
        return body, {SIGNATURE_HEADER: base64.b64encode(self.key.sign(body)).decode()}


def enroll(client: TestClient | httpx.Client, name: str, group: str = "lab", profile: str = PROFILE) -> dict[str, Any]:
    """Make a join token, and enroll a new device with it: the EnrollResponse."""
    made = client.post("/api/v1/join-tokens", json={"groups": [group]})
    assert made.status_code == 201, made.text
    body, headers = DeviceKey().request(name, made.json()["token"], profile)
    answer = client.post("/api/v1/enroll", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


class Peer:
    """A device's end of the wire: a plain MQTT client with its account, presence and what it hears."""

    def __init__(self, identity: dict[str, Any], session: int = 1) -> None:
        self.tenant, self.device = identity["tenant"], identity["device"]
        self.heard: list[tuple[str, bytes]] = []
        self.published: dict[int, paho.ReasonCode] = {}
        self.granted: dict[int, list[paho.ReasonCode]] = {}
        self.connected = threading.Event()
        self.disconnected = threading.Event()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"{self.device}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self.client.username_pw_set(identity["username"], identity["password"])
        gone = Presence(device=self.device, online=False, session=session)
        self.client.will_set(topics.presence(self.tenant, self.device), encode_json(gone), qos=1, retain=True)
        self.client.on_connect = lambda *_: self.connected.set()
        self.client.on_disconnect = lambda *_: self.disconnected.set()
        self.client.on_message = lambda _c, _d, m: self.heard.append((m.topic, bytes(m.payload)))
        self.client.on_publish = lambda _c, _d, mid, reason, _p: self.published.update({mid: reason})
        self.client.on_subscribe = lambda _c, _d, mid, reasons, _p: self.granted.update({mid: reasons})
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", int(identity["broker_url"].rpartition(":")[2]))
        self.client.loop_start()
        assert self.connected.wait(DEADLINE_S), f"{self.device} did not connect"

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> paho.ReasonCode:
        """Publish with QoS 1; the broker's answer."""
        info = self.client.publish(topic, payload, qos=1, retain=retain)
        return eventually(lambda: self.published.get(info.mid), f"an answer to a publish on {topic}")

    def subscribe(self, topic: str) -> paho.ReasonCode:
        """Subscribe; the broker's answer."""
        _result, mid = self.client.subscribe(topic, qos=1)
        assert mid is not None
        return eventually(lambda: self.granted.get(mid), f"an answer to a subscribe to {topic}")[0]

    def hears(self, topic: str) -> list[bytes]:
        """What has come on a topic."""
        return [payload for heard, payload in self.heard if heard == topic]

    def close(self) -> None:
        """Say goodbye."""
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def peers() -> Iterator[Callable[..., Peer]]:
    """Makes peers, and closes them all."""
    made: list[Peer] = []

    def make(identity: dict[str, Any], session: int = 1) -> Peer:
        made.append(Peer(identity, session))
        return made[-1]

    yield make
    for peer in made:
        peer.close()


def add_device(hub: Hub, name: str, profile: str = PROFILE, group: str = "lab") -> None:
    """An enrolled device, straight into the database."""
    with hub.database.write() as session:
        session.add(
            Device(
                tenant_id=hub.tenant,
                id=name,
                profile=profile,
                public_key=f"key of {name}",
                join_token_id="none",
                enrolled_at=1.0,
            )
        )
        session.flush()
        groups.replace(session, hub, name, [group])


def add_version(hub: Hub, folder: Path, model: str = "digits", profiles: tuple[str, ...] = (PROFILE,)) -> list[Bundle]:
    """Register the next version with a bundle for each profile, of random bytes."""
    with hub.database.write() as session:
        version = versions.register(session, hub, model, {"kind": "onnx"}, {}, {}, "", 1.0)
        made = []
        for profile in profiles:
            content = {"model": os.urandom(200_000), "sketch": b"{}", "smoke": b"smoke"}
            files = {}
            for role, data in content.items():
                files[role] = folder / f"{model}-{version.version}-{profile}-{role}"
                files[role].write_bytes(data)
            reference = folder / "reference.npz"
            reference.write_bytes(b"reference")
            manifest = Manifest(
                tenant=hub.tenant,
                model=model,
                version=version.version,
                release=version.release,
                profile=profile,
                runtime="onnxruntime",
                inputs=[Tensor(name="x", datatype="FP32", shape=[-1, 4])],
                outputs=[Tensor(name="y", datatype="FP32", shape=[-1, 2])],
                blobs={role: Blob(sha256=digest(data), size=len(data)) for role, data in content.items()},
                created_at=1.0,
            )
            made.append(versions.add_bundle(session, hub, manifest, files, reference, {}, 2.0))
        return made


@dataclass
class HubProcess:
    """A real ``edgewise hub up``."""

    process: subprocess.Popen[str]
    data: Path
    ready: dict[str, Any]

    @property
    def client(self) -> httpx.Client:
        """A client with the operator's token."""
        token = (self.data / "operator.token").read_text()
        return httpx.Client(base_url=self.ready["url"], headers={"Authorization": f"Bearer {token}"}, timeout=10)

    def broker_pid(self) -> int:
        """The process of its mosquitto."""
        return int((self.data / "broker" / "pid").read_text())

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


def edgewise(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The ``edgewise`` command as a process; ``environment`` adds to ours."""
    command = [sys.executable, "-c", "from edgewise.cli import main; main()", *arguments]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("EDGEWISE_")} | environment
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)


@pytest.fixture
def start_hub() -> Iterator[Callable[..., HubProcess]]:
    """Starts hubs on free ports, waits until each is ready, and ends them and their brokers."""
    started: list[tuple[subprocess.Popen[str], Path]] = []

    def start(data: Path, *arguments: str) -> HubProcess:
        process = edgewise("hub", "up", "--json", "--data", str(data), "--port", "0", *arguments)
        started.append((process, data))
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, f"the hub did not start: {process.stderr.read()}"
        return HubProcess(process, data, json.loads(line))

    yield start
    for process, data in started:
        if process.poll() is None:
            process.terminate()
            process.wait(DEADLINE_S)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        _end_broker(data)


def _end_broker(data: Path) -> None:
    """End a broker that a killed hub left behind."""
    try:
        pid = int((data / "broker" / "pid").read_text())
        if str(data / "broker").encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        pass
