"""The serve child as a real process: the Open Inference Protocol, its errors, feedback, windows, and the hand-over."""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from agent_builders import (
    CLASSES,
    MODEL,
    SIDE,
    WIDTH,
    Bundle,
    HubKey,
    Requests,
    call,
    infer_body,
    make_bundle,
    wait_for,
    write_blobs,
)

from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.wire.codec import decode_json
from edgewise.wire.quality import Quality
from edgewise_agent.serving.channel import (
    Configure,
    FromChild,
    Heartbeat,
    Listening,
    Load,
    LoadFailed,
    Ready,
    SampleTaken,
    Serve,
    ServeModel,
    WindowClosed,
)
from edgewise_agent.serving.process import ServeProcess

T = TypeVar("T")


class Child:
    """One serve child and what it said."""

    def __init__(self, blobs: Path, listener: socket.socket, bundles: list[Bundle], **wish: Any) -> None:
        self.said: queue.Queue[FromChild | None] = queue.Queue()
        models = [ServeModel(model=b.manifest.model, bundle=b.digest, **{"window_s": 3600.0, **wish}) for b in bundles]
        self.process = ServeProcess(Load(blobs=str(blobs), models=models), [listener], lambda _, m: self.said.put(m))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def until(self, kind: type[T]) -> T:
        """The next message of a kind."""
        while True:
            message = self.said.get(timeout=20)
            assert message is not None, f"the child is gone: {self.process.tail()}"
            if isinstance(message, kind):
                return message

    def serve(self) -> None:
        self.until(Ready)
        self.process.send(Serve())
        self.until(Listening)

    def end(self) -> list[FromChild]:
        """Drain it; what it still said."""
        self.process.drain()
        rest: list[FromChild] = []
        while (message := self.said.get(timeout=20)) is not None:
            rest.append(message)
        assert self.process.ended() == "exited with status 0"
        return rest


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield listener


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blobs")


@pytest.fixture(scope="module")
def bundle(key: HubKey, blobs: Path) -> Bundle:
    bundle = make_bundle(key, 1, nan_above=True)
    write_blobs(blobs, bundle)
    return bundle


@pytest.fixture(scope="module")
def child(blobs: Path, listener: socket.socket, bundle: Bundle) -> Iterator[Child]:
    child = Child(blobs, listener, [bundle])
    child.serve()
    yield child
    child.end()


def test_metadata_and_health(child: Child) -> None:
    assert call(child.url + "/v2")[1]["name"] == "edgewise-agent"
    assert call(child.url + "/v2/health/live") == (200, {"live": True})
    assert call(child.url + "/v2/health/ready") == (200, {"ready": True})
    status, metadata = call(f"{child.url}/v2/models/{MODEL}")
    assert status == 200 and metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, SIDE, SIDE]}]
    assert call(f"{child.url}/v2/models/{MODEL}/versions/1/ready") == (200, {"name": MODEL, "ready": True})


def test_infer_answers_batches_nested_data_and_chosen_outputs(child: Child) -> None:
    url = f"{child.url}/v2/models/{MODEL}/infer"
    status, flat = call(url, infer_body(0.25, n=3, id="mine", parameters={"x": 1}))
    assert status == 200 and flat["id"] == "mine"
    assert [(o["name"], o["datatype"], o["shape"]) for o in flat["outputs"]] == [("scores", "FP32", [3, CLASSES])]
    nested = infer_body(0.25, n=3)
    nested["inputs"][0]["data"] = np.full((3, 1, SIDE, SIDE), 0.25).tolist()
    nested["outputs"] = [{"name": "embedding"}, {"name": "scores"}]
    status, answer = call(f"{child.url}/v2/models/{MODEL}/versions/1/infer", nested)
    assert status == 200 and len(answer["id"]) == 32
    assert [o["name"] for o in answer["outputs"]] == ["embedding", "scores"]
    assert len(answer["outputs"][0]["data"]) == 3 * WIDTH
    assert answer["outputs"][1]["data"] == flat["outputs"][0]["data"]


def broken(**tensor: Any) -> dict[str, Any]:
    body = infer_body()
    body["inputs"][0].update(tensor)
    return body


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        (broken(name="picture"), "expected ['image']"),
        (broken(datatype="FP64"), "expected FP32"),
        (broken(datatype="TEXT"), "datatype"),
        (broken(shape=[1, 1, SIDE, SIDE + 1]), "does not hold"),
        (broken(shape=[SIDE * SIDE]), "expected shape"),
        (broken(shape=[0, 1, SIDE, SIDE], data=[]), "batch size"),
        (broken(data=["1"] * 16), "expected data of FP32"),
        (broken(data=[[1, 2], [3]]), "inhomogeneous"),
        (broken(data=[1e39] * 16), "finite"),
        (infer_body(outputs=[{"name": "nothing"}]), "outputs"),
        (infer_body(id="no/slash"), "id"),
    ],
)
def test_what_does_not_fit_is_refused_and_says_why(child: Child, body: dict[str, Any], says: str) -> None:
    status, answer = call(f"{child.url}/v2/models/{MODEL}/infer", body)
    assert status == 400 and says in answer["error"]


def test_other_errors(child: Child) -> None:
    infer = f"{child.url}/v2/models/{MODEL}/infer"
    assert call(child.url + "/v2/models/cats/infer", infer_body())[0] == 404
    assert call(f"{child.url}/v2/models/{MODEL}/versions/2/infer", infer_body())[0] == 404
    assert call(child.url + "/v3")[0] == 404
    assert call(infer)[0] == 405
    assert call(infer, infer_body(), {"Host": "rebound.example"})[0] == 403
    assert call(infer, {"inputs": [], "padding": "x" * (8 * 1024 * 1024)})[0] == 413
    assert call(infer, infer_body(6.0)) == (500, {"error": "model gave a value that is not finite"})
    assert call(f"{child.url}/v2/models/{MODEL}/feedback", {"id": "never", "label": 1})[0] == 404
    assert call(f"{child.url}/v2/models/{MODEL}/feedback", {"id": "never"})[0] == 400


def test_last_window_holds_what_happened(key: HubKey, blobs: Path, bundle: Bundle) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        child = Child(blobs, listener, [bundle], sampling=True)
        child.serve()
        infer, feedback = (f"{child.url}/v2/models/{MODEL}/{what}" for what in ("infer", "feedback"))
        _, answer = call(infer, infer_body(id="a"))
        best = int(np.argmax(answer["outputs"][0]["data"]))
        call(infer, infer_body(2.0, n=2, id="b"))
        assert call(infer, infer_body(7.0))[0] == 500
        assert call(infer, broken(data=[1e39] * 16))[0] == 400
        assert call(infer, {})[0] == 400
        assert [call(feedback, {"id": "a", "label": best})[0] for _ in range(2)] == [204, 204]
        assert call(feedback, {"id": "b/1", "label": CLASSES})[0] == 204
        taken = child.until(SampleTaken)
        said = child.end()
    assert (taken.sample.request, taken.sample.label, taken.sample.prediction) == ("a", best, best)
    assert np.frombuffer(taken.sample.input, np.float32).tolist() == [0.5] * SIDE * SIDE
    assert not [m for m in said if isinstance(m, SampleTaken)], "a batch is not sampled"
    (window,) = [m for m in said if isinstance(m, WindowClosed)]
    counters = window.counters
    assert (counters.inferences, counters.out_of_bounds, counters.labelled, counters.correct) == (3, 2, 2, 1)
    assert (counters.nonfinite_outputs, counters.nonfinite_inputs, counters.refused, counters.errors) == (1, 1, 1, 0)
    spec = decode_json(bundle.blobs[window.spec], SketchSpec)
    sketches = WindowSketches.decode(spec, window.sketches)
    assert sketches.latency.n == 2 and 0 < window.busy_s < window.duration
    assert sketches.classes is not None and sketches.classes.n == 3
    assert sketches.embedding is not None and sketches.embedding.n == 3


def test_windows_close_on_their_own_and_empty_ones_are_not_sent(blobs: Path, bundle: Bundle) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        child = Child(blobs, listener, [bundle])
        child.serve()
        call(f"{child.url}/v2/models/{MODEL}/infer", infer_body())
        child.process.send(
            Configure(models=[ServeModel(model=MODEL, bundle=bundle.digest, window_s=0.05, sampling=False)])
        )
        window = child.until(WindowClosed)
        assert window.counters.inferences == 1 and window.duration > 0
        assert child.until(Heartbeat).rss > 10_000_000
        assert not [m for m in child.end() if isinstance(m, WindowClosed)]


def test_the_desired_state_says_what_happens_to_odd_inputs(blobs: Path, bundle: Bundle) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        child = Child(blobs, listener, [bundle], quality=Quality(out_of_bounds="flag"))
        child.serve()
        infer = f"{child.url}/v2/models/{MODEL}/infer"
        assert call(infer, infer_body(2.0))[1]["parameters"] == {"quality": "out_of_bounds: image"}
        wish = ServeModel(model=MODEL, bundle=bundle.digest, window_s=3600, quality=Quality(out_of_bounds="refuse"))
        child.process.send(Configure(models=[wish]))
        wait_for(lambda: call(infer, infer_body(2.0))[0] == 400, "what is out of bounds is refused")
        assert call(infer, broken(shape=[SIDE * SIDE]))[0] == 400
        (window,) = [message for message in child.end() if isinstance(message, WindowClosed)]
    assert window.quality["wrong_shape"] == {"image": 1} and window.quality["out_of_bounds"]["image"] >= 2


@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("load-failed", {"model_bytes": b"no model at all"}),
        ("smoke-failed", {"nan_above": True, "smoke": {"image": np.full((1, 1, SIDE, SIDE), 9, np.float32)}}),
        ("smoke-failed", {"smoke": {"picture": np.zeros((1, 1, SIDE, SIDE), np.float32)}}),
        ("smoke-failed", {"smoke": {"image": np.zeros((1, 1, SIDE, SIDE + 1), np.float32)}}),
    ],
)
def test_what_cannot_serve_says_why(key: HubKey, tmp_path: Path, code: str, options: dict[str, Any]) -> None:
    bad = make_bundle(key, 1, **options)
    write_blobs(tmp_path, bad)
    with socket.socket() as listener:
        child = Child(tmp_path, listener, [bad])
        failed = child.until(LoadFailed)
        child.until(Ready)
        child.end()
    assert (failed.model, failed.bundle, failed.code) == (MODEL, bad.digest, code)


def test_damaged_blob_is_found_before_it_is_loaded(key: HubKey, tmp_path: Path, bundle: Bundle) -> None:
    write_blobs(tmp_path, bundle)
    (tmp_path / bundle.manifest.blobs["model"].sha256).write_bytes(b"rot")
    with socket.socket() as listener:
        child = Child(tmp_path, listener, [bundle])
        assert child.until(LoadFailed).code == "bad-blob"
        child.end()


def test_takes_over_under_load_without_a_failed_request(key: HubKey, tmp_path: Path) -> None:
    first, second = make_bundle(key, 1), make_bundle(key, 2)
    write_blobs(tmp_path, first, second)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        children = [Child(tmp_path, listener, [first])]
        children[0].serve()
        load = Requests(f"{children[0].url}/v2/models/{MODEL}/infer", threads=4)
        windows: list[FromChild] = []
        for turn in range(1, 4):
            children.append(Child(tmp_path, listener, [(first, second)[turn % 2]]))
            children[-1].serve()
            windows += children[-2].end()
        load.stop()
        windows += children[-1].end()
    assert load.failures == []
    assert {"1", "2"} == set(load.versions) and load.versions[-1] == "2"
    counted = sum(window.counters.inferences for window in windows if isinstance(window, WindowClosed))
    assert counted == len(load.versions), "each request is counted once"


def test_child_ends_with_its_supervisor(blobs: Path, bundle: Bundle) -> None:
    with socket.socket() as listener:
        child = Child(blobs, listener, [bundle])
        child.until(Ready)
        child.process._channel.close()
        while child.said.get(timeout=10) is not None:
            pass
        assert child.process.ended() == "exited with status 0"
