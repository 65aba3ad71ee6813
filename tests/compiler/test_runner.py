"""The runner: every pass is held to its word, outcomes are kept, failures repeat, the cache survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgewise_compiler import passes
from edgewise_compiler.cache import Cache
from edgewise_compiler.data import Data
from edgewise_compiler.passes import Pass, Refusal, Work
from edgewise_compiler.plan import Node, Origin, node
from edgewise_compiler.runner import Failed, Ok, Refused, Runner

from .conftest import cnn, pictures

SOURCE = Origin("the source", "onnx", frozenset({"float32"}))
RAN: list[str] = []


class Shift(Pass):
    """Adds ``by`` to the last bias; says that it is not lossy."""

    name = "shift"
    title = "shift the scores"

    class Config(passes.PassConfig, frozen=True, kw_only=True):
        by: float = 0.0
        to_nan: bool = False

    def run(self, work: Work) -> None:
        RAN.append(self.name)
        model = onnx.load_model(str(work.inputs["model"]))
        bias = next(tensor for tensor in model.graph.initializer if tensor.name == "b3")
        values = numpy_helper.to_array(bias) + np.float32(np.nan if work.config.to_nan else work.config.by)
        bias.CopyFrom(numpy_helper.from_array(values.astype(np.float32), "b3"))
        onnx.save_model(model, str(work.out))


class Renames(Pass):
    """Calls an output otherwise."""

    name = "renames"
    title = "rename an output"

    def run(self, work: Work) -> None:
        model = onnx.load_model(str(work.inputs["model"]))
        model.graph.output[0].name = model.graph.node[-1].output[0] = "points"
        onnx.save_model(model, str(work.out))


class Regrids(Pass):
    """Puts a quantized model on a grid a little finer or coarser; says that it is not lossy."""

    name = "regrids"
    title = "move the grid"

    class Config(passes.PassConfig, frozen=True, kw_only=True):
        by: float = 1.0

    def run(self, work: Work) -> None:
        model = onnx.load_model(str(work.inputs["model"]))
        scales = {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"}
        for tensor in model.graph.initializer:
            if tensor.name in scales:
                moved = numpy_helper.to_array(tensor) * np.float32(work.config.by)
                tensor.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), tensor.name))
        onnx.save_model(model, str(work.out))


class WritesNothing(Pass):
    name = "writes-nothing"
    title = "write nothing"

    def run(self, work: Work) -> None:
        pass


class Raises(Pass):
    name = "raises"
    title = "raise"

    def run(self, work: Work) -> None:
        raise KeyError("some library's")


class Refuses(Pass):
    name = "refuses"
    title = "refuse"

    def run(self, work: Work) -> None:
        RAN.append(self.name)
        raise Refusal("the model is too round")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """These passes are found like those of a third party."""
    mine = {kind.name: kind() for kind in (Shift, Renames, Regrids, WritesNothing, Raises, Refuses)}
    found = passes.find
    monkeypatch.setattr("edgewise_compiler.plan.find", lambda name: mine.get(name) or found(name))
    monkeypatch.setattr("edgewise_compiler.passes.worker.find", lambda name: mine.get(name) or found(name))
    RAN.clear()


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    """``runner()``: a fresh one over the same cache."""
    onnx.save_model(cnn(), str(tmp_path / "source.onnx"))
    data = Data({"input": pictures(64)})
    made = iter(range(100))

    def make(**more: Any) -> Runner:
        folder = tmp_path / f"work-{next(made)}"
        folder.mkdir()
        return Runner(
            origins={SOURCE: tmp_path / "source.onnx"},
            data={"calibrate": data},
            parity=data.spread(8),
            named=("scores", "embedding"),
            folder=folder,
            failures=tmp_path / "failures",
            cache=Cache(tmp_path / "cache"),
            seed=0,
            progress=lambda fraction, text: None,
            **more,
        )

    return make


def shift(by: float) -> Node:
    return node("shift", Shift.Config(by=by), model=SOURCE)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (lambda: shift(0.5), "pass shift broke its word: output 'scores' differs"),
        (
            lambda: node("shift", Shift.Config(to_nan=True), model=SOURCE),
            "pass shift broke its word: NaN or infinite outputs for 8 of 8 items",
        ),
        (lambda: node("renames", model=SOURCE), "pass renames broke its word: outputs: expected scores, embedding"),
        (lambda: node("writes-nothing", model=SOURCE), "pass writes-nothing broke its word: it wrote no file"),
    ],
)
def test_the_pass_that_broke_its_word_is_named(runner: Any, step: Any, said: str) -> None:
    outcome = runner().run(step())
    assert isinstance(outcome, Failed) and said in outcome.reason and outcome.code == "broke-its-word"


def test_rounding_of_a_quantized_model_is_told_apart_from_another_answer(runner: Any) -> None:
    """A grid moved by 0.2% rounds otherwise here and there; one moved by a half answers something else."""
    base = node("optimize", model=SOURCE)
    int8 = node("quantize", model=base, ranges=node("calibrate", model=base))
    held = runner()
    moved = held.run(node("regrids", Regrids.Config(by=1.002), model=int8))
    assert isinstance(moved, Ok), moved
    assert any(note.startswith("regrids: answers differ by") for note in moved.notes)
    broken = held.run(node("regrids", Regrids.Config(by=0.5), model=int8))
    assert isinstance(broken, Failed) and "pass regrids broke its word: output" in broken.reason


def test_what_came_out_well_is_not_computed_twice(runner: Any) -> None:
    first = runner()
    assert isinstance(first.run(shift(0.0)), Ok) and isinstance(first.run(shift(0.0)), Ok)
    again = runner().run(shift(0.0))
    assert isinstance(again, Ok) and again.cached and RAN == ["shift"]
    other = runner().run(shift(0.0001))
    assert isinstance(other, Ok) and not other.cached, "another configuration is another run"


def test_a_refusal_is_kept_and_shared_by_what_needs_the_file(runner: Any) -> None:
    refusing = node("refuses", model=SOURCE)
    for made in (runner(), runner()):
        outcome = made.run(node("shift", model=refusing))
        assert outcome == Refused("refuses", "the model is too round")
    assert RAN == ["refuses"]


def test_a_failure_is_not_kept_and_can_be_repeated_from_disk(runner: Any) -> None:
    failed = runner().run(node("raises", model=SOURCE))
    assert isinstance(failed, Failed) and failed.reason == 'raises: "some library\'s"' and failed.by == "raises"
    assert "KeyError" in (failed.reproducer / "error.txt").read_text()
    assert (failed.reproducer / "model").is_file() and not (failed.reproducer / "model").is_symlink()
    assert (failed.reproducer / "job.json").is_file()


def test_a_reproducer_runs_by_hand(runner: Any, tmp_path: Path) -> None:
    """A built-in pass on a model that is damaged after it was opened."""
    made = runner()
    (tmp_path / "source.onnx").write_bytes((tmp_path / "source.onnx").read_bytes()[:500])
    failed = made.run(node("optimize", model=SOURCE))
    assert isinstance(failed, Failed)
    again = subprocess.run(
        [sys.executable, "-m", "edgewise_compiler.passes.worker", str(failed.reproducer)],
        capture_output=True,
        check=False,
    )
    done = (failed.reproducer / "done.json").read_text() if again.returncode == 0 else again.stderr.decode()
    assert "optimize" in failed.reason and ("error" in done or "Error" in done)


def test_a_damaged_entry_of_the_cache_counts_as_none(runner: Any, tmp_path: Path) -> None:
    runner().run(shift(0.0))
    (kept,) = (tmp_path / "cache").glob("*/*/file")
    kept.write_bytes(kept.read_bytes()[:-1])
    outcome = runner().run(shift(0.0))
    assert isinstance(outcome, Ok) and not outcome.cached and RAN == ["shift", "shift"]


def test_the_cache_is_bounded_and_the_least_used_gives_way(tmp_path: Path, runner: Any) -> None:
    first = runner()
    small = Cache(tmp_path / "cache", max_bytes=(tmp_path / "source.onnx").stat().st_size * 2 + 2000)
    first.cache = small
    for number in range(4):
        assert isinstance(first.run(shift(number * 1e-5)), Ok)
    assert 1 <= len(list((tmp_path / "cache").glob("*/*/file"))) <= 2


def test_a_worker_that_is_killed_is_a_failure_and_the_next_run_is_unaffected(
    runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes.find("optimize").__class__, "isolated", True)
    real = subprocess.Popen

    def killed(*arguments: Any, **options: Any) -> Any:
        process = real(*arguments, **options)
        threading.Timer(0.05, lambda: os.kill(process.pid, signal.SIGKILL)).start()
        return process

    monkeypatch.setattr("edgewise_compiler.runner.subprocess.Popen", killed)
    failed = runner().run(node("optimize", model=SOURCE))
    assert isinstance(failed, Failed) and failed.code == "worker-died" and "killed by signal 9" in failed.reason
    monkeypatch.setattr("edgewise_compiler.runner.subprocess.Popen", real)
    assert isinstance(runner().run(node("optimize", model=SOURCE)), Ok)


def test_in_a_process_of_its_own_a_pass_gives_the_same_bytes(
    runner: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = runner().run(node("optimize", model=SOURCE))
    monkeypatch.setattr(passes.find("optimize").__class__, "isolated", True)
    apart = runner()
    apart.cache = Cache(tmp_path / "other")
    there = apart.run(node("optimize", model=SOURCE))
    assert isinstance(here, Ok) and isinstance(there, Ok) and here.digest == there.digest
