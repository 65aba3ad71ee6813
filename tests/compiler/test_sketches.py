"""What sketches are made of: bins of a tabular reference, and parts of an embedding's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewise.sketch import CategorySketch, EmbeddingSketch, FeatureSketch, SketchSpec
from edgewise.sketch.features import OUTLIER, columns
from edgewise.sketch.spec import projection_matrix
from edgewise.wire.codec import decode_json
from edgewise_compiler.errors import CompileError
from edgewise_compiler.sketches import embedding_parts, tabular
from edgewise_compiler.sources import OnnxSource
from edgewise_hub.monitoring import reference as references


def test_each_column_of_a_tabular_input_is_a_number_or_a_category() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(800, 3)).astype(np.float32)
    rows[:, 1] = rng.integers(0, 4, 800)
    rows[::9, 2] = np.nan
    inputs = {"row": rows, "kind": rng.integers(0, 5, 800), "picture": np.zeros((800, 1, 4, 4), np.float32)}
    features, categories = tabular(inputs, {"row": 2, "kind": 1, "picture": 4}, [], ["row[1]"])
    assert [feature.name for feature in features] == ["row[0]", "row[2]"]
    assert [(category.name, category.values) for category in categories] == [
        ("row[1]", [0, 1, 2, 3]),
        ("kind", [0, 1, 2, 3, 4]),
    ]
    counted = FeatureSketch(features)
    counted.update(columns(features, inputs))
    assert counted.counts[0, :3].tolist() == [0, 0, 0] and counted.counts[0, 3:].tolist() == [50] * 16
    assert counted.counts[1, 0] == 89, "null"
    far = CategorySketch(categories)
    far.update(columns(categories, {"row": np.full((2, 3), 9.0), "kind": np.array([1, 7])}))
    assert far.counts[:, 1].tolist() == [2, 1], "unseen"


def test_no_item_of_the_reference_is_an_outlier_and_another_unit_is() -> None:
    values = np.random.default_rng(1).lognormal(0, 1, (500, 1)).astype(np.float32)
    features, _ = tabular({"x": values}, {"x": 2})
    sketch = FeatureSketch(features)
    assert not (sketch.places(columns(features, {"x": values})) == OUTLIER).any()
    assert (sketch.places(columns(features, {"x": values * 1000})) == OUTLIER).mean() > 0.9


def test_few_values_have_a_bin_each_and_names_may_be_given() -> None:
    values = np.repeat(np.array([0.0, 0.5, 3.0], np.float32), 20)[:, None]
    [feature], _ = tabular({"x": values}, {"x": 2}, ["height"])
    assert (feature.name, feature.edges) == ("height", [0.25, 1.75])


@pytest.mark.parametrize(
    ("array", "rank"),
    [(np.zeros((9, 129), np.float32), 2), (np.zeros((9, 2, 3), np.float32), 2), (np.zeros((9, 2, 3)), 3)],
)
def test_wide_inputs_and_whole_tensors_are_not_tabular(array: np.ndarray, rank: int) -> None:
    assert tabular({"x": array}, {"x": rank}) == ([], [])


@pytest.mark.parametrize("d", [1, 2, 40, 3000])
@pytest.mark.parametrize("m", [2, 30, 700])
def test_embeddings_of_any_width_have_parts(d: int, m: int) -> None:
    rng = np.random.default_rng(d)
    embeddings = (rng.normal(size=(m, min(d, 5))) @ rng.normal(size=(min(d, 5), d))).astype(np.float32)  # of low rank
    parts = embedding_parts(embeddings, 0)
    assert parts is not None and (parts.spec.cells > 1) == (m > 40)
    sketch = EmbeddingSketch(parts.spec, projection_matrix(parts.spec, parts.projection))
    sketch.update(embeddings)
    assert np.array_equal(sketch.total, parts.features.sum(axis=0, dtype=np.int64))
    assert sketch.distances.sum() == m
    if m == 700:
        assert sketch.distances[-4:].sum() == pytest.approx(0.1 * m, abs=m // 25), "the upper tenth"


def test_embeddings_that_are_all_the_same_have_none() -> None:
    assert embedding_parts(np.ones((50, 4), np.float32), 0) is None
    assert embedding_parts(np.ones((1, 4), np.float32), 0) is None


def test_the_data_names_columns_and_categories(tmp_path: Path, elsewhere: Any, compiled: Any) -> None:
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Gemm", ["row", "w"], ["scores"])]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(rng.normal(size=(2, 3)).astype(np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, str(tmp_path / "m.onnx"))
    rows = np.stack([rng.normal(size=400), rng.integers(0, 3, 400)], axis=1).astype(np.float32)
    given = {"row": rows, "feature_names": np.array(["heat", "kind"]), "categorical": np.array(["kind"])}
    np.savez(tmp_path / "m.npz", **given)
    [bundle] = compiled(OnnxSource(tmp_path / "m.onnx", tmp_path / "m.npz"), [elsewhere])
    spec = decode_json(bundle.files["sketch"].read_bytes(), SketchSpec)
    assert [one.name for one in spec.features] == ["heat"] and spec.categories[0].values == [0, 1, 2]
    arrays = np.load(bundle.reference)
    assert arrays["feature_places"].shape == arrays["category_places"].shape == (400, 1)
    assert spec.embedding is None and any("no embedding was found" in note for note in bundle.report["notes"])
    loaded = references.load(bundle.reference, spec)
    assert loaded.sizes == {"feature_places": 19, "category_places": 5}
    np.savez(tmp_path / "m.npz", **{**given, "feature_names": np.array(["heat"])})
    with pytest.raises(CompileError, match="feature_names: expected 2, one a column, got 1"):
        compiled(OnnxSource(tmp_path / "m.onnx", tmp_path / "m.npz"), [elsewhere], "two")
