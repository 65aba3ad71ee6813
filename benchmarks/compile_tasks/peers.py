"""The peers: what other tools' default quantization makes of the same float models with the same calibration data.

Each is asked as its own documentation shows it, with its default settings, in a process of its own:
- ``ort_static``: onnxruntime's ``quantize_static`` (QDQ, int8 weights and activations, per tensor) after its
  ``quant_pre_process``;
- ``nncf_onnx``, ``nncf_openvino``: ``nncf.quantize`` on the ONNX model, and on the model as OpenVINO reads it;
- ``nncf_accuracy_onnx``, ``nncf_accuracy_openvino``: ``quantize_with_accuracy_control`` with ``max_drop`` 0.005;
- ``litert_default``: litert-torch, then ai-edge-quantizer's static int8 recipe, by the Python of that toolchain. It
  starts from the recipe's torch model: a task whose source is an ONNX file is skipped.

Rules that hold here:
- calibration sees the ``calibrate`` split alone. Accuracy control validates on ``reference``, which its result is then
  reported on, as with the compiler's own budget;
- a transformer is declared as one to NNCF (``model_type``), as its documentation asks;
- models are opened by plain calls of the runtimes' libraries, on one thread, not by Edgewise's wrappers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import numpy.typing as npt

from compile_tasks import Task
from compile_tasks.data import BENCH, BenchError
from compile_tasks.train import source_onnx, train

Array = npt.NDArray[Any]
Feed = dict[str, Array]
Runtime = Literal["onnxruntime", "openvino", "litert"]
Infer = Callable[[Feed], dict[str, Array]]
"""Arrays by input name, batch first -> arrays by output name."""

HERE = Path(__file__).parent
MAX_DROP = 0.005
TIMEOUT_S = 1800.0
BATCH = 250


@dataclass(frozen=True)
class Peer:
    """``script``: of ``HERE``, run with one job. ``suffix``: of the model that it makes."""

    name: str
    title: str
    runtime: Runtime
    script: str
    suffix: str
    validates: bool = False
    takes_onnx: bool = True


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("ort_static", "onnxruntime quantize_static", "onnxruntime", "peer_onnx.py", ".onnx"),
        Peer("nncf_onnx", "NNCF PTQ, ONNX", "onnxruntime", "peer_onnx.py", ".onnx"),
        Peer("nncf_openvino", "NNCF PTQ, OpenVINO", "openvino", "peer_onnx.py", ".xml"),
        Peer("nncf_accuracy_onnx", "NNCF accuracy control, ONNX", "onnxruntime", "peer_onnx.py", ".onnx", True),
        Peer("nncf_accuracy_openvino", "NNCF accuracy control, OpenVINO", "openvino", "peer_onnx.py", ".xml", True),
        Peer(
            "litert_default", "ai-edge-quantizer static int8", "litert", "peer_litert.py", ".tflite", takes_onnx=False
        ),
    )
}


@dataclass(frozen=True)
class Made:
    """What a peer made. ``size``: bytes, with the weights beside it. ``seconds``: wall-clock of its process, imports
    and all."""

    peer: str
    path: Path
    runtime: Runtime
    size: int
    seconds: float


@dataclass(frozen=True)
class Skipped:
    """A peer that made nothing. ``reason``: one line."""

    peer: str
    reason: str


def make(
    peer: Peer, task: Task, out: Path, *, root: Path = BENCH, python: Path | None = None, timeout: float = TIMEOUT_S
) -> Made | Skipped:
    """Have a peer quantize a task's float source into the folder ``out``. One that fails is skipped, with its reason.

    ``python``: the toolchain's, for ``litert_default``. Raises BenchError where the source or the data is not there.
    """
    if not peer.takes_onnx and task.recipe is None:
        return Skipped(peer.name, "starts from a torch model; this source is an ONNX file")
    if not peer.takes_onnx and python is None:
        return Skipped(peer.name, "needs the Python of the litert toolchain, got none")
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{task.name}-{peer.name}{peer.suffix}"
    job: dict[str, Any] = {
        "peer": peer.name,
        "model": str(source_onnx(task, root)),
        "out": str(path),
        "calibrate": str(_npz(task, "calibrate", out, root)),
        "transformer": task.recipe is None,
        "output": task.output,
        "metric": task.metric,
        "max_drop": MAX_DROP,
    }
    if peer.validates:
        job["validate"] = str(_npz(task, "reference", out, root))
    if task.recipe is not None:
        job |= {
            "recipe": str(task.recipe),
            "weights": str(train(task, root).weights),
            "config": task.configuration(root),
        }
    log = path.with_suffix(".log")
    # One thread, and nobody is told: CI is what these libraries ask before they send statistics.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CI": "true", "NNCF_CI": "1", "ORT_DISABLE_TELEMETRY": "1"}
    command = [str(python if not peer.takes_onnx else sys.executable), str(HERE / peer.script)]
    start = time.monotonic()
    try:
        with log.open("w") as file:
            done = subprocess.run(
                command,
                input=json.dumps(job),
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                timeout=timeout,
            )
    except subprocess.TimeoutExpired:
        return Skipped(peer.name, f"not done after {timeout:.0f} s")
    except OSError as error:
        return Skipped(peer.name, f"cannot run {command[0]}: {error.strerror}")
    seconds = time.monotonic() - start
    if done.returncode or not path.is_file():
        last = ([line for line in log.read_text(errors="replace").splitlines() if line.strip()] or ["no message"])[-1]
        return Skipped(peer.name, f"{last.strip()[:300]} (all of it in {log.name})")
    return Made(peer.name, path, peer.runtime, size_of(path), seconds)


def size_of(path: Path) -> int:
    """Bytes of a model file; OpenVINO's weights lie beside it."""
    return sum(part.stat().st_size for part in (path, path.with_suffix(".bin")) if part.is_file())


def _npz(task: Task, split: str, out: Path, root: Path) -> Path:
    """A split by the model's input names, as the peers' processes read it: ``inputs/NAME``, ``labels``."""
    path = out / f"{task.name}-{split}.npz"
    inputs, labels = task.split(split, root)
    arrays = {f"inputs/{name}": array for name, array in inputs.items()}
    if labels is not None:
        arrays["labels"] = labels
    np.savez(path, allow_pickle=False, **arrays)
    return path


def open_model(path: Path, runtime: Runtime) -> Infer:
    """A model on its runtime, on one thread. Raises BenchError for an unknown runtime, and what the library raises."""
    if runtime == "onnxruntime":
        return _onnxruntime(path)
    if runtime == "openvino":
        return _openvino(path)
    if runtime == "litert":
        return _litert(path)
    raise BenchError(f"runtime: expected onnxruntime, openvino or litert, got {runtime!r}")


def _onnxruntime(path: Path) -> Infer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(None, feed), strict=True))


def _openvino(path: Path) -> Infer:
    import openvino

    hints = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    # f32 where the model is: a machine with bf16 would round it of its own accord.
    compiled = openvino.Core().compile_model(str(path), "CPU", {**hints, "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    # A tensor that passes through an identity has several names.
    names = [(name, row) for row, output in enumerate(compiled.outputs) for name in output.names]

    def infer(feed: Feed) -> dict[str, Array]:
        request.infer(feed, share_inputs=True)
        return {name: request.get_output_tensor(row).data.copy() for name, row in names}

    return infer


def _litert(path: Path) -> Infer:
    """The converter fixes the batch at one and numbers what it takes and gives; a recipe gives scores, embedding.

    Where the model itself takes and gives int8, the numbers are quantized here and back, as every caller of it must.
    """
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path), num_threads=1).get_signature_runner("serving_default")
    given = runner.get_input_details()["args_0"]
    gives = runner.get_output_details()
    names = {"output_0": "scores", "output_1": "embedding"}

    def infer(feed: Feed) -> dict[str, Array]:
        (items,) = feed.values()
        items = _as_given(items, given)
        parts = [runner(args_0=items[row : row + 1]) for row in range(len(items))]
        return {
            name: _floats(np.concatenate([part[number] for part in parts]), *gives[number]["quantization"])
            for number, name in names.items()
        }

    return infer


def converted_feed(path: Path, inputs: Feed) -> Feed:
    """The one input of a task as a file of ai-edge's converter takes it: by its number, int8 where the file is."""
    from ai_edge_litert.interpreter import Interpreter

    (items,) = inputs.values()
    details = Interpreter(str(path), num_threads=1).get_signature_runner("serving_default").get_input_details()
    return {name: _as_given(items, given) for name, given in details.items()}


def _as_given(items: Array, given: Mapping[str, Any]) -> Array:
    if given["dtype"] == items.dtype:
        return items
    scale, zero = given["quantization"]
    bounds = np.iinfo(given["dtype"])
    return np.clip(np.rint(items / scale) + zero, bounds.min, bounds.max).astype(given["dtype"])


def _floats(values: Array, scale: float, zero: int) -> Array:
    """A quantized tensor's numbers; a float one, whose scale is 0, as it is."""
    return (values.astype(np.float32) - zero) * np.float32(scale) if scale else values


def answer(infer: Infer, inputs: Feed, output: str) -> Array:
    """One output for all items, in order: ``inputs`` [n, ...] by name -> [n, ...]."""
    return np.concatenate([infer(feed)[output] for feed in _feeds(inputs)])


def _feeds(inputs: Feed) -> Iterator[Feed]:
    n = len(next(iter(inputs.values())))
    for start in range(0, n, BATCH):
        yield {name: np.ascontiguousarray(array[start : start + BATCH]) for name, array in inputs.items()}


def evaluate(task: Task, path: Path, runtime: Runtime, *, root: Path = BENCH) -> float:
    """The task's metric of a model over the reference: accuracy, or the mean cosine to the float source's embedding.

    Raises BenchError.
    """
    inputs, labels = task.split("reference", root)
    got = answer(open_model(path, runtime), inputs, task.output)
    if task.metric == "cosine":
        return float(
            np.mean(cosine(got, answer(open_model(source_onnx(task, root), "onnxruntime"), inputs, task.output)))
        )
    return float(np.mean(got.argmax(axis=1) == labels))


def cosine(a: Array, b: Array) -> Array:
    """[n, d] and [n, d] -> [n]: 1 for vectors of one direction."""
    product: Array = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return product
