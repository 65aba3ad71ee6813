"""The unmodified tritonclient (HTTP) against the agent: every call of it that means something here, and the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton
from agent_builders import CLASSES, MODEL, SIDE, WIDTH, HubKey, make_bundle
from oip_builders import opened, served, serving
from tritonclient.utils import InferenceServerException

from edgewise_agent import __version__

Client = triton.InferenceServerClient


@pytest.fixture(scope="module")
def client(key: HubKey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    model = served(opened(tmp_path_factory.mktemp("blobs"), make_bundle(key, 3)))
    with serving(model) as address:
        client = Client(address, concurrency=4)
        yield client
        client.close()


def images(n: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (n, 1, SIDE, SIDE)).astype(np.float32)


def tensor(image: np.ndarray, datatype: str = "FP32", *, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput("image", list(image.shape), datatype)
    tensor.set_data_from_numpy(image, binary_data=binary)
    return tensor


def scores(client: Client, image: np.ndarray) -> np.ndarray:
    answer = client.infer(MODEL, [tensor(image)]).as_numpy("scores")
    assert answer is not None
    return answer


def test_health_and_metadata(client: Client) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(MODEL) and client.is_model_ready(MODEL, "3")
    assert not client.is_model_ready(MODEL, "2") and not client.is_model_ready("cats")
    server = client.get_server_metadata()
    assert (server["name"], server["version"]) == ("edgewise-agent", __version__)
    assert "binary_tensor_data" in server["extensions"]
    for version in ("", "3"):
        model = client.get_model_metadata(MODEL, version)
        assert (model["name"], model["versions"], model["platform"]) == (MODEL, ["3"], "onnxruntime")
        assert model["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, SIDE, SIDE]}]
        assert [o["name"] for o in model["outputs"]] == ["scores", "embedding"]


@pytest.mark.parametrize("sends", [True, False], ids=["binary-in", "json-in"])
@pytest.mark.parametrize("takes", [True, False, None], ids=["binary-out", "json-out", "all-out"])
def test_infers_in_binary_and_in_json(client: Client, sends: bool, takes: bool | None) -> None:
    image = images(3)
    wanted = None
    if takes is not None:
        wanted = [triton.InferRequestedOutput(name, binary_data=takes) for name in ("embedding", "scores")]
    answer = client.infer(MODEL, [tensor(image, binary=sends)], outputs=wanted, request_id="mine-1")
    said = answer.get_response()
    assert (said["id"], said["model_name"], said["model_version"]) == ("mine-1", MODEL, "3")
    got = answer.as_numpy("scores")
    assert got is not None and got.shape == (3, CLASSES) and got.dtype == np.float32
    np.testing.assert_array_equal(got, scores(client, image))
    embedding = answer.as_numpy("embedding")
    if takes is None:
        assert embedding is None, "the embedding is answered only when asked for"
    else:
        assert embedding is not None and embedding.shape == (3, WIDTH)
        assert [o["name"] for o in said["outputs"]] == ["embedding", "scores"]
        assert all(("data" in o) != takes for o in said["outputs"])


def test_versions_parameters_and_query_parameters(client: Client) -> None:
    image = images()
    answer = client.infer(
        MODEL,
        [tensor(image)],
        model_version="3",
        priority=1,
        timeout=1000,
        parameters={"key": "user-7", "debug": True},
        query_params={"trace": 1},
        headers={"X-Other": "yes"},
    )
    np.testing.assert_array_equal(answer.as_numpy("scores"), scores(client, image))


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_compressed_requests_are_read_and_a_wish_for_compressed_answers_is_harmless(client: Client, how: str) -> None:
    image = images(4)
    answer = client.infer(MODEL, [tensor(image)], request_compression_algorithm=how, response_compression_algorithm=how)
    np.testing.assert_array_equal(answer.as_numpy("scores"), scores(client, image))


def test_bfloat16_is_taken_as_float32(client: Client) -> None:
    image = np.full((1, 1, SIDE, SIDE), 0.5, np.float32)  # exact in BF16
    given = tensor(image, "BF16")
    np.testing.assert_array_equal(client.infer(MODEL, [given]).as_numpy("scores"), scores(client, image))


def test_many_at_once_and_each_gets_its_own(client: Client) -> None:
    given = [images(1 + i % 3, seed=i) for i in range(40)]
    waiting = [client.async_infer(MODEL, [tensor(image)], request_id=f"r-{i}") for i, image in enumerate(given)]
    for i, (image, request) in enumerate(zip(given, waiting, strict=True)):
        answer = request.get_result()
        assert answer.get_response()["id"] == f"r-{i}"
        np.testing.assert_allclose(answer.as_numpy("scores"), scores(client, image), rtol=1e-5)


def test_repository_index_is_answered_and_changes_to_it_are_refused(client: Client) -> None:
    assert client.get_model_repository_index() == [{"name": MODEL, "version": "3", "state": "READY", "reason": ""}]
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="by a rollout") as refused:
            change(MODEL)
        assert refused.value.status() == "400"


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get_model_config(MODEL),
        lambda client: client.get_inference_statistics(MODEL),
        lambda client: client.get_inference_statistics(),
        lambda client: client.get_trace_settings(),
        lambda client: client.get_log_settings(),
        lambda client: client.get_system_shared_memory_status(),
        lambda client: client.get_cuda_shared_memory_status(),
    ],
)
def test_extensions_that_are_not_offered_are_refused_by_name(client: Client, call: object) -> None:
    with pytest.raises(InferenceServerException, match="not among the extensions") as refused:
        call(client)  # type: ignore[operator]
    assert refused.value.status() == "404"


OTHERS = {
    "BOOL": np.bool_,
    **{f"{sign}INT{bits}": np.dtype(f"{sign}int{bits}".lower()) for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "FP16": np.float16,
    "FP64": np.float64,
    "BYTES": np.object_,
}


@pytest.mark.parametrize(
    ("datatype", "binary"),
    [(name, binary) for name in OTHERS for binary in (True, False) if binary or name != "FP16"],  # as tritonclient
)
def test_every_other_datatype_is_read_and_said_not_to_be_the_models(
    client: Client, datatype: str, binary: bool
) -> None:
    array = np.full((1, 1, SIDE, SIDE), b"cat" if datatype == "BYTES" else 0, OTHERS[datatype])
    with pytest.raises(InferenceServerException, match="input image: expected FP32, got ") as refused:
        client.infer(MODEL, [tensor(array, datatype, binary=binary)])
    assert refused.value.status() == "400"


def test_what_cannot_be_done_is_refused_and_says_why(client: Client) -> None:
    image = images()
    with pytest.raises(InferenceServerException, match="sequences"):
        client.infer(MODEL, [tensor(image)], sequence_id=7, sequence_start=True)
    with pytest.raises(InferenceServerException, match="classification"):
        client.infer(MODEL, [tensor(image)], outputs=[triton.InferRequestedOutput("scores", class_count=2)])
    with pytest.raises(InferenceServerException, match="expected some of"):
        client.infer(MODEL, [tensor(image)], outputs=[triton.InferRequestedOutput("nothing")])
    with pytest.raises(InferenceServerException, match="no model 'cats'"):
        client.infer("cats", [tensor(image)])
    with pytest.raises(InferenceServerException, match="version 2 is not served"):
        client.infer(MODEL, [tensor(image)], model_version="2")
