"""What the agent's tests are made of: a signing key, tiny ONNX bundles, a real mosquitto, a small hub, an agent."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper, numpy_helper
from paho.mqtt.enums import CallbackAPIVersion

from edgewise.bundle import Blob, Bounds, Manifest, Tensor, digest, seal
from edgewise.sketch.spec import EmbeddingSpec, SketchSpec
from edgewise.wire import topics
from edgewise.wire.blocks import BLOCK_SIZE, CASTING, Block, BlockRequest, DeltaOffer, DeltaRequest, asked
from edgewise.wire.codec import decode_json, decode_msgpack, encode_json, encode_msgpack
from edgewise.wire.control import Desired, DesiredModel, Duty, Presence, Progress, Reported, SampleRequest
from edgewise.wire.enrollment import SigningKey
from edgewise.wire.experiment import STREAM_EXPERIMENT, Experiment, Sums, merge
from edgewise.wire.health import STREAM_HEALTH, Health
from edgewise.wire.windows import STREAM_SAMPLES, STREAM_WINDOWS, Ack, Samples, Window
from edgewise_agent import identity as identities
from edgewise_agent.store.disk import Disk

TENANT, DEVICE, PROFILE, MODEL = "default", "cam-1", "linux-x86-64", "digits"
SIDE, WIDTH, CLASSES = 4, 6, 3


class HubKey:
    """An Ed25519 key that signs, as the hub's does."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        raw = self._key.public_key().public_bytes_raw()
        self.public = SigningKey(keyid=digest(raw), public_key=base64.b64encode(raw).decode())

    def sign(self, payload: bytes) -> tuple[str, bytes]:
        return self.public.keyid, self._key.sign(payload)


@dataclass(frozen=True)
class Bundle:
    """A bundle and all its bytes."""

    duty: Duty
    manifest: Manifest
    blobs: dict[str, bytes]

    @property
    def digest(self) -> str:
        return self.duty.bundle


def onnx_bytes(seed: int, *, nan_above: bool = False, padding: int = 0) -> bytes:
    """image [-1, 1, 4, 4] -> scores [-1, 3], embedding [-1, 6]; ``nan_above``: an input above 5 gives NaN scores."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(size=(SIDE * SIDE, WIDTH)).astype(np.float32),
        "w2": rng.normal(size=(WIDTH, CLASSES)).astype(np.float32),
        "five": np.array(5.0, dtype=np.float32),
        "padding": rng.integers(0, 255, size=padding, dtype=np.uint8),
    }
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w1"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "w2"], ["logits" if nan_above else "scores"]),
    ]
    if nan_above:
        nodes += [
            helper.make_node("ReduceMax", ["flat"], ["top"], keepdims=0),
            helper.make_node("Sub", ["five", "top"], ["gap"]),
            helper.make_node("Sqrt", ["gap"], ["root"]),
            helper.make_node("Mul", ["logits", "root"], ["scores"]),
        ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", WIDTH]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def make_bundle(
    key: HubKey,
    version: int,
    *,
    profile: str = PROFILE,
    tenant: str = TENANT,
    model: str = MODEL,
    runtime: str = "onnxruntime",
    model_bytes: bytes | None = None,
    smoke: dict[str, np.ndarray[Any, Any]] | None = None,
    nan_above: bool = False,
    padding: int = 0,
) -> Bundle:
    """A signed bundle; version and release are one number."""
    rng = np.random.default_rng(7)
    projection = rng.normal(size=(8, WIDTH)).astype("<f4").tobytes()
    spec = SketchSpec(
        embedding=EmbeddingSpec(dimension=WIDTH, features=16, sigma=1.0, seed=7, projection=digest(projection)),
        classes=CLASSES,
        confidence_edges=[0.5, 0.75],
    )
    npz = io.BytesIO()
    np.savez(npz, **(smoke or {"image": rng.uniform(0, 1, size=(2, 1, SIDE, SIDE)).astype(np.float32)}))
    parts = {
        "model": onnx_bytes(version, nan_above=nan_above, padding=padding) if model_bytes is None else model_bytes,
        "sketch": encode_json(spec),
        "projection": projection,
        "smoke": npz.getvalue(),
    }
    manifest = Manifest(
        tenant=tenant,
        model=model,
        version=version,
        release=version,
        profile=profile,
        runtime=runtime,
        inputs=[Tensor(name="image", datatype="FP32", shape=[-1, 1, SIDE, SIDE])],
        outputs=[
            Tensor(name="scores", datatype="FP32", shape=[-1, CLASSES]),
            Tensor(name="embedding", datatype="FP32", shape=[-1, WIDTH]),
        ],
        scores="scores",
        embedding="embedding",
        labels=["a", "b", "c"],
        bounds={"image": Bounds(low=0.0, high=1.0)},
        blobs={role: Blob(sha256=digest(data), size=len(data)) for role, data in parts.items()},
        created_at=1.0,
    )
    envelope = seal(manifest, key.sign)
    duty = Duty(bundle=digest(envelope), size=len(envelope), version=version, release=version)
    return Bundle(duty, manifest, {digest(envelope): envelope, **{digest(data): data for data in parts.values()}})


def make_desired(
    generation: int,
    bundle: Bundle | None,
    *,
    now: float | None = None,
    trial_s: float = 0.2,
    window_s: float = 0.5,
    floor: int = 0,
    samples: SampleRequest | None = None,
    **changes: Any,
) -> Desired:
    """A desired state for the test device."""
    now = time.time() if now is None else now
    wish = DesiredModel(
        duties={"active": bundle.duty} if bundle else {},
        floor=floor,
        window_s=window_s,
        trial_s=trial_s,
        samples=samples,
    )
    desired = Desired(
        tenant=TENANT,
        device=DEVICE,
        profile=PROFILE,
        generation=generation,
        models={MODEL: wish} if bundle else {},
        issued_at=now,
        not_before=now - 60,
        not_after=now + 3600,
    )
    return msgspec.structs.replace(desired, **changes)


def identity(key: HubKey, broker_url: str = "mqtt://127.0.0.1:1") -> identities.Identity:
    """The test device's identity."""
    return identities.Identity(
        hub="http://127.0.0.1:1",
        tenant=TENANT,
        device=DEVICE,
        profile=PROFILE,
        broker_url=broker_url,
        username="device",
        password="a-secret-of-the-device",
        keys=[key.public],
        time=1.0,
    )


def write_blobs(folder: Path, *bundles: Bundle) -> None:
    """Put bundles into a blob folder, as a finished download would."""
    folder.mkdir(parents=True, exist_ok=True)
    for bundle in bundles:
        for name, data in bundle.blobs.items():
            (folder / name).write_bytes(data)


def free_port() -> int:
    """One that nobody uses, below those that clients are given: else one may get it before its server does."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("expected a free port between 20000 and 32000, found none")


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
    """The condition's first true value; fails with ``what`` at the deadline."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        threading.Event().wait(0.02)
    raise AssertionError(f"not within {timeout} s: {what}")


def call(url: str, body: object | None = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """(status, JSON) of one HTTP request on a connection of its own."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            content = response.read()
            return response.status, json.loads(content) if content else None
    except urllib.error.HTTPError as error:
        with error:
            content = error.read()
            return error.code, json.loads(content) if content else None


def infer_body(value: float = 0.5, n: int = 1, **more: Any) -> dict[str, Any]:
    """An infer request of n images of one value."""
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": [n, 1, SIDE, SIDE],
        "data": [value] * (n * SIDE * SIDE),
    }
    return {"inputs": [tensor], **more}


class Requests:
    """Threads that infer without a pause; ``failures`` holds every request not answered with 200, resets too."""

    def __init__(self, url: str, threads: int = 2) -> None:
        self.versions: list[str] = []
        self.failures: list[object] = []
        self._url, self._done = url, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                status, answer = call(self._url, infer_body())
            except OSError as error:  # refused, reset, timed out: the very thing that must not happen
                self.failures.append(error)
                continue
            if status == 200:
                self.versions.append(answer["model_version"])
            else:
                self.failures.append((status, answer))

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


class Broker:
    """mosquitto, anonymous, on the loopback, with persistence."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._folder.mkdir(exist_ok=True)
        configuration = self._folder / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {self._folder}/\nautosave_interval 1\nuser root\n"
        )
        self._process = subprocess.Popen(
            ["mosquitto", "-c", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._answers, "mosquitto listens")

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None


@dataclass
class MiniHub:
    """The hub's side of the wire for one device: publishes desired states, serves blocks, collects, acknowledges."""

    key: HubKey
    broker: Broker
    acking: bool = True
    serving_blocks: bool = True
    blobs: dict[str, bytes] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
    experiments: dict[tuple[int, int], Experiment] = field(default_factory=dict)
    healths: list[Health] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    presence: list[Presence] = field(default_factory=list)
    reported: Reported | None = None
    blocks_sent: int = 0
    corrupt: str | None = None
    """Digest of a blob whose blocks are sent with wrong bytes."""
    deltas: dict[str, DeltaOffer] = field(default_factory=dict)
    """Target -> what is answered about a delta; else there is none."""
    casting: set[str] = field(default_factory=set)
    """Digests of blobs of which those who hear casts are told to wait for one."""
    asked_for: dict[str, list[int]] = field(default_factory=dict)
    """Digest -> blocks that were asked for."""
    casts_heard: list[BlockRequest] = field(default_factory=list)
    """Requests that were told to wait for a cast."""

    def __post_init__(self) -> None:
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="hub", protocol=mqtt.MQTTv5)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe("ew/1/+/d/#", qos=1)
        self._client.connect("127.0.0.1", self.broker.port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, desired: Desired, *bundles: Bundle) -> bytes:
        for bundle in bundles:
            self.blobs.update(bundle.blobs)
        envelope = seal(desired, self.key.sign)
        self.publish_raw(envelope)
        return envelope

    def publish_raw(self, envelope: bytes) -> None:
        self._client.publish(topics.desired(TENANT, DEVICE), envelope, qos=1, retain=True)

    def ack(self, stream: str, epoch: int, sequence: int) -> None:
        message = encode_json(Ack(stream=stream, epoch=epoch, sequence=sequence, at=time.time()))
        self._client.publish(topics.ack(TENANT, DEVICE, stream), message, qos=1, retain=True)

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        topic, payload = topics.parse(message.topic), bytes(message.payload)
        if topic.kind == "blob" and topic.rest == "get" and self.serving_blocks:
            self._blocks(decode_msgpack(payload, BlockRequest))
        elif topic.kind == "blob" and topic.rest == "delta":
            target = decode_msgpack(payload, DeltaRequest).target
            offer = self.deltas.get(target, DeltaOffer(target=target, state="none"))
            self._client.publish(topics.blob_offer(TENANT, DEVICE), encode_msgpack(offer), qos=1)
        elif topic.kind == "reported":
            self.reported = decode_json(payload, Reported)
        elif topic.kind == "progress":
            self.progress.append(decode_json(payload, Progress))
        elif topic.kind == "presence":
            self.presence.append(decode_json(payload, Presence))
        elif topic.kind == "windows":
            if topic.rest == STREAM_EXPERIMENT:
                self._experiment(decode_msgpack(payload, Experiment))
                return
            if topic.rest == STREAM_HEALTH:
                self.healths.append(decode_msgpack(payload, Health))
                if self.acking:
                    self.ack(STREAM_HEALTH, self.healths[-1].epoch, self.healths[-1].last)
                return
            window = decode_msgpack(payload, Window)
            self.windows.append(window)
            if self.acking:
                self.ack(STREAM_WINDOWS, window.epoch, window.last)
        elif topic.kind == "sample":
            samples = decode_msgpack(payload, Samples)
            self.samples.append(samples)
            if self.acking:
                self.ack(STREAM_SAMPLES, samples.epoch, samples.last)

    def _experiment(self, message: Experiment) -> None:
        self.experiments[message.epoch, message.first] = message
        if self.acking:
            self.ack(STREAM_EXPERIMENT, message.epoch, message.last)

    def sums(self, experiment: str) -> Sums:
        """Everything that was reported of an experiment."""
        found = [message.sums for message in list(self.experiments.values()) if message.experiment == experiment]
        return functools.reduce(merge, found, Sums())

    def offer(self, base: str, target: str, delta: bytes) -> None:
        """Have a delta."""
        self.blobs[digest(delta)] = delta
        self.deltas[target] = DeltaOffer(target=target, state="ready", base=base, delta=digest(delta), size=len(delta))

    def cast(self, sha256: str, blocks: list[int]) -> None:
        """Send these blocks of a blob to whoever hears its cast."""
        data = self.blobs[sha256]
        for index in blocks:
            part = data[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]
            block = Block(digest=sha256, index=index, total=len(data), data=part)
            self._client.publish(topics.cast(TENANT, sha256), encode_msgpack(block), qos=0)

    def _blocks(self, request: BlockRequest) -> None:
        data = self.blobs.get(request.digest)
        self.asked_for.setdefault(request.digest, []).extend(asked(request))
        if request.digest in self.casting and request.cast:
            self.casts_heard.append(request)
            no = Block(digest=request.digest, index=request.base, total=0, data=b"", error=CASTING)
            self._client.publish(topics.blob_block(TENANT, DEVICE), encode_msgpack(no), qos=1)
            return
        for index in asked(request):
            if data is None:
                block = Block(digest=request.digest, index=index, total=0, data=b"", error="unknown-blob")
            else:
                part = data[index * request.block_size : (index + 1) * request.block_size]
                if request.digest == self.corrupt:
                    part = bytes(len(part))
                block = Block(digest=request.digest, index=index, total=len(data), data=part)
            self.blocks_sent += 1
            self._client.publish(topics.blob_block(TENANT, DEVICE), encode_msgpack(block), qos=1)

    def steps(self, bundle: Bundle) -> list[str]:
        return [p.step for p in self.progress if p.bundle == bundle.digest]

    def runs(self, bundle: Bundle, *, confirmed: bool = True) -> bool:
        """Does the device report this bundle as running (and confirmed)?"""
        model = self.reported.models.get(MODEL) if self.reported else None
        return (
            model is not None and model.running == bundle.digest and (not confirmed or model.confirmed == bundle.digest)
        )


class AgentProcess:
    """``edgewise-agent run`` as a real process, of this Python or another."""

    module: tuple[str, ...] = ("edgewise_agent.main", "run")

    def __init__(self, data: Path, key: HubKey, broker_url: str, python: str = sys.executable) -> None:
        self.data, self.python = data, python
        self.lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self.url = ""
        self.port = free_port()
        disk = Disk()
        disk.folder(data)
        identities.save(disk, data, identity(key, broker_url))

    def start(self) -> None:
        """Start, and wait until it serves."""
        self.lines = queue.Queue()
        log = (self.data / "agent.log").open("ab")
        self.process = subprocess.Popen(
            [self.python, "-m", *self.module, "--data", str(self.data), "--port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        log.close()
        threading.Thread(target=self._read, args=(self.process, self.lines), daemon=True).start()
        self.url = self.listening()["url"]

    def _read(self, process: subprocess.Popen[str], lines: queue.Queue[dict[str, Any]]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                lines.put(json.loads(line))

    def listening(self, timeout: float = 60.0) -> dict[str, Any]:
        """The next line that says that a serve child listens."""
        try:
            return self.lines.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"the agent does not listen:\n{self.log()[-3000:]}") from None

    def log(self) -> str:
        return (self.data / "agent.log").read_text()

    def serve_pid(self) -> int:
        pid: int = json.loads((self.data / "run.json").read_text())["serve_pid"]
        return pid

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """SIGTERM, and wait for a clean end."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(25)
