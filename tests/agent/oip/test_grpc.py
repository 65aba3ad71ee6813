"""The unmodified tritonclient (gRPC) against the agent, where the extra is installed."""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc")
pytest.importorskip("tritonclient.grpc")

import tritonclient.grpc as triton
from agent_builders import CLASSES, MODEL, SIDE, WIDTH, HubKey, make_bundle, write_blobs
from oip_builders import opened, served
from tritonclient.utils import InferenceServerException

from edgewise_agent import __version__
from edgewise_agent.serving.channel import Listening, Load, Ready, Serve, ServeModel
from edgewise_agent.serving.oip.grpc_messages import message
from edgewise_agent.serving.oip.grpc_server import GrpcServer, read
from edgewise_agent.serving.oip.tensors import BadTensor
from edgewise_agent.serving.options import Options
from edgewise_agent.serving.process import ServeProcess

Client = triton.InferenceServerClient


@pytest.fixture(scope="module")
def client(key: HubKey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    model = served(opened(tmp_path_factory.mktemp("blobs"), make_bundle(key, 3)))
    server = GrpcServer({MODEL: model}, Options(max_body=64 * 1024), 0)
    client = Client(f"127.0.0.1:{server.port}")
    yield client
    client.close()
    server.drain(5)


def images(n: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (n, 1, SIDE, SIDE)).astype(np.float32)


def tensor(image: np.ndarray, datatype: str = "FP32") -> triton.InferInput:
    tensor = triton.InferInput("image", list(image.shape), datatype)
    tensor.set_data_from_numpy(image)
    return tensor


def test_health_and_metadata(client: Client) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(MODEL) and client.is_model_ready(MODEL, "3")
    assert not client.is_model_ready(MODEL, "2") and not client.is_model_ready("cats")
    server = client.get_server_metadata()
    assert (server.name, server.version) == ("edgewise-agent", __version__)
    model = client.get_model_metadata(MODEL, as_json=True)
    assert (model["name"], model["versions"], model["platform"]) == (MODEL, ["3"], "onnxruntime")
    assert model["inputs"] == [{"name": "image", "datatype": "FP32", "shape": ["-1", "1", str(SIDE), str(SIDE)]}]
    assert [one.name for one in client.get_model_repository_index().models] == [MODEL]


def test_infers_with_outputs_ids_and_parameters(client: Client) -> None:
    image = images(3)
    answer = client.infer(MODEL, [tensor(image)], request_id="mine-1", parameters={"key": "user-7", "debug": True})
    scores = answer.as_numpy("scores")
    assert scores.shape == (3, CLASSES) and answer.as_numpy("embedding") is None
    assert (answer.get_response().id, answer.get_response().model_version) == ("mine-1", "3")
    wanted = [triton.InferRequestedOutput(name) for name in ("embedding", "scores")]
    both = client.infer(MODEL, [tensor(image)], model_version="3", outputs=wanted)
    assert both.as_numpy("embedding").shape == (3, WIDTH)
    np.testing.assert_array_equal(both.as_numpy("scores"), scores)


def test_bfloat16_and_typed_contents(client: Client) -> None:
    half = np.full((1, 1, SIDE, SIDE), 0.5, np.float32)
    expected = client.infer(MODEL, [tensor(half)]).as_numpy("scores")
    np.testing.assert_array_equal(client.infer(MODEL, [tensor(half, "BF16")]).as_numpy("scores"), expected)
    request = message("ModelInferRequest")(model_name=MODEL)
    request.inputs.add(name="image", datatype="FP32", shape=half.shape).contents.fp32_contents.extend(half.ravel())
    np.testing.assert_array_equal(read(request).inputs["image"], half)


def test_many_at_once(client: Client) -> None:
    image = images()
    answers: queue.Queue[tuple[triton.InferResult, object]] = queue.Queue()
    for i in range(40):
        client.async_infer(
            MODEL, [tensor(image)], lambda result, error: answers.put((result, error)), request_id=f"r-{i}"
        )
    found = [answers.get(timeout=60) for _ in range(40)]
    assert [error for _, error in found if error is not None] == []
    assert {result.get_response().id for result, _ in found} == {f"r-{i}" for i in range(40)}


@pytest.mark.parametrize(
    ("status", "call"),
    [
        ("NOT_FOUND", lambda c: c.infer("cats", [tensor(images())])),
        ("NOT_FOUND", lambda c: c.get_model_metadata(MODEL, "9")),
        ("INVALID_ARGUMENT", lambda c: c.infer(MODEL, [tensor(images()[:, :, 1:])])),
        ("INVALID_ARGUMENT", lambda c: c.infer(MODEL, [tensor(images())], request_id="no/slash")),
        ("INVALID_ARGUMENT", lambda c: c.infer(MODEL, [tensor(images())], sequence_id=7)),
        ("INVALID_ARGUMENT", lambda c: c.infer(MODEL, [tensor(images() * np.float32(np.nan))])),
        ("INVALID_ARGUMENT", lambda c: c.infer(MODEL, [])),
        ("RESOURCE_EXHAUSTED", lambda c: c.infer(MODEL, [tensor(images(2000))])),
        ("UNIMPLEMENTED", lambda c: c.get_model_config(MODEL)),
        ("UNIMPLEMENTED", lambda c: c.load_model(MODEL)),
    ],
)
def test_what_does_not_fit_is_refused_by_name(client: Client, status: str, call: object) -> None:
    with pytest.raises(InferenceServerException) as refused:
        call(client)  # type: ignore[operator]
    assert refused.value.status() == f"StatusCode.{status}"


@pytest.mark.parametrize(
    ("datatype", "shape", "raw"),
    [
        ("FP32", [2**30, 2**30], b""),
        ("FP32", [-1], b"\0" * 4),
        ("FP32", [2], b"\0" * 4),
        ("TEXT", [1], b"\0" * 4),
        ("BYTES", [2**20], b"\0" * 8),
        ("FP32", [1] * 9, b"\0" * 4),
    ],
)
def test_tensors_that_lie_about_themselves(datatype: str, shape: list[int], raw: bytes) -> None:
    request = message("ModelInferRequest")(model_name=MODEL)
    request.inputs.add(name="image", datatype=datatype, shape=shape)
    request.raw_input_contents.append(raw)
    with pytest.raises(BadTensor):
        read(request)


def test_a_successor_has_the_port_before_its_predecessor_lets_go(key: HubKey, tmp_path: Path) -> None:
    bundle = make_bundle(key, 1)
    write_blobs(tmp_path, bundle)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    load = Load(
        blobs=str(tmp_path),
        models=[ServeModel(model=MODEL, bundle=bundle.digest, window_s=3600)],
        options=Options(grpc_port=port),
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        children = [Serving(load, listener), Serving(load, listener)]
        children[0].process.drain()
        assert children[0].end() == "exited with status 0"
        with Client(f"127.0.0.1:{port}") as client:
            assert client.infer(MODEL, [tensor(images())]).as_numpy("scores").shape == (1, CLASSES)
        children[1].process.drain()
        assert children[1].end() == "exited with status 0"


class Serving:
    """A serve child that listens."""

    def __init__(self, load: Load, listener: socket.socket) -> None:

        self._said: queue.Queue[object] = queue.Queue()
        self.process = ServeProcess(load, [listener], lambda _, said: self._said.put(said))
        for kind in (Ready, Listening):
            while not isinstance(self._said.get(timeout=60), kind):
                pass
            self.process.send(Serve())

    def end(self) -> str:
        while self._said.get(timeout=60) is not None:
            pass
        return self.process.ended()
