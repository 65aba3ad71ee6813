"""The compiler against the peers on five tasks: accuracy, latency, size, minutes; all chosen unattended, in one run.

``scripts/bench compile [TASK ...] --keep DIR``: each task's rows go to ``DIR/TASK.json`` as soon as they are there.
``scripts/bench compile --merge DIR/TASK.json ...`` makes the page of what such runs left. Within a task all models take
turns in one run; tasks are never compared with each other, so they need not run at the same time.

The data, the peers' packages and the trained sources are fetched and made at the first run
(``scripts/setup --bench``).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from compile_tasks import ALL, TASKS, UNEVEN, Task, minilm, page
from compile_tasks.data import BENCH
from compile_tasks.page import BASE, INT8, Result, Row
from compile_tasks.peers import PEERS, Made, Peer, Skipped, converted_feed, cosine, evaluate, make
from compile_tasks.train import source_onnx, train
from rich.progress import Progress

from edgewise.profile import find
from edgewise.resources import Budget as BudgetText
from edgewise_compiler.budget import Budget
from edgewise_compiler.cache import Cache
from edgewise_compiler.compile import compile
from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.measure import Measured, measure
from edgewise_compiler.metric import user_metric
from edgewise_compiler.passes.openvino import pack
from edgewise_compiler.passes.prune import Prune
from edgewise_compiler.plan import Origin, node
from edgewise_compiler.runner import Ok, Runner
from edgewise_compiler.sources import OnnxSource, RecipeSource, Source, open_source
from edgewise_compiler.toolchains import environment

PROFILE = "linux-x86-64"
TEXTS = {
    "ours": "drop=0.005, latency=0.5x, size=1/3.5 of the source's ONNX",
    "ours, small": "drop=0.015, size=1/6 of the source's ONNX",
    INT8: f"drop=0.01, size=0.5x of optimized fp32 ({UNEVEN.name} alone)",
}
PRUNED = "resnet8"
"""The task that is pruned alone besides."""
CUT = Prune.Config(speedup=1.82, macs=0.4, epochs=24, learning_rate=3e-3)


def main() -> None:
    """Run and write, or merge and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", help=f"of {', '.join(ALL)}; all without")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--peer-minutes", type=float, default=30.0, help="how long each peer may take; 30")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="MODEL", help="make these anew; take the others from --keep as made"
    )
    parser.add_argument("--cache", type=Path, help="the compiler's cache; a fresh one without")
    parser.add_argument("--keep", type=Path, help="keep bundles, reports and each task's rows here")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="FILE", help="make the page of these rows, run nothing"
    )
    arguments = parser.parse_args()
    if arguments.merge:
        page.write([msgspec.json.decode(path.read_bytes(), type=Result) for path in arguments.merge])
        return
    if unknown := sorted(set(arguments.tasks) - set(ALL)):
        parser.error(f"expected tasks of {', '.join(ALL)}, got {', '.join(unknown)}")
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True) as bar:
        keep = arguments.keep or Path(folder)
        for task in (ALL[name] for name in arguments.tasks or ALL):
            doing = bar.add_task(task.name, total=None)
            rows = []
            before = _kept(keep / f"{task.name}.json") if arguments.only else {}
            for title, make_row in _makers(task, arguments, keep, bar).items():
                bar.update(doing, description=f"{task.name}: {title}")
                rows.append(make_row() if title in arguments.only or title not in before else before[title])
            results.append(_time(task, rows, Path(folder)))
            (keep / f"{task.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(results[-1]), indent=1))
            bar.update(doing, completed=1, total=1, description=task.name)
            for row in rows:
                bar.console.print(page.line(task, row, rows[0]))
    if set(TASKS) <= {result.task for result in results} and not arguments.no_peers:
        page.write(results)


def _makers(task: Task, arguments: argparse.Namespace, keep: Path, bar: Progress) -> dict[str, Callable[[], Row]]:
    """What makes each row of a task, in order."""
    cache, folder = arguments.cache or keep / "cache", keep / task.name
    makers: dict[str, Callable[[], Row]] = {BASE: partial(_base, task)}
    for peer in () if arguments.no_peers else PEERS.values():
        makers[peer.title] = partial(_peer, peer, task, folder / peer.name, arguments.peer_minutes)
    for name, budget in _budgets(source_onnx(task, BENCH)).items():
        makers[name] = partial(_ours, name, budget, task, folder / name, cache, bar)
    if task is UNEVEN:  # small enough that only integers will do
        budget = Budget(max_metric_drop=0.01, max_size_ratio=0.5)
        makers[INT8] = partial(_ours, INT8, budget, task, folder / INT8, cache, bar)
    if task.name == PRUNED:
        makers["ours, pruned fp32"] = partial(_pruned, task, folder / "pruned", cache)
    return makers


def _kept(path: Path) -> dict[str, Row]:
    """Rows of an earlier run whose files are still there; all of them are timed again."""
    if not path.is_file():
        return {}
    rows = msgspec.json.decode(path.read_bytes(), type=Result).rows
    return {row.name: row for row in rows if not row.size or Path(row.path).is_file()}


def _budgets(source: Path) -> dict[str, Budget]:
    """``TEXTS`` for one source."""
    size = source.stat().st_size
    return {
        name: msgspec.convert(BudgetText.parse(f"{limits},size={size / smaller:.0f}B").fields(), Budget)
        for (name, limits, smaller) in (("ours", "drop=0.005,latency=0.5x", 3.5), ("ours, small", "drop=0.015", 6.0))
    }


def _base(task: Task) -> Row:
    path = source_onnx(task, BENCH)
    started = time.monotonic()
    reached = evaluate(task, path, "onnxruntime", root=BENCH)
    return Row(
        name=BASE,
        reached=reached,
        path=str(path),
        runtime="onnxruntime",
        size=path.stat().st_size,
        seconds=time.monotonic() - started,
    )


def _peer(peer: Peer, task: Task, out: Path, minutes: float) -> Row:
    made = make(peer, task, out, root=BENCH, python=environment.find("litert"), timeout=60 * minutes)
    if isinstance(made, Skipped):
        return Row(name=peer.title, note=made.reason)
    assert isinstance(made, Made)
    reached = evaluate(task, made.path, made.runtime, root=BENCH)
    path = made.path
    if made.runtime == "openvino":  # to be timed like all others: one file
        path = out / "packed.openvino"
        pack(path, made.path, made.path.with_suffix(".bin"))
    return Row(
        name=peer.title,
        reached=reached,
        path=str(path),
        runtime=made.runtime,
        size=made.size,
        seconds=made.seconds,
        converted=not peer.takes_onnx,
    )


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


def _ours(name: str, budget: Budget, task: Task, out: Path, cache: Path, bar: Progress) -> Row:
    out.mkdir(parents=True, exist_ok=True)
    doing = bar.task_ids[-1]
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
            training=True,
            cache=cache,
            progress=lambda fraction, text: bar.update(doing, description=f"{task.name}: {name}: {text}"),
        )
    except CompileError as error:
        return Row(name=name, seconds=time.monotonic() - started, note=str(error))
    report, path = bundle.report, bundle.files["model"]
    return Row(
        name=name,
        reached=report["metric_after"],
        path=str(path),
        runtime=report["target"],
        size=path.stat().st_size,
        seconds=time.monotonic() - started,
        note=f"{report['scheme']}" + ("" if report["meets"] else f"; missed: {'; '.join(report['missing'])}"),
    )


def _pruned(task: Task, out: Path, cache: Path) -> Row:
    """Channels cut, and nothing else: still fp32."""
    shutil.rmtree(out, ignore_errors=True)  # an earlier run's
    out.mkdir(parents=True)
    started = time.monotonic()
    opened = open_source(_source(task, out), out)
    source = Origin("the source", "onnx", opened.traits)
    runner = Runner(
        origins={source: opened.model},
        data=opened.data,
        parity=opened.reference.spread(32),
        named=opened.named,
        folder=out,
        failures=out / "failures",
        cache=Cache(cache),
        seed=0,
        progress=lambda fraction, text: None,
    )
    cut = node("prune", CUT, model=node("optimize", model=source))
    made = runner.run(node("strip", model=node("optimize", model=cut)))
    if not isinstance(made, Ok):
        return Row(name="ours, pruned fp32", note=made.reason)
    notes = next(outcome.notes for step, outcome in runner.outcomes() if step == cut and isinstance(outcome, Ok))
    fewer = re.search(r"\((\d+\.\d+)x fewer\)", notes[-4])
    return Row(
        name="ours, pruned fp32",
        reached=evaluate(task, made.file, "onnxruntime", root=BENCH),
        path=str(made.file),
        runtime="onnxruntime",
        size=made.file.stat().st_size,
        seconds=time.monotonic() - started,
        macs=float(fewer[1]) if fewer else None,
        note="; ".join(notes),
    )


def _time(task: Task, rows: list[Row], folder: Path) -> Result:
    """Time all models of a task in turn, and put it into their rows."""
    inputs, _ = task.split("reference", BENCH)
    items = folder / f"{task.name}.npz"
    for row in rows:
        if row.converted:
            inputs = {**inputs, **converted_feed(Path(row.path), task.split("reference", BENCH)[0])}
    Data(inputs).spread(32).save(items)
    models = {row.name: Measured(row.runtime, Path(row.path)) for row in rows if row.size}
    latency = measure(1, models, items)
    for row in rows:
        if row.name in latency:
            row.p50, row.spread = latency[row.name].p50_ms, latency[row.name].spread
    return Result(
        task=task.name,
        date=time.strftime("%Y-%m-%d"),
        processors=os.cpu_count() or 1,
        load=round(os.getloadavg()[0], 1),
        budgets=TEXTS,
        rows=rows,
    )


if __name__ == "__main__":
    sys.exit(main())
