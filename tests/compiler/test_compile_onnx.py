"""An ONNX file in, bundles out: whole, explained, the same each time, and refused when the model is not finite."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from edgewise.bundle import Manifest, digest
from edgewise.sketch import ConfidenceSketch, EmbeddingSketch, SketchSpec
from edgewise.sketch.spec import projection_matrix
from edgewise.wire.codec import decode_json, encode_json
from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.model import Model
from edgewise_compiler.report import Report


def test_a_bundle_for_each_profile_that_a_device_can_decode_and_run(tiny, compiled, here, elsewhere) -> None:
    seen: list[float] = []
    bundles = compiled(tiny(), [here, elsewhere], progress=lambda fraction, text: seen.append(fraction))

    assert seen == sorted(seen) and seen[0] == 0.0 and seen[-1] == 1.0
    assert [bundle.manifest.profile for bundle in bundles] == ["here", "elsewhere"]
    for bundle in bundles:
        manifest = decode_json(encode_json(bundle.manifest), Manifest)
        assert manifest == bundle.manifest
        assert (manifest.tenant, manifest.model, manifest.version, manifest.release) == ("acme", "tiny", 3, 7)
        assert (manifest.scores, manifest.embedding) == ("scores", "embedding")
        assert manifest.labels == ["a", "b", "c", "d"]
        assert manifest.bounds["input"].low >= 0 and manifest.bounds["input"].high <= 1
        assert set(bundle.files) == set(manifest.blobs) == {"model", "sketch", "projection", "smoke"}
        for role, path in bundle.files.items():
            assert digest(path.read_bytes()) == manifest.blobs[role].sha256
            assert path.stat().st_size == manifest.blobs[role].size
        model = Model(bundle.files["model"])
        with np.load(bundle.files["smoke"]) as smoke:
            assert model.answer(Data({"input": smoke["input"]})).finite().tolist() == [True] * 4
        report = msgspec.convert(bundle.report, Report)
        assert report.metric == "accuracy" and report.metric_before == 1.0 and report.metric_after >= 0.9
        assert {candidate.name for candidate in report.candidates} >= {
            "fp32",
            "int8 weights",
            "u8s8",
            "s8s8",
            "dynamic",
        }

    # No folder for work in progress is left beside the bundles.
    out = bundles[0].reference.parents[1]
    assert sorted(path.name for path in out.iterdir()) == ["elsewhere", "here", "report.html"]
    for name in ("report.json", "report.html"):
        assert (out / "here" / name).stat().st_size > 1000
    assert msgspec.json.decode((out / "here" / "report.json").read_bytes(), type=Report).profile == "here"


def predict(path: Path, items: np.ndarray) -> np.ndarray:
    """Scores of a model file."""
    scores = Model(path).answer(Data({"input": items})).scores
    assert scores is not None
    return scores


def test_speed_is_measured_here_and_said_to_be_unmeasured_elsewhere(tiny, compiled, here, elsewhere) -> None:
    measured, unmeasured = (bundle.report for bundle in compiled(tiny(), [here, elsewhere]))

    assert measured["not_measured"] is None and set(measured["latency"]) >= {
        "source",
        "fp32",
        "int8 weights",
        "u8s8",
        "s8s8",
        "dynamic",
    }
    for latency in measured["latency"].values():
        assert 0 < latency["p50_ms"] <= latency["p95_ms"]
        assert 10 < latency["peak_rss_mb"] < 2000
    assert unmeasured["latency"] is None and "riscv64" in unmeasured["not_measured"]
    assert unmeasured["scheme"] == "u8s8", "the profile's first scheme"


def test_the_int8_model_is_quantized_inside_and_float_at_its_outputs(tiny, compiled, elsewhere) -> None:
    source = tiny()
    [bundle] = compiled(source, [elsewhere])

    graph = onnx.load_model(str(bundle.files["model"])).graph
    produced = {name: node for node in graph.node for name in node.output}
    conv = next(node for node in graph.node if node.op_type == "Conv")
    assert produced[conv.input[0]].op_type == "DequantizeLinear"
    gemm = next(node for node in graph.node if node.op_type == "Gemm")
    assert gemm.input[1] not in produced, "the last layer keeps its float weights"
    items = np.load(source.data)["inputs"]
    int8, fp32 = (predict(path, items) for path in (bundle.files["model"], source.model))
    assert len(np.unique(int8)) > 256, "scores are not rounded to 8 bits"
    assert np.abs(int8 - fp32).max() < 0.1 * np.abs(fp32).max()


def test_the_reference_is_what_the_bundle_answered_in_order(tiny, compiled, elsewhere) -> None:
    source = tiny()
    [bundle] = compiled(source, [elsewhere])
    spec = decode_json(bundle.files["sketch"].read_bytes(), SketchSpec)
    with np.load(bundle.reference) as data:
        reference = dict(data)
    items, labels = (np.load(source.data)[name] for name in ("inputs", "labels"))
    answers = Model(bundle.files["model"]).answer(Data({"input": items}))

    assert {name: array.dtype.name for name, array in reference.items()} == {
        "features": "int8",
        "classes": "int16",
        "confidence": "float32",
        "correct": "bool",
        "labels": "int16",
        "nonfinite": "int64",
        "cells": "uint8",
        "distances": "float32",
    }
    assert reference["nonfinite"].shape == () and reference["nonfinite"] == 0
    assert reference["features"].shape == (300, 256)
    assert np.array_equal(reference["classes"], answers.scores.argmax(axis=1))
    assert np.array_equal(reference["labels"], labels)
    assert np.array_equal(reference["correct"], reference["classes"] == labels)

    # A device's sketch of the same items is the sum of the reference's features, bit for bit.
    assert spec.embedding is not None and spec.embedding.features == 256 and spec.embedding.dimension == 6
    sketch = EmbeddingSketch(spec.embedding, projection_matrix(spec.embedding, bundle.files["projection"].read_bytes()))
    sketch.update(answers.embedding)
    assert np.array_equal(sketch.total, reference["features"].sum(axis=0, dtype=np.int64))
    assert np.array_equal(sketch.cells, np.bincount(reference["cells"], minlength=spec.embedding.cells))
    edges = spec.embedding.distance_edges
    assert sketch.distances.tolist() == np.histogram(reference["distances"], [-np.inf, *edges, np.inf])[0].tolist()
    assert len(sketch.encode()) < 500, "what is expected is not sent"

    edges = spec.confidence_edges
    assert all(low < high for low, high in itertools.pairwise(edges))
    bins = ConfidenceSketch(edges)
    bins.update(answers.scores)
    assert len(edges) in (9, 10) and bins.counts.max() <= 35, "deciles, and one more"
    above = [int(bins.counts[k:].sum()) for k in range(len(edges) + 1)]
    correct = int(reference["correct"].sum())
    assert min(abs(count - correct) for count in above) <= 1, "as many above an edge as are correct"


def test_the_same_inputs_give_the_same_bytes(tiny, compiled, elsewhere) -> None:
    source = tiny()
    [first], [second] = compiled(source, [elsewhere], "one"), compiled(source, [elsewhere], "two")
    [other] = compiled(source, [elsewhere], "three", seed=1)

    assert encode_json(first.manifest) == encode_json(second.manifest)
    assert first.reference.read_bytes() == second.reference.read_bytes()
    for report in (first.report, second.report):
        assert report.pop("seconds") >= 0
    assert first.report == second.report
    assert other.manifest.blobs["projection"] != first.manifest.blobs["projection"]
    assert other.manifest.blobs["model"] == first.manifest.blobs["model"]


def test_another_process_without_torch_gives_the_same_bytes(tiny, compiled, elsewhere, tmp_path: Path) -> None:
    source = tiny()
    [bundle] = compiled(source, [elsewhere])
    code = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path; import msgspec; "
        "from edgewise.profile import Profile; from edgewise_compiler.compile import compile; "
        "from edgewise_compiler.sources import OnnxSource; model, data, out = map(Path, sys.argv[1:4]); "
        "compile(OnnxSource(model, data), [msgspec.json.decode(sys.argv[4], type=Profile)], out, tenant='acme', "
        "model='tiny', version=3, release=7, created_at=0.0, progress=lambda fraction, text: None)"
    )
    other = tmp_path / "other"
    subprocess.run(
        [sys.executable, "-c", code, source.model, source.data, other, msgspec.json.encode(elsewhere)],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "EDGEWISE_CACHE": str(tmp_path / "another-cache")},
    )

    for path in [*bundle.files.values(), bundle.reference]:
        assert (other / "elsewhere" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_model_that_is_not_finite_on_the_reference_is_refused_with_how_often(tiny, compiled, elsewhere) -> None:
    inputs = np.random.default_rng(1).random((100, 1, 8, 8)).astype(np.float32)
    inputs[::10] *= -1  # the log of a negative mean
    source = tiny(inputs=inputs, labels=False, log=True)

    with pytest.raises(CompileError, match="10 of 100 items") as refused:
        compiled(source, [elsewhere])
    assert refused.value.code == "not-finite"


def test_without_labels_fidelity_to_the_source_is_judged_and_said_so(tiny, compiled, elsewhere) -> None:
    [bundle] = compiled(tiny(labels=False), [elsewhere])

    assert bundle.report["metric"] == "fidelity" and bundle.report["metric_before"] == 1.0
    assert 0.9 < bundle.report["metric_after"] <= 1.0
    expected = {"features", "distances", "cells", "classes", "confidence", "nonfinite"}
    assert set(np.load(bundle.reference).files) == expected


def test_a_model_without_an_embedding_gets_what_its_last_layer_takes_in(tiny, compiled, elsewhere) -> None:
    [bundle] = compiled(tiny(embedding=False), [elsewhere])

    assert bundle.manifest.embedding == "embedding" and "projection" in bundle.manifest.blobs
    spec = decode_json(bundle.files["sketch"].read_bytes(), SketchSpec)
    assert spec.embedding is not None and spec.embedding.dimension == 6
    assert np.load(bundle.reference)["features"].shape == (300, 256)
    assert any("what the last layer takes in" in note for note in bundle.report["notes"])


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        ({}, "bad-data", "expected inputs to judge on"),
        ({"inputs": np.zeros((3, 1, 8, 8))}, "bad-data", "takes float32"),
        ({"inputs": np.zeros((3, 1, 9, 8), np.float32)}, "bad-data", r"got float32 \[3, 1, 9, 8\]"),
        ({"inputs": np.ones((3, 1, 8, 8), np.float32), "labels": np.arange(2)}, "bad-data", r"integers \[3\]"),
        ({"inputs": np.ones((3, 1, 8, 8), np.float32), "labels": np.arange(2, 5)}, "bad-data", "got 2 to 4"),
        ({"inputs": np.array([object()])}, "bad-data", "expected an npz"),
    ],
)
def test_data_that_does_not_fit_is_refused(tiny, compiled, elsewhere, data, code: str, message: str) -> None:
    source = tiny()
    np.savez(source.data, **data)

    with pytest.raises(CompileError, match=message) as refused:
        compiled(source, [elsewhere])
    assert refused.value.code == code


def test_a_batch_that_is_fixed_at_one_is_taken_item_by_item(tiny, compiled, elsewhere) -> None:
    [bundle] = compiled(tiny(batch=1), [elsewhere])

    assert bundle.manifest.inputs[0].shape == [1, 1, 8, 8]
    assert bundle.report["items"] == 300 and bundle.report["metric_after"] > 0.9
    with np.load(bundle.files["smoke"]) as smoke:
        assert smoke["input"].shape == (1, 1, 8, 8)


def test_a_shape_that_the_model_declares_wrongly_is_not_relied_on(tiny, compiled, elsewhere) -> None:
    source = tiny()
    model = onnx.load_model(str(source.model))
    weights = {"first": np.array([0], np.int64), "rest": np.array([3, 2], np.int64)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    model.graph.node.extend(
        [
            onnx.helper.make_node("Shape", ["embedding"], ["sizes"]),
            onnx.helper.make_node("Gather", ["sizes", "first"], ["items"]),
            onnx.helper.make_node("Concat", ["items", "rest"], ["to"], axis=0),
            onnx.helper.make_node("Reshape", ["embedding", "to"], ["grid"]),
        ]
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info("grid", onnx.TensorProto.FLOAT, ["batch", "other"]))
    onnx.save_model(model, str(source.model))
    [bundle] = compiled(source, [elsewhere])

    assert any("output 'grid' is declared as [-1, -1], and an item's is [1, 3, 2]" in n for n in bundle.report["notes"])
    assert next(one for one in bundle.manifest.outputs if one.name == "grid").shape == [-1, 3, 2]
