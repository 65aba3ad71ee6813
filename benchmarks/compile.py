"""The compiler against the peers on five tasks: accuracy, latency, size, minutes; all chosen unattended, in one run.

``scripts/bench compile [TASK ...]``; the data, the peers' packages and the trained sources are fetched and made at the
first run (``requirements-bench.txt``).
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from compile_tasks import ALL, TASKS, UNEVEN, Task, minilm
from compile_tasks.data import BENCH
from compile_tasks.peers import PEERS, Made, Peer, Skipped, converted_feed, cosine, evaluate, make
from compile_tasks.train import source_onnx, train
from report import write
from rich.progress import Progress

from edgewise.profile import find
from edgewise.resources import Budget as BudgetText
from edgewise_compiler.budget import Budget
from edgewise_compiler.bundle import CompiledBundle
from edgewise_compiler.compile import compile
from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.measure import Measured, measure
from edgewise_compiler.metric import user_metric
from edgewise_compiler.passes.openvino import pack
from edgewise_compiler.sources import OnnxSource, RecipeSource, Source
from edgewise_compiler.toolchains import environment

PROFILE = "linux-x86-64"
TEXTS = {"ours": "drop=0.005,size=0.2857x,latency=0.5x", "ours, small": "drop=0.015,size=0.1667x"}
BUDGETS = {name: msgspec.convert(BudgetText.parse(text).fields(), Budget) for name, text in TEXTS.items()}
BASE = "ORT fp32"


@dataclasses.dataclass
class Row:
    """One model of one task. ``reached``: accuracy or cosine; ``p50``: ms an item; ``seconds`` to make it."""

    name: str
    reached: float
    path: Path
    runtime: str
    size: int
    seconds: float
    note: str = ""
    p50: float = math.nan
    converted: bool = False
    """Does it take its input as ai-edge's converter names and types it?"""


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", help=f"of {', '.join(ALL)}; all without")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--cache", type=Path, help="the compiler's cache; a fresh one without")
    parser.add_argument("--keep", type=Path, help="keep the bundles and reports here")
    arguments = parser.parse_args()
    chosen = [task for task in ALL.values() if not arguments.tasks or task.name in arguments.tasks]
    results: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True) as bar:
        keep = arguments.keep or Path(folder)
        for task in chosen:
            doing = bar.add_task(task.name, total=None)
            rows = [_base(task)]
            for peer in () if arguments.no_peers else PEERS.values():
                bar.update(doing, description=f"{task.name}: {peer.title}")
                rows.append(_peer(peer, task, keep / task.name / peer.name))
            for name, budget in BUDGETS.items():
                rows += _ours(
                    name, budget, task, keep / task.name / name, arguments.cache or keep / "cache", bar, doing
                )
            _time(task, rows, Path(folder))
            results[task.name] = rows
            bar.update(doing, completed=1, total=1, description=task.name)
            for row in rows:
                bar.console.print(_line(task, row, rows[0]))
            if not arguments.tasks and not arguments.no_peers:  # a run that is cut keeps what it has
                _write(results)


def _base(task: Task) -> Row:
    path = source_onnx(task, BENCH)
    started = time.monotonic()
    reached = evaluate(task, path, "onnxruntime", root=BENCH)
    return Row(BASE, reached, path, "onnxruntime", path.stat().st_size, time.monotonic() - started)


def _peer(peer: Peer, task: Task, out: Path) -> Row:
    made = make(peer, task, out, root=BENCH, python=environment.find("litert"))
    if isinstance(made, Skipped):
        return Row(peer.title, math.nan, Path(), "", 0, 0.0, made.reason)
    assert isinstance(made, Made)
    reached = evaluate(task, made.path, made.runtime, root=BENCH)
    path = made.path
    if made.runtime == "openvino":  # to be timed like all others: one file
        path = out / "packed.openvino"
        pack(path, made.path, made.path.with_suffix(".bin"))
    return Row(peer.title, reached, path, made.runtime, made.size, made.seconds, converted=not peer.takes_onnx)


def _source(task: Task, folder: Path) -> Source:
    if task.recipe is not None:
        return RecipeSource(task.recipe, train(task, BENCH).weights, task.configuration(BENCH))
    arrays: dict[str, Any] = {}
    for split in ("train", "calibrate", "reference"):
        inputs, _ = task.split(split, BENCH)
        arrays |= {f"{split}/{name}": array for name, array in inputs.items()}
    data = folder / "data.npz"
    np.savez(data, **arrays)
    expected = _source_answers(task)
    metric = user_metric(
        "cosine", lambda outputs, _: float(np.mean(cosine(outputs[task.output], expected))), f"cosine-{task.name}"
    )
    return OnnxSource(minilm(BENCH), data, metric)


def _source_answers(task: Task) -> Any:
    from compile_tasks.peers import answer, open_model

    return answer(open_model(minilm(BENCH), "onnxruntime"), task.split("reference", BENCH)[0], task.output)


def _ours(name: str, budget: Budget, task: Task, out: Path, cache: Path, bar: Progress, doing: Any) -> list[Row]:
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        [bundle] = compile(
            _source(task, out),
            [find(PROFILE)],
            out,
            tenant="bench",
            model=task.name,
            version=1,
            release=1,
            created_at=0.0,
            budget=budget,
            cache=cache,
            progress=lambda fraction, text: bar.update(doing, description=f"{task.name}: {name}: {text}"),
        )
    except CompileError as error:
        return [Row(name, math.nan, Path(), "", 0, time.monotonic() - started, str(error))]
    return [_of_bundle(name, bundle, time.monotonic() - started)]


def _of_bundle(name: str, bundle: CompiledBundle, seconds: float) -> Row:
    report, path = bundle.report, bundle.files["model"]
    note = f"{report['scheme']}" + ("" if report["meets"] else f"; missed: {'; '.join(report['missing'])}")
    return Row(name, report["metric_after"], path, report["target"], path.stat().st_size, seconds, note)


def _time(task: Task, rows: list[Row], folder: Path) -> None:
    inputs, _ = task.split("reference", BENCH)
    items = folder / f"{task.name}.npz"
    for row in rows:
        if row.converted:
            inputs = {**inputs, **converted_feed(row.path, task.split("reference", BENCH)[0])}
    Data(inputs).spread(32).save(items)
    models = {row.name: Measured(row.runtime, row.path) for row in rows if row.size}
    latency = measure(1, models, items)
    for row in rows:
        if row.name in latency:
            row.p50 = latency[row.name].p50_ms


def _line(task: Task, row: Row, base: Row) -> str:
    if not row.size:
        return f"{task.name:8} {row.name:24} skipped: {row.note}"
    return (
        f"{task.name:8} {row.name:24} {task.metric} {row.reached:.4f} ({row.reached - base.reached:+.4f})  "
        f"latency {row.p50:.4f} ms = {row.p50 / base.p50:.2f}  size 1/{base.size / row.size:.2f}  "
        f"{row.seconds / 60:.1f} min  {row.note}"
    )


def _write(results: dict[str, list[Row]]) -> None:
    rows: list[list[Any]] = []
    for task, found in results.items():
        base = found[0]
        for row in found:
            if row.size:
                rows.append(
                    [
                        task, row.name, round(row.reached, 4), round(100 * (row.reached - base.reached), 2),
                        round(row.p50 / base.p50, 3), round(base.size / row.size, 2), round(row.seconds / 60, 2),
                        row.note,
                    ]
                )  # fmt: skip
            else:
                rows.append([task, row.name, "-", "-", "-", "-", "-", row.note])
    five = set(TASKS)
    for name in BUDGETS if five <= set(results) else ():
        ratios = [
            row.p50 / found[0].p50
            for task, found in results.items()
            if task in five
            for row in found
            if row.name == name
        ]
        rows.append(["geometric mean", name, "-", "-", round(statistics.geometric_mean(ratios), 3), "-", "-", ""])
    write(
        "compile",
        "The compiler against its peers",
        f"Of five tasks and `{UNEVEN.name}` (a net on which default PTQ collapses): {', '.join(results)}. "
        "Each model is judged on the task's "
        "reference (accuracy; MiniLM: mean cosine of sentence embeddings to the source). Latency: median of an item on "
        "one thread, all models of a task in interleaved rounds, relative to onnxruntime fp32. Size: of the file, how "
        "many times smaller than the source's ONNX. "
        f"Budgets: {TEXTS}; where a budget is missed the best of the front is shown and what it misses. "
        f"{platform.processor() or platform.machine()}.",
        ["task", "model", "metric", "points", "latency ratio", "times smaller", "minutes", "chosen"],
        rows,
    )


if __name__ == "__main__":
    sys.exit(main())
