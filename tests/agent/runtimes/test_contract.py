"""What every runtime promises, kept by each with the same small network in its own format."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from runtime_models import TFLITE, ir_zip, onnx_model
from small_network import CLASSES, SIDE, WIDTH, answers, images

from edgewise.bundle import Tensor
from edgewise_agent.runtimes import RUNTIMES, Arrays, Runtime, RuntimeFailure, available, open_runtime

CASES: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "onnxruntime": ("onnxruntime", lambda folder: onnx_model()),
    "openvino-onnx": ("openvino", lambda folder: onnx_model()),
    "openvino-ir": ("openvino", lambda folder: ir_zip(onnx_model(), folder)),
    "litert": ("litert", lambda folder: TFLITE.read_bytes()),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(runtime, model file); the file has no extension, as a blob on a device."""
    runtime, make = CASES[request.param]
    folder = tmp_path_factory.mktemp("model")
    path = folder / "blob"
    path.write_bytes(make(folder))
    return runtime, path


@pytest.fixture(scope="module")
def runtime(case: tuple[str, Path]) -> Runtime:
    """The network, opened."""
    return open_runtime(*case)


def check(outputs: Arrays, inputs: Arrays) -> None:
    expected = answers(inputs["image"])  # type: ignore[arg-type]
    assert set(outputs) == set(expected)
    for name, array in expected.items():
        assert isinstance(outputs[name], np.ndarray) and outputs[name].dtype == np.float32
        np.testing.assert_allclose(outputs[name], array, atol=2e-6)


def failure(run: Callable[[], object]) -> RuntimeFailure:
    """The failure of ``run``: one line."""
    with pytest.raises(RuntimeFailure) as caught:
        run()
    assert str(caught.value) and "\n" not in str(caught.value)
    return caught.value


def test_every_runtime_is_here() -> None:
    assert {name for name, _ in CASES.values()} == set(RUNTIMES) == set(available())


def test_describes_names_datatypes_and_shapes(runtime: Runtime) -> None:
    inputs, outputs = runtime.describe()
    assert inputs == [Tensor(name="image", datatype="FP32", shape=[-1, 1, SIDE, SIDE])]
    assert sorted(outputs, key=lambda tensor: tensor.name) == [
        Tensor(name="embedding", datatype="FP32", shape=[-1, WIDTH]),
        Tensor(name="scores", datatype="FP32", shape=[-1, CLASSES]),
    ]
    library, version = runtime.version.split()
    assert library and version[0].isdigit()


@pytest.mark.parametrize("items", [1, 8, 3, 1])
def test_answers_a_batch_of_any_size(runtime: Runtime, items: int) -> None:
    inputs: Arrays = {"image": images(items)}
    check(runtime.infer(inputs), inputs)


def test_answers_are_the_callers_own(runtime: Runtime) -> None:
    first, other = {"image": images(2, seed=1)}, {"image": images(2, seed=2)}
    kept = runtime.infer(first)
    changed = runtime.infer(other)
    for array in changed.values():
        array.fill(np.nan)
    check(kept, first)
    check(runtime.infer(other), other)


def test_inputs_may_be_read_only_and_strided_and_stay_as_they_are(runtime: Runtime) -> None:
    image = images(4)
    image.flags.writeable = False
    views: list[Arrays] = [
        {"image": image},
        {"image": image[::2]},
        {"image": image[:1, :, ::-1]},
        {"image": image.transpose(0, 1, 3, 2)},
    ]
    for inputs in views:
        before = inputs["image"].copy()
        check(runtime.infer(inputs), inputs)
        np.testing.assert_array_equal(inputs["image"], before)


def test_several_threads_may_infer_at_once(runtime: Runtime) -> None:
    def run(seed: int) -> None:
        inputs: Arrays = {"image": images(1 + seed % 3, seed)}
        check(runtime.infer(inputs), inputs)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(120)))


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"picture": images(1)},
        {"image": images(1), "picture": images(1)},
        {"image": images(1).astype(np.float64)},
        {"image": images(1)[:, :, :4]},
        {"image": images(1)[0]},
        {"image": np.float32(1)},
    ],
    ids=["none", "another", "one-more", "dtype", "shape", "axes", "scalar"],
)
def test_refuses_inputs_that_do_not_fit_and_goes_on(runtime: Runtime, inputs: Arrays) -> None:
    assert failure(lambda: runtime.infer(inputs)).code == "runtime-failed"
    fits: Arrays = {"image": images(1)}
    check(runtime.infer(fits), fits)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "half"])
def test_refuses_a_file_that_is_no_model(case: tuple[str, Path], damage: str, tmp_path: Path) -> None:
    name, model = case
    path = tmp_path / "damaged"
    if damage != "missing":
        data = model.read_bytes()
        path.write_bytes({"empty": b"", "text": b"no model\n" * 200, "half": data[: len(data) // 2]}[damage])
    refused = failure(lambda: open_runtime(name, path))
    assert refused.code == "load-failed" and "damaged" in str(refused)


def python(code: str, *arguments: object, **environment: str) -> list[str]:
    """Lines that ``code`` prints in a process of its own, with nothing in its environment but what is given."""
    process = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split("\n")[:-1]


INFER = """
import sys
from pathlib import Path
{before}
import numpy as np
from edgewise_agent.runtimes import open_runtime
def infer(threads=1):
    runtime = open_runtime(sys.argv[1], Path(sys.argv[2]), threads)
    runtime.infer({{"image": np.zeros((64, 1, 8, 8), dtype=np.float32)}})
    return runtime
{after}
"""


def test_writes_nothing_and_calls_nobody(case: tuple[str, Path], tmp_path: Path) -> None:
    """Libraries that would send telemetry are kept from it: no socket, no process, no file."""
    watch = """
def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event.startswith("socket.") or event in ("os.mkdir", "subprocess.Popen"):
        print(event, arguments)
sys.dont_write_bytecode = True
sys.addaudithook(watch)
"""
    said = python(INFER.format(before=watch, after="infer()"), *case, HOME=str(tmp_path))
    assert said == [] and not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self/task").is_dir() or os.cpu_count() == 1, reason="counts threads as Linux does")
def test_uses_as_many_threads_as_it_may(case: tuple[str, Path]) -> None:
    count = """
import os
def added(threads):
    before = len(os.listdir("/proc/self/task"))
    kept.append(infer(threads))
    return len(os.listdir("/proc/self/task")) - before
kept = [infer(1)]
print(added(1), added(2))
"""
    one, two = map(int, python(INFER.format(before="", after=count), *case)[0].split())
    assert two == one + 1  # openvino has two more of its own, which wait
