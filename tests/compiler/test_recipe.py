"""Recipes: loaded with clear errors, exported and compiled; and what cannot be exported is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.export import check_parity, export_module
from edgewise_compiler.model import Model
from edgewise_compiler.recipe import build_model, load_recipe, load_split, load_weights, predict_with, save_weights
from edgewise_compiler.sources import RecipeSource

CONFIG = {"steps": 60}


def test_a_recipe_is_trained_saved_and_compiled(recipe_file, compiled, elsewhere, tmp_path: Path) -> None:
    path, weights = recipe_file(), tmp_path / "weights.safetensors"
    recipe = load_recipe(path)
    heard: list[float] = []
    inputs, labels = load_split(recipe, "train", CONFIG)
    model = recipe.train(
        build_model(recipe, CONFIG),
        inputs,
        labels,
        CONFIG,
        seed=0,
        progress=lambda fraction, text: heard.append(fraction),
    )
    save_weights(model, weights)
    again = build_model(recipe, CONFIG, weights)
    reference, truth = load_split(recipe, "reference", CONFIG)
    assert heard[-1] == 1.0
    assert np.array_equal(predict_with(again)(reference), predict_with(model)(reference))

    [bundle] = compiled(RecipeSource(path, weights, CONFIG), [elsewhere])

    expected = recipe.evaluate(predict_with(model), reference, truth)["accuracy"]
    assert expected > 0.95 and bundle.report["metric_before"] == expected
    assert bundle.report["metric_after"] == pytest.approx(expected, abs=0.02)
    assert bundle.report["parity"] < 1e-3
    assert set(bundle.report["digests"]) == {"recipe", "weights", "config", "calibrate", "reference"}
    assert bundle.manifest.labels == ["dark", "bright"]
    assert bundle.manifest.inputs[0].name == "input" and bundle.manifest.inputs[0].shape == [-1, 1, 8, 8]
    assert bundle.manifest.inputs[0].datatype == "UINT8"
    assert str(tmp_path).encode() not in bundle.files["model"].read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def train(", "def fit(", r"expected a function train\(model, inputs"),
        ("import numpy as np", "import no_such_package", "No module named 'no_such_package'"),
        ("def load(", "def load(:", "cannot be imported: SyntaxError"),
        ('["dark", "bright"]', "2", "CLASSES: expected a list of names, got 2"),
    ],
)
def test_a_recipe_that_is_not_one_is_refused(recipe_file, old: str, new: str, message: str) -> None:
    with pytest.raises(CompileError, match=message) as refused:
        load_recipe(recipe_file((old, new)))
    assert refused.value.code == "bad-recipe"
    assert "\n" not in str(refused.value)


def test_a_missing_recipe_and_a_split_that_fails_are_refused(recipe_file, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="expected a recipe"):
        load_recipe(tmp_path / "none.py")
    recipe = load_recipe(recipe_file())
    with pytest.raises(CompileError, match=r"load\('test'\): KeyError") as refused:
        load_split(recipe, "test", CONFIG)
    assert refused.value.code == "bad-data"


def test_weights_of_another_model_are_refused(recipe_file, tmp_path: Path) -> None:
    save_weights(nn.Linear(2, 2), tmp_path / "other.safetensors")
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04.")
    model = build_model(load_recipe(recipe_file()), CONFIG)

    for name in ("other", "pickle", "missing"):
        with pytest.raises(CompileError, match=f"{name}.safetensors: expected safetensors weights") as refused:
            load_weights(model, tmp_path / f"{name}.safetensors")
        assert refused.value.code == "bad-source"


class Eigen(nn.Module):
    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = input.float().reshape(-1, 2, 2)
        return torch.linalg.eigvals(x).real, x.reshape(-1, 4)


class Branch(nn.Module):
    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if input.sum() > 0:
            return input, input
        return input * 2, input


class Three(nn.Module):
    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return input, input, input


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Eigen(), r"operator aten\.linalg_eig"),
        (Branch(), r"data-dependent.* at test_recipe\.py, line \d+: if input\.sum\(\) > 0"),
        (Three(), r"expected a model that returns \(scores \[n, classes\], embedding \[n, d\]\), .*; got tuple of"),
    ],
)
def test_what_cannot_be_exported_is_named_in_one_line(module: nn.Module, message: str, tmp_path: Path) -> None:
    items = np.ones((4, 4), np.float32)

    with pytest.raises(CompileError, match=message) as refused:
        export_module(module, Data({"input": items}), tmp_path / "model.onnx")
    assert refused.value.code == "cannot-export"
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


class Shifted(nn.Module):
    """A stand-in for a model that answers otherwise than the one that was exported."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return input + self.by, input * 2


def test_an_export_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    data = Data({"input": np.random.default_rng(0).random((10, 4)).astype(np.float32)})
    assert export_module(Shifted(0.0), data, tmp_path / "model.onnx") == []
    model = Model(tmp_path / "model.onnx")

    assert onnx.load_model(str(tmp_path / "model.onnx")).opset_import[0].version == 20
    assert check_parity(Shifted(0.0), model, data) < 1e-6
    with pytest.raises(CompileError, match=r"scores differs from torch by 0\.01") as refused:
        check_parity(Shifted(0.01), model, data)
    assert refused.value.code == "parity"
