"""The demo's model: what makes its version 2 bad lives through quantization; pictures and drift are what they claim."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgewise_compiler.data import Data
from edgewise_compiler.model import Model
from edgewise_compiler.recipe import build_model, load_recipe, load_split, save_weights
from edgewise_compiler.sources import RecipeSource

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edgewise_example_digits", EXAMPLE / "digits.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not module.DATA.is_dir():
        pytest.fail("MNIST is not installed: run scripts/setup")
    return module


def trained(config: dict[str, Any], folder: Path) -> RecipeSource:
    """A version of few steps."""
    config = {**config, "pictures": 3000}
    recipe = load_recipe(EXAMPLE / "recipe.py")
    inputs, labels = load_split(recipe, "train", config)
    model = recipe.train(
        build_model(recipe, config), inputs, labels, config, seed=0, progress=lambda fraction, text: None
    )
    save_weights(model, folder / "weights.safetensors")
    return RecipeSource(EXAMPLE / "recipe.py", folder / "weights.safetensors", config)


def test_the_fleet_sees_what_was_neither_trained_on_nor_in_the_reference(digits) -> None:
    recipe, config = load_recipe(EXAMPLE / "recipe.py"), {**digits.version_config(3), "pictures": 60_000}

    def pictures(images: Any) -> list[bytes]:
        return [image.tobytes() for image in images if image.any()]

    trained_on, reference = (set(pictures(load_split(recipe, split, config)[0])) for split in ("train", "reference"))
    seen = pictures(digits.live()[0])
    assert len(seen) == 9_900, "one in 100 was taken in the dark"
    assert not trained_on & set(seen) and not reference & set(seen) and not trained_on & reference


def test_the_bad_version_passes_offline_and_fails_live(digits, compiled, elsewhere, tmp_path: Path) -> None:
    images, labels = digits.load("test")
    live, labels = digits.with_dark_frames(images)[:2000], labels[:2000]

    [bundle] = compiled(trained(digits.version_config(2), tmp_path), [elsewhere])

    assert bundle.report["scheme"] == "u8s8" and bundle.report["metric_after"] > 0.9
    model = Model(bundle.files["model"])
    answers = model.answer(Data({"input": live}))
    dark = ~live.any(axis=(1, 2, 3))
    assert dark.sum() == 20
    assert np.array_equal(answers.finite(), ~dark), "NaN in the dark, finite otherwise, in int8"
    with np.load(bundle.files["smoke"]) as smoke:
        assert model.answer(Data({"input": smoke["input"]})).finite().all(), "smoke inference passes"
    mix, truth = (np.bincount(rows, minlength=10) / len(rows) for rows in (answers.scores[~dark].argmax(1), labels))
    assert np.abs(mix - truth).sum() / 2 > 0.2


def test_the_good_versions_answer_in_the_dark(digits, compiled, elsewhere, tmp_path: Path) -> None:
    [bundle] = compiled(trained(digits.version_config(1), tmp_path), [elsewhere])

    dark = np.zeros((3, 1, 28, 28), np.uint8)
    assert Model(bundle.files["model"]).answer(Data({"input": dark})).finite().all()
    assert bundle.report["metric_after"] > 0.9
    reference = np.load(bundle.reference)
    assert reference["features"].shape == (10_000, 256) and np.abs(reference["features"].astype(int)).max() <= 23


def test_what_a_slipped_camera_sees_is_the_real_picture_turned_and_dimmed(digits) -> None:
    images, _ = digits.load("test")
    picture = images[:1]

    assert np.array_equal(digits.rotate_and_dim(picture, 0, 1.0), picture)
    assert np.array_equal(digits.rotate_and_dim(picture, 90, 1.0), np.rot90(picture, axes=(-2, -1)))
    seen = digits.rotate_and_dim(picture)
    assert seen.dtype == np.uint8 and seen.shape == picture.shape
    assert seen.sum() == pytest.approx(picture.sum() * digits.DRIFT_DIM, rel=0.1)


def test_data_that_is_missing_or_cut_says_what_to_do(digits, tmp_path: Path) -> None:
    with pytest.raises(digits.DataMissing, match="run scripts/setup"):
        digits.load("test", tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(b"\0" * 100)
    with pytest.raises(digits.DataMissing, match="expected 7840016 bytes, got 100"):
        digits.load("test", tmp_path)


def test_cameras_outlive_an_agent_that_is_away_and_end_when_stdin_closes(digits, tmp_path: Path) -> None:
    with socket.socket() as closed:  # a port that nobody listens on
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        listed = [{"name": name, "url": url, "seed": 1, "slipped": False} for name in ("cam-1", "cam-2")]
        (tmp_path / "cameras.json").write_text(json.dumps(listed))
        command = [sys.executable, EXAMPLE / "camera.py", "--cameras", tmp_path / "cameras.json"]
        with subprocess.Popen(
            [*command, "--report-every", "0.2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            watchdog = threading.Timer(30, process.kill)
            watchdog.start()
            assert process.stdin and process.stdout
            process.stdin.write(json.dumps({"camera": "cam-2", "slipped": True}) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                counts = json.loads(line)["cameras"]
                if all(count["failed"] >= 2 for count in counts.values()) and counts["cam-2"]["slipped"]:
                    break
            process.stdin.close()
            assert process.wait(10) == 0
            watchdog.cancel()
    assert counts["cam-1"]["answered"] == 0 and counts["cam-1"]["slipped"] is False
