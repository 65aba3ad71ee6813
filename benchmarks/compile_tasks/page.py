"""The rows of the compile benchmark, a file a task, and the page that is made of them."""

from __future__ import annotations

import platform
import statistics
from typing import Any

import msgspec
import report

from compile_tasks import ALL, TASKS, UNEVEN, Task

BASE, INT8 = "ORT fp32", "ours, int8"
GAPS = """Where a budget is missed, and what was tried:

- *mlp's latency.* Of so few weights nearly all of what is measured is the call itself, which no technique shortens.
  LiteRT's call is the shorter one, but per-channel scales with their 64-bit zero points make its int8 file too large,
  and older runtimes refuse a file without them; so the budget's size decides for onnxruntime with 8-bit weights.
- *dscnn.* int8 alone gains little there (depthwise layers, a first layer of one channel): it is pruning that helps.
- *uneven.* In int8 its accuracy is back, by equalization; faster it is not: of so small depthwise layers the integer
  kernels take longer than float. Asked for speed as well, the compiler stays in float.

How far to trust it: the accuracy of what is trained, or pruned by measured latency, differs from run to run. The row of
the pruned ResNet-8 is one setting of the pass, its last recovery longer than the default (24 epochs). Three runs before
it, two of them of 14 epochs, lost .48, .57 and .90 points: on a busy machine the pass cut up to 5.6x of the
multiply-adds, of which the last saved nothing; it now asks for savings beyond three standard errors."""


class Row(msgspec.Struct, kw_only=True):
    """One model of one task. ``reached``: accuracy or cosine; ``p50``: ms an item; ``seconds`` to make it; without a
    ``size`` it was not made, and ``note`` says why."""

    name: str
    reached: float | None = None
    path: str = ""
    runtime: str = ""
    size: int = 0
    seconds: float = 0.0
    note: str = ""
    p50: float | None = None
    spread: float | None = None
    macs: float | None = None
    """Times fewer multiply-adds, where channels were cut."""
    converted: bool = False
    """Does it take its input as ai-edge's converter names and types it?"""


class Result(msgspec.Struct, kw_only=True):
    """One run of one task. ``load``: processes that wanted a processor, a mean of the last minute, as it was timed."""

    task: str
    date: str
    processors: int
    load: float
    budgets: dict[str, str]
    rows: list[Row]


def compared(row: Row, base: Row) -> tuple[float, float, float] | None:
    """(points gained, latency ratio, times smaller); None for a model that was not made."""
    if row.reached is None or row.p50 is None or base.reached is None or base.p50 is None:
        return None
    return 100 * (row.reached - base.reached), row.p50 / base.p50, base.size / row.size


def line(task: Task, row: Row, base: Row) -> str:
    """One row, for the terminal."""
    if (found := compared(row, base)) is None:
        return f"{task.name:8} {row.name:32} not made: {row.note}"
    points, latency, smaller = found
    return (
        f"{task.name:8} {row.name:32} {task.metric} {row.reached:.4f} ({points:+.2f})  latency {row.p50:.4f} ms = "
        f"{latency:.2f}  size 1/{smaller:.2f}  {row.seconds / 60:.1f} min  {row.note}"
    )


def write(results: list[Result]) -> None:
    """The page, tasks in the order of ``ALL``."""
    results = sorted(results, key=lambda result: list(ALL).index(result.task))
    rows: list[list[Any]] = []
    ratios: dict[str, list[float]] = {}
    for result in results:
        base = result.rows[0]
        for row in result.rows:
            if (found := compared(row, base)) is None:
                rows.append([result.task, row.name, "-", "-", "-", "-", "-", row.note])
                continue
            points, latency, smaller = found
            if result.task in TASKS:
                ratios.setdefault(row.name, []).append(latency)
            rows.append(
                [
                    result.task, row.name, f"{row.reached:.4f}", f"{points:+.2f}", f"{latency:.2f}",
                    f"{smaller:.2f}", f"{row.seconds / 60:.1f}", row.note,
                ]
            )  # fmt: skip
    for name, found in ratios.items():
        if len(found) == len(TASKS) and name != BASE:
            mean = statistics.geometric_mean(found)
            rows.append(["geometric mean of five", name, "-", "-", f"{mean:.3f}", "-", "-", ""])
    held = ""
    if set(ALL) <= {result.task for result in results}:
        from compile_tasks.goals import goals

        held = "\n".join(goals(results))
    asked: dict[str, list[str]] = {}
    for one in results:
        said = "; ".join(f"*{name}* {text}" for name, text in one.budgets.items())
        asked.setdefault(said, []).append(one.task)
    budgets = ". ".join(f"{', '.join(tasks)}: {said}" for said, tasks in asked.items())
    runs = "; ".join(f"{one.task} {one.date}, load {one.load:g} on {one.processors}" for one in results)
    report.write(
        "compile",
        "The compiler against its peers",
        f"Five tasks and `{UNEVEN.name}`, a net on which default PTQ collapses. Each model is judged on the task's "
        "reference: accuracy, or for MiniLM the mean cosine of sentence embeddings to the source's. *Latency*: the "
        "median of an item's processor time on one thread, relative to the source's ONNX on onnxruntime in fp32; all "
        "models of a task "
        "take turns in one run, round by round, through the runtimes that the agent serves with. *Times smaller*: the "
        "file against the source's ONNX.\n\n"
        f"Budgets: {budgets}. What is chosen is chosen unattended; where "
        "nothing meets the budget it is the nearest, and the last column says what it lacks.\n\n"
        "Each task was a run of its own on a machine that others used as well (load: processes that wanted a "
        "processor), and minutes are of such a machine; a model that was made anew was timed again beside all "
        f"others of its task: {runs}. Compare models within a task only. {platform.processor() or platform.machine()}."
        + (f"\n\n## Goals\n\n{held}\n\n{GAPS}\n\n## Rows" if held else ""),
        ["task", "model", "metric", "points", "latency", "times smaller", "minutes", "chosen"],
        rows,
    )
