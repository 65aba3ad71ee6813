"""``edgewise compile FILE``: streams, exit codes, and what lies in the folder afterwards."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest

from edgewise import cli
from edgewise.bundle import Manifest, digest
from edgewise.cli.local import Request
from edgewise.wire.codec import decode_json
from edgewise_compiler.cli import name_of, source_of
from edgewise_compiler.errors import CompileError
from edgewise_compiler.sources import OnnxSource, ProgramSource, RecipeSource, TfliteSource

FAR = 'schema = 1\nname = "{name}"\ntitle = "Far"\narchitecture = "riscv64"\nruntimes = ["onnxruntime"]\n'


class Ran:
    """What a command line came to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["edgewise", "compile", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        self.code = code if isinstance(code, int) else 0 if code is None else 1
        self.out, self.err = capsys.readouterr()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ran]:
    """``run(model, ...)``: for two kinds of device that nothing is measured for, with a cache of the test's own."""
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    for name in ("far", "farther"):
        (profiles / f"{name}.toml").write_text(FAR.format(name=name))
    monkeypatch.setenv("EDGEWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    return lambda model, *arguments: Ran(monkeypatch, capsys, model, "--profiles", profiles, *arguments)


@pytest.fixture
def files(tiny: Callable[..., OnnxSource]) -> tuple[Path, Path]:
    """A model and its data."""
    source = tiny()
    return source.model, source.data


def test_a_file_becomes_a_folder_a_profile(run: Any, files: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = files
    out = tmp_path / "out"
    ran = run(model, "--data", data, "--out", out, "--budget", "size=0.9x,latency=1x,drop=0.05", "--no-training")
    assert ran.code == 0
    assert "far" in ran.out and "met" in ran.out and str(out / "report.html") in ran.out.replace("\n", "")
    assert "far: post-training int8" in ran.err and "Traceback" not in ran.err
    for name in ("far", "farther"):
        manifest = decode_json((out / name / "manifest.json").read_bytes(), Manifest)
        assert (manifest.tenant, manifest.model, manifest.version, manifest.release) == ("main", "tiny", 1, 1)
        assert manifest.profile == name and manifest.created_at == 1_700_000_000
        assert digest((out / name / "model.onnx").read_bytes()) == manifest.blobs["model"].sha256
        report = msgspec.json.decode((out / name / "report.json").read_bytes())
        assert report["meets"] and report["size_after"] < 0.9 * report["size_before"]
        assert (out / name / "report.html").stat().st_size > 5000


def test_json_is_one_document_and_the_same_again(run: Any, files: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = files
    first = run(model, "--data", data, "--out", tmp_path / "a", "--profile", "far", "--json")
    assert (first.code, first.err, first.out.count("\n")) == (0, "", 1)
    said = msgspec.json.decode(first.out)
    assert said["page"] == str(tmp_path / "a" / "far" / "report.html") and Path(said["page"]).is_file()
    assert [one["profile"] for one in said["bundles"]] == ["far"]
    assert run(model, "--data", data, "--out", tmp_path / "b", "--profile", "far", "--json").code == 0
    for name in ("manifest.json", "model.onnx", "sketch.json", "smoke.npz"):
        assert (tmp_path / "a" / "far" / name).read_bytes() == (tmp_path / "b" / "far" / name).read_bytes()


def test_a_budget_that_nothing_meets_is_3_and_what_there_is_is_kept(
    run: Any, files: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = files
    out = tmp_path / "out"
    ran = run(model, "--data", data, "--out", out, "--profile", "far", "--budget", "size=64B", "--no-training")
    assert ran.code == 3
    last = ran.err.splitlines()[-1]
    assert last.startswith("edgewise: far: the budget is not met: ") and "expected at most 64" in last
    assert "What there is for far" in ran.out and "not met" in ran.out
    assert (out / "far" / "manifest.json").is_file() and (out / "far" / "report.html").is_file()


def test_a_metric_of_the_users_own_is_what_is_judged(run: Any, files: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = files
    metric = tmp_path / "mine.py"
    metric.write_text("def margin(outputs, labels):\n    return float(outputs['scores'].max(axis=1).mean())\n")
    arguments = (model, "--data", data, "--out", tmp_path / "out", "--profile", "far", "--budget", "drop=10", "--json")
    ran = run(*arguments, "--metric", f"{metric}:margin")
    assert ran.code == 0 and msgspec.json.decode(ran.out)["bundles"][0]["report"]["metric"] == "margin"
    metric.write_text("def margin(outputs, labels):\n    raise KeyError('logits')\n")
    ran = run(*arguments, "--metric", f"{metric}:margin")
    assert (ran.code, ran.out) == (1, "") and "KeyError" in ran.err and ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("model.onnx", "--profile", "far"),
        ("model.onnx", "--profile", "far", "--out", "out", "--budget", "size=small"),
        ("digits:1", "--profile", "far", "--data", "data.npz"),
        ("digits:1", "--profile", "far", "--explore"),
    ],
    ids=["no --out", "no budget", "data for the hub", "explore for the hub"],
)
def test_wrong_usage_is_2(run: Any, arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")


def test_what_is_wrong_is_one_line(run: Any, tmp_path: Path) -> None:
    ran = run("none.onnx", "--profile", "far", "--out", tmp_path / "out", "--data", "none.npz", "--json")
    assert (ran.code, ran.out, ran.err) == (1, "", "edgewise: none.onnx: there is no such file\n")
    ran = run("none.onnx", "--profile", "toaster", "--out", tmp_path / "out")
    assert ran.code == 1 and "unknown device profile 'toaster'" in ran.err
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_one_line(run: Any, files: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = files
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "far").write_text("in the way")
    ran = run(model, "--data", data, "--out", tmp_path / "out", "--profile", "far", "--json")
    assert ran.code == 1 and "far: " in ran.err and ran.err.count("\n") == 1


def test_a_profile_that_nothing_takes_leaves_the_others_compiled(
    run: Any, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWISE_TOOLCHAINS", str(tmp_path / "none"))
    phone = FAR.format(name="phone").replace('["onnxruntime"]', '["litert"]')
    (tmp_path / "profiles" / "phone.toml").write_text(phone)
    model, data = files
    out = tmp_path / "out"
    ran = run(model, "--data", data, "--out", out, "--profile", "phone", "--profile", "far", "--json")
    assert ran.code == 1 and ran.err.count("\n") == 1
    assert "phone: " in ran.err and "install litert" in ran.err and f"far: compiled into {out}" in ran.err
    assert (out / "far" / "manifest.json").is_file() and not (out / "phone").exists()


def test_a_model_whose_external_data_is_gone_is_one_line(run: Any, files: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = files
    onnx.save_model(onnx.load(model), model, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    ran = run(model, "--data", data, "--out", tmp_path / "out", "--profile", "far", "--json")
    assert ran.code == 1 and ran.err.count("\n") == 1
    assert "tiny.onnx: expected its external data beside it" in ran.err and "weights.bin" in ran.err


def test_no_room_for_a_file_is_one_line_and_the_next_run_is_unharmed(files: tuple[Path, Path], tmp_path: Path) -> None:
    """The limit is the kernel's, on every file that the command and its processes write."""
    model, data = files
    command = [str(Path(sys.executable).with_name("edgewise")), "compile", str(model), "--data", str(data), "--json"]
    command += ["--profile", "raspberry-pi-5", "--budget", "size=0.9x", "--no-training", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "EDGEWISE_CACHE": str(tmp_path / "cache"), "SOURCE_DATE_EPOCH": "1700000000"}
    few = model.stat().st_size // 2

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (few, few))

    full = subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=limited)
    assert full.returncode == 1 and full.stdout == ""
    assert full.stderr.count("\n") == 1 and "Traceback" not in full.stderr and "too large" in full.stderr
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    kept = (tmp_path / "out" / "raspberry-pi-5" / "model.onnx").read_bytes()
    environment["EDGEWISE_CACHE"] = str(tmp_path / "fresh")
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
    assert (tmp_path / "out" / "raspberry-pi-5" / "model.onnx").read_bytes() == kept


def test_without_the_compiler_it_says_how_to_get_it(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewise.cli.local.entry_points", lambda **_: ())
    ran = run("model.onnx", "--profile", "far", "--out", tmp_path / "out")
    assert ran.code == 1 and ran.out == "" and ran.err.count("\n") == 1
    assert "pip install edgewise-compiler" in ran.err


def request(tmp_path: Path, name: str, **fields: Any) -> Request:
    (tmp_path / name).write_bytes(b"")
    return Request(model=tmp_path / name, profiles=[], out=tmp_path, **fields)


def test_the_suffix_says_what_the_source_is(tmp_path: Path) -> None:
    data, recipe = tmp_path / "data.npz", tmp_path / "recipe.py"
    onnx = source_of(request(tmp_path, "a.onnx", data=data, scores="logits"))
    assert isinstance(onnx, OnnxSource) and (onnx.data, onnx.scores, onnx.metric) == (data, "logits", None)
    assert isinstance(source_of(request(tmp_path, "a.TFLITE", data=data)), TfliteSource)
    assert isinstance(source_of(request(tmp_path, "a.pt2", data=data)), ProgramSource)
    weights = source_of(request(tmp_path, "a.safetensors", recipe=recipe, config={"width": 8}))
    assert isinstance(weights, RecipeSource) and (weights.recipe, weights.config) == (recipe, {"width": 8})


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("a.onnx", {}, "expected --data FILE.npz"),
        ("a.onnx", {"data": Path("d"), "recipe": Path("r")}, "--recipe: not for a .onnx file"),
        ("a.pt2", {"data": Path("d"), "scores": "s"}, "--scores: not for a .pt2 file"),
        ("a.safetensors", {}, "weights need their --recipe"),
        ("a.safetensors", {"recipe": Path("r"), "metric": "m.py:f"}, "--metric: not for a .safetensors file"),
        ("a.h5", {"data": Path("d")}, "expected .onnx, .tflite, .pt2 or .safetensors, got .h5"),
        ("a.onnx", {"data": Path("d"), "metric": "none.py:f"}, "expected FILE.py:FUNCTION"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        source_of(request(tmp_path, name, **fields))


@pytest.mark.parametrize(
    ("file", "name"),
    [("digits.onnx", "digits"), ("my net (2).onnx", "my-net-2-"), ("_x.onnx", "x"), ("модель.onnx", "model")],
)
def test_a_model_is_called_as_its_file(file: str, name: str) -> None:
    assert name_of(Path(file)) == name


@pytest.mark.slow
def test_the_guides_example_compiles_for_three_kinds_of_device(tmp_path: Path) -> None:
    """Trains a small network and runs the command; whether this machine meets its latency is not the question."""
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-m", "examples.compile_first", "--out", str(tmp_path / "out"), "--budget", "size=0.3x"]
    environment = {**os.environ, "EDGEWISE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    for name in ("linux-x86-64", "raspberry-pi-5", "browser-wasm"):
        report = msgspec.json.decode((tmp_path / "out" / name / "report.json").read_bytes())
        assert report["meets"] and report["metric_after"] > 0.95 and report["size_after"] < 0.3 * report["size_before"]
    assert (tmp_path / "out" / "report.html").is_file()
