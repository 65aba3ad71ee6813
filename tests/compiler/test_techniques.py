"""Techniques asked for by name: a student, masks, adapters merged or apart, from the command line to the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgewise.bundle import digest, seal
from edgewise_agent.runtimes import Runtime, open_runtime
from edgewise_agent.serving.model import open_model
from edgewise_compiler.cli import techniques_of
from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.model import Model
from edgewise_compiler.techniques import Techniques
from edgewise_compiler.training.recovery import Recovery

from .conftest import cnn, pictures
from .test_cli import request


@pytest.fixture
def swapped(tiny: Any) -> Any:
    """The tiny net, with labels that call its classes by the next one's name: there is something to learn."""
    source = tiny()
    items = pictures(300)
    scores = Model(source.model).answer(Data({"input": items})).scores
    labels = np.array([1, 2, 3, 0])[scores.argmax(axis=1)]
    arrays = {f"{split}/{name}": array for split in ("train", "reference") for name, array in
              (("inputs", items), ("labels", labels))}  # fmt: skip
    np.savez(source.data, class_names=np.array(list("abcd")), **arrays)
    return source


def weights_of(path: Path) -> list[np.ndarray[Any, Any]]:
    return [numpy_helper.to_array(tensor) for tensor in onnx.load_model(str(path)).graph.initializer]


def served(bundle: Any, folder: Path) -> Runtime:
    """The bundle as a device opens it, from its blobs and its envelope."""
    folder.mkdir()
    for role, file in bundle.files.items():
        (folder / bundle.manifest.blobs[role].sha256).write_bytes(file.read_bytes())
    envelope = seal(bundle.manifest, lambda payload: ("key", b"not checked: the supervisor did"))
    (folder / digest(envelope)).write_bytes(envelope)
    return open_model(digest(envelope), folder).runtime


def test_an_adapter_apart_is_a_blob_beside_a_base_that_stays_the_same(
    swapped: Any, compiled: Any, here: Any, tmp_path: Path
) -> None:
    bundles = [
        compiled(swapped, [here], name, techniques=Techniques(lora=4, apart=True, steps=steps))[0]
        for name, steps in (("short", 1), ("long", 400))
    ]
    for bundle in bundles:
        assert set(bundle.manifest.blobs) == {"model", "adapter", "sketch", "projection", "smoke"}
        assert bundle.report["scheme"] == "fp32, adapter"
    short, long = bundles
    assert short.files["model"].read_bytes() == long.files["model"].read_bytes(), "one base for all that is learned"
    assert short.files["adapter"].read_bytes() != long.files["adapter"].read_bytes()
    assert long.report["metric_after"] > long.report["metric_before"] + 0.2

    items = pictures(300)
    labels = np.load(swapped.data)["reference/labels"]
    adapted = served(long, tmp_path / "device")
    assert [tensor.name for tensor in adapted.describe()[0]] == ["input"]
    reached = np.mean(adapted.infer({"input": items})["scores"].argmax(axis=1) == labels)
    assert reached == pytest.approx(long.report["metric_after"], abs=0.01)
    base = open_runtime("onnxruntime", long.files["model"]).infer({"input": items})["scores"]
    assert np.allclose(base, Model(swapped.model).answer(Data({"input": items})).scores, atol=1e-4)


@pytest.mark.slow
def test_a_merged_adapter_is_what_every_candidate_starts_from(swapped: Any, compiled: Any, elsewhere: Any) -> None:
    [bundle] = compiled(swapped, [elsewhere], techniques=Techniques(lora=4, steps=400))
    assert "adapter" not in bundle.manifest.blobs
    assert bundle.report["metric_after"] > bundle.report["metric_before"] + 0.2
    assert {"fp32", "u8s8"} <= {one["name"] for one in bundle.report["candidates"]}


def test_masked_weights_stay_zero_in_what_is_compiled(swapped: Any, compiled: Any, elsewhere: Any) -> None:
    [bundle] = compiled(swapped, [elsewhere], techniques=Techniques(mask="0.5", steps=20))
    largest = max(weights_of(bundle.files["model"]), key=lambda weight: weight.size)
    assert np.mean(largest == 0) >= 0.49


def test_a_student_is_taught_and_tried_beside_the_source(
    tiny: Any, compiled: Any, elsewhere: Any, tmp_path: Path
) -> None:
    source, student = tiny(), tmp_path / "student.onnx"
    onnx.save_model(cnn(), str(student))
    [bundle] = compiled(source, [elsewhere], techniques=Techniques(student=student, steps=10), training=True)
    found = {one["name"]: one for one in bundle.report["candidates"]}
    assert {"student", "student, u8s8"} <= set(found)
    assert found["student"]["metric"] >= 0.95, "it has the source's own weights: teaching makes nothing worse"


@pytest.mark.slow
def test_a_student_from_a_recipe_starts_from_its_seed(
    compiled: Any, elsewhere: Any, recipe_file: Any, tmp_path: Path
) -> None:
    import torch

    from edgewise_compiler.recipe import build_model, load_recipe, save_weights
    from edgewise_compiler.sources import RecipeSource

    recipe = recipe_file(("torch.manual_seed(0)", "pass"))
    torch.manual_seed(3)
    save_weights(build_model(load_recipe(recipe), {"steps": 1}), tmp_path / "weights.safetensors")
    source = RecipeSource(recipe, tmp_path / "weights.safetensors", {"steps": 1})
    techniques = Techniques(student=recipe, steps=10, loss="dkd")
    runs = [
        compiled(source, [elsewhere], name, techniques=techniques, cache=tmp_path / name) for name in ("one", "two")
    ]
    assert runs[0][0].manifest.blobs["model"] == runs[1][0].manifest.blobs["model"]
    assert "student" in {one["name"] for one in runs[0][0].report["candidates"]}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"mask": "half"}, "expected 2:4, or a share of zeros above 0 and below 1, got 'half'"),
        ({"mask": "1"}, "got '1'"),
        ({"apart": True}, "expected the rank of an adapter"),
        ({"mask": "2:4", "lora": 4}, "got both"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_computed(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message) as refused:
        Techniques(**asked).check()
    assert refused.value.code == "cannot-plan"


def test_what_the_command_asks_for_is_checked(tmp_path: Path) -> None:
    def asked(**fields: Any) -> Techniques:
        return techniques_of(request(tmp_path, "a.onnx", techniques=fields))

    assert asked(steps=5, loss="dkd") == Techniques(steps=5, loss="dkd")
    with pytest.raises(CompileError, match="there is no such file"):
        asked(student=tmp_path / "none.onnx")
    with pytest.raises(CompileError, match=r"techniques: .*loss"):
        asked(loss="mse2")


def test_the_settings_reach_the_passes() -> None:
    asked = Techniques(mask="2:4", steps=7, epochs=3, loss="dkd")
    masking = asked.masking()
    assert masking is not None and (masking.pattern, masking.max_steps, masking.epochs) == ("2:4", 7, 3)
    assert msgspec.structs.asdict(masking)["loss"] == "dkd" and isinstance(masking, Recovery)
    adapting = Techniques(lora=4, apart=True).adapting()
    assert adapting is not None and (adapting.rank, adapting.alpha, adapting.merge) == (4, 8, False)
