"""Every decoder of what comes from outside, as a function of bytes, and examples of what it takes.

A decoder answers or refuses with an EdgewiseError; anything else that it raises is a bug. What it answered holds what
its type says: decoded and encoded again, it is the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from edgewise.bundle import Blob, Manifest, Tensor, seal, unseal
from edgewise.errors import BundleError, EdgewiseError
from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.sketch.spec import EmbeddingSpec
from edgewise.wire import blocks, control, enrollment, sums, topics
from edgewise.wire.codec import Message, decode_json, decode_msgpack, encode_json, encode_msgpack
from edgewise.wire.experiment import AB, Arm, Experiment, Sums
from edgewise.wire.health import Gauge, Health
from edgewise.wire.windows import Ack, Counters, Sample, Samples, Window
from edgewise_agent import trust
from edgewise_agent.clock import Reading
from edgewise_agent.delta import patched
from edgewise_agent.serving import http
from edgewise_agent.serving.oip import messages
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import Disk
from edgewise_agent.store.installs import Installs
from edgewise_agent.windows import privacy, segment
from edgewise_agent.windows.consent import CONSENT_FILE, load_grants
from edgewise_agent.windows.times import Mark, marked, placed
from edgewise_compiler.sources.tflite_file import read_tflite
from edgewise_hub.registry.diff import diff

A, B = "a" * 64, "b" * 64
SPAN = {"device": "cam-1", "epoch": 7, "first": 1, "last": 2, "start": 1e9, "duration": 60.0, "uncertainty": 0.5}
TFLITE = Path(__file__).parents[1] / "agent" / "runtimes" / "network.tflite"
MOST = 256 * 1024
"""Bytes: no decoder is given more."""


class Decoder(NamedTuple):
    """``decode`` raises EdgewiseError for what it refuses; ``examples`` are what it takes."""

    decode: Callable[[bytes], object]
    examples: list[bytes]


SPEC = SketchSpec(
    classes=4,
    confidence_edges=[0.5, 0.9],
    embedding=EmbeddingSpec(dimension=3, features=8, sigma=1.0, seed=1, projection=A),
)

MESSAGES: list[Message] = [
    Window(
        **SPAN, model="m", version=1, bundle=A, spec=B, counters=Counters(inferences=3),
        sketches={"latency": b"\x01\x02\x02"},
    ),  # type: ignore[arg-type]
    Experiment(
        **SPAN, model="m", experiment="e", kind="ab", versions={"active": 1},
        sums=Sums(arms={"active": Arm(latency={3: 4})}),
    ),  # type: ignore[arg-type]
    Health(**SPAN, gauges={"cpu": Gauge(2, 1.0, 0.25, 0.75)}, totals={"sent_bytes": 9}),  # type: ignore[arg-type]
    Samples(
        device="cam-1", epoch=7, first=1, last=1, request_id="r", model="m", version=1, bundle=A, dtype="FP32",
        shape=[2], samples=[Sample(request="q", input=b"\0" * 8, label=3)],
    ),
    blocks.BlockRequest(digest=A, base=0, bitmap=b"\xff"),
    blocks.Block(digest=A, index=0, total=5, data=b"12345"),
    blocks.DeltaRequest(target=A, bases=[B]),
    blocks.DeltaOffer(target=A, state="ready", base=B, delta=A, size=4),
    Ack(stream="inference", epoch=7, sequence=3, at=1e9),
    control.Desired(
        tenant="main", device="cam-1", profile="p", generation=3, issued_at=1.0, not_before=0.0, not_after=2e9,
        models={
            "m": control.DesiredModel(
                duties={"active": control.Duty(bundle=A, size=5, version=1, release=1)}, policy=AB(experiment="e")
            )
        },
    ),
    control.Reported(
        device="cam-1", profile="p", agent="1", generation=3, models={"m": control.ReportedModel(installed=[A])},
        facts={"cores": 4, "url": "http://127.0.0.1:1"},
    ),
    control.Presence(device="cam-1", online=True, session=4),
    control.Progress(device="cam-1", generation=3, model="m", bundle=A, step="downloading", done=1, total=2),
    enrollment.EnrollRequest(name="cam-1", profile="p", public_key="k" * 44, token="t" * 8),
    enrollment.EnrollResponse(
        tenant="main", device="cam-1", profile="p", broker_url="mqtt://h:1", username="u", password="p", time=1.0,
        keys=[enrollment.SigningKey(keyid="k", public_key="x")],
    ),
    blocks.Heard(digest=A, round=1),
    SPEC,
]  # fmt: skip
BINARY = (
    Window,
    Experiment,
    Health,
    Samples,
    blocks.BlockRequest,
    blocks.Block,
    blocks.DeltaRequest,
    blocks.DeltaOffer,
    blocks.Heard,
)


def _wire(message: Message) -> Decoder:
    kind = type(message)
    if kind in BINARY:
        return Decoder(lambda data: _again(decode_msgpack(data, kind), encode_msgpack), [encode_msgpack(message)])
    return Decoder(lambda data: _again(decode_json(data, kind), encode_json), [encode_json(message)])


def _again(message: Message, encode: Callable[[Message], bytes]) -> None:
    """What was decoded encodes, and decodes to the same."""
    try:
        data = encode(message)
    except EdgewiseError:  # what came was within its bound; spelled out in full it may be over it
        return
    decode = decode_msgpack if type(message) in BINARY else decode_json
    assert encode(decode(data, type(message))) == data


def _sketches() -> list[dict[str, bytes]]:
    rng = np.random.default_rng(0)
    sketches = WindowSketches(SPEC, rng.normal(size=(4, 3)).astype(np.float32))
    sketches.update([0.01, 0.02], rng.normal(size=(9, 4)), rng.normal(size=(9, 3)).astype(np.float32))
    return [sketches.encode(), WindowSketches(SPEC).encode()]


def _decode_sketches(data: bytes) -> None:
    """A map as it is in a window: what decodes encodes to the same bytes, and adds up without the library too."""
    try:
        parts = msgspec.msgpack.decode(data, type=dict[str, bytes])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    sketches = WindowSketches.decode(SPEC, parts)
    encoded = sketches.encode()
    assert WindowSketches.decode(SPEC, encoded).encode() == encoded
    added = sums.add(parts, parts)
    sketches.merge(WindowSketches.decode(SPEC, parts))
    assert WindowSketches.decode(SPEC, added).encode() == sketches.encode()


def _manifest() -> Manifest:
    tensor = Tensor(name="x", datatype="FP32", shape=[-1, 4])
    return Manifest(
        tenant="main", model="m", version=1, release=1, profile="p", runtime="onnxruntime", inputs=[tensor],
        outputs=[tensor], blobs={"model": Blob(sha256=A, size=9)}, created_at=1.0,
    )  # fmt: skip


def _unseal(data: bytes) -> None:
    """With a key that trusts everything, so that what is signed is reached; and with one that trusts nothing."""
    unseal(data, Manifest, lambda keyid, signature, payload: True)
    try:
        unseal(data, Manifest, lambda keyid, signature, payload: False)
    except BundleError:
        return
    raise AssertionError("nobody signed it")


BASE = bytes(range(256)) * 40
TARGET = BASE[:4000] + b"something else" * 30 + BASE[4100:]


@cache
def _base() -> Path:
    path = Path(tempfile.mkdtemp(prefix="edgewise-fuzz-")) / "base"
    path.write_bytes(BASE)
    return path


def _patch(data: bytes) -> None:
    delta = _base().with_name("delta")
    delta.write_bytes(data)
    made = b"".join(patched(_base(), delta, len(TARGET), 1024))
    assert len(made) == len(TARGET)


def _infer(data: bytes) -> None:
    """The first two bytes: how long the JSON is (0: JSON alone), and whether the model takes floats alone."""
    length = int.from_bytes(data[:2], "big")
    messages.read_request(memoryview(data[2:]), (length >> 1) or None, floats=bool(length & 1))


def _infer_examples() -> list[bytes]:
    json = b'{"id":"r","inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2.5,3,4]}]}'
    head = (
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"INT16","parameters":{"binary_data_size":4}},'
        b'{"name":"s","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":7}}],'
        b'"outputs":[{"name":"y","parameters":{"binary_data":true}}]}'
    )
    tail = b"\x01\x00\x02\x00" + (3).to_bytes(4, "little") + b"abc"
    return [
        b"\0\0" + json,
        b"\0\1" + json,
        (len(head) << 1).to_bytes(2, "big") + head + tail,
    ]


def _http(data: bytes) -> None:
    head = http.parse_head(data)
    http.refuse_strangers(head)


def _segment(data: bytes) -> None:
    entries = segment.read_index(
        3, 9, data[segment.HEAD : segment.HEAD + segment.index_size(data[: segment.HEAD])], len(data)
    )
    assert entries[0].first == 3 and entries[-1].last == 9
    assert all(0 <= entry.offset <= entry.offset + entry.size <= len(data) for entry in entries)


def _blobs() -> BlobStore:
    return BlobStore(Disk(), _base().with_name("blobs"))


def _files(data: bytes) -> None:
    """What the agent keeps on disk, and a flash that wears out may change."""
    folder = _base().parent
    for name in (CONSENT_FILE, "duties.json", "privacy.json", trust.STATE_FILE):
        (folder / name).write_bytes(data)
    refusals = 0
    readers = (load_grants, privacy.load, trust.read_state, lambda at: Installs(Disk(), at / "duties.json", _blobs()))
    for read in readers:
        try:
            read(folder)
        except EdgewiseError:
            refusals += 1
    if refusals == len(readers):
        raise EdgewiseError("every one is refused")


def _topic(data: bytes) -> None:
    topics.parse(data.decode("utf-8", "replace"))


DECODERS: dict[str, Decoder] = {
    **{type(message).__name__: _wire(message) for message in MESSAGES},
    "sketches": Decoder(_decode_sketches, [msgspec.msgpack.encode(parts) for parts in _sketches()]),
    "envelope": Decoder(_unseal, [seal(_manifest(), lambda payload: ("key", b"signature"))]),
    "delta": Decoder(_patch, [diff(BASE, TARGET)]),
    "infer": Decoder(_infer, _infer_examples()),
    "http": Decoder(_http, [b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost:1\r\nContent-Length: 3"]),
    "marked span": Decoder(
        lambda data: placed(data, Mark(1, 400.0), Reading(1e9, 2.0)),
        [marked(encode_msgpack(message), Mark(1, 160.0)) for message in MESSAGES if isinstance(message, Window)],
    ),
    "segment": Decoder(_segment, [segment.encode(3, [(5, b"abc"), (9, b"de")])[1]]),
    "files": Decoder(_files, [b'{"m":{"count":1,"bytes":2}}', b'{"models":{"m":{}}}']),
    "topic": Decoder(_topic, [b"ew/1/main/d/cam-1/windows/inference"]),
    "tflite": Decoder(read_tflite, [TFLITE.read_bytes()]),
}


def run(name: str, data: bytes) -> None:
    """Give a decoder some bytes: it answers, or refuses by name."""
    try:
        DECODERS[name].decode(data[:MOST])
    except EdgewiseError as error:
        assert error.code and str(error)
