"""The goals of the compile benchmark, held against its rows: each met or missed, with the figure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from compile_tasks import ALL, TASKS, UNEVEN
from compile_tasks.page import BASE, INT8, Result, Row, compared

OURS, SMALL, PRUNED = "ours", "ours, small", "ours, pruned fp32"
SAME = 0.1
"""Points within which two models are worth the same."""
NOISE = 1.03
"""Two latencies within 3% are equal."""


def goals(results: Sequence[Result]) -> list[str]:
    """One line a goal. Needs all tasks."""
    tables = {result.task: {row.name: row for row in result.rows} for result in results}
    five = {name: table for name, table in tables.items() if name in TASKS}

    def all_of(name: str, of: Callable[[tuple[float, float, float]], float]) -> dict[str, float]:
        found = {task: compared(table[name], table[BASE]) for task, table in five.items()}
        return {task: of(values) for task, values in found.items() if values is not None}

    points, latency = all_of(OURS, lambda one: one[0]), all_of(OURS, lambda one: one[1])
    smaller, small = all_of(OURS, lambda one: one[2]), all_of(SMALL, lambda one: one[2])
    lost = {task: -value for task, value in points.items() if ALL[task].metric == "accuracy"}
    cosine = {task: 1 + value / 100 for task, value in points.items() if ALL[task].metric == "cosine"}
    mean = statistics.geometric_mean(latency.values())
    lines = [
        _line(all(value <= 0.5 for value in lost.values()), "at most 0.5 points lost", _listed(lost, "{:.2f}")),
        _line(all(value >= 0.99 for value in cosine.values()), "cosine at least 0.99", _listed(cosine, "{:.4f}")),
        _line(mean <= 0.5, "geometric mean of the latencies at most 0.50", f"{mean:.3f}"),
        _line(all(value <= NOISE for value in latency.values()), "none slower than fp32", _listed(latency, "{:.2f}")),
        _line(
            all(value >= 3.5 for value in smaller.values()), "each at least 3.5x smaller", _listed(smaller, "{:.2f}")
        ),
        _line(
            len(small) == len(TASKS)
            and all(value >= 6 for value in small.values())
            and all(value >= -1.5 for value in all_of(SMALL, lambda one: one[0]).values()),
            "the small column: each at least 6x smaller at most 1.5 points lost",
            ", ".join(
                f"{task} {small[task]:.2f} ({value:+.2f})" for task, value in all_of(SMALL, lambda one: one[0]).items()
            ),
        ),
    ]
    behind = {task: said for task, table in tables.items() if (said := _behind(table))}
    lines.append(
        _line(
            not behind,
            "never slower than the best peer that loses no more",
            "; ".join(f"{task}: {said}" for task, said in behind.items()) or "on all tasks",
        )
    )
    if (table := tables.get("resnet8")) and PRUNED in table and (found := compared(table[PRUNED], table[BASE])):
        macs = table[PRUNED].macs or 0.0
        lines.append(
            _line(
                macs >= 2.5 and found[1] <= 1 / 1.8 and found[0] >= -0.5,
                "ResNet-8 pruned: 2.5x fewer multiply-adds and 1.8x as fast at most 0.5 points lost",
                f"{macs:.2f}x fewer, {1 / found[1]:.2f}x as fast, {found[0]:+.2f} points",
            )
        )
    if (table := tables.get(UNEVEN.name)) and INT8 in table and (found := compared(table[INT8], table[BASE])):
        worst = min(points for row in table.values() if (other := compared(row, table[BASE])) for points in other[:1])
        lines.append(
            _line(
                found[0] >= -1,
                "the net on which default PTQ collapses is back to 1 point in int8",
                f"{found[0]:+.2f} (the worst of all: {worst:+.2f})",
            )
        )
    return lines


def _behind(table: dict[str, Row]) -> str:
    """The fastest peer that loses no more than ours, where it is faster; empty where none is."""
    ours, base = compared(table[OURS], table[BASE]), table[BASE]
    if ours is None:
        return "nothing was made"
    peers = {row.name: compared(row, base) for row in table.values() if not row.name.startswith(OURS)}
    equal = {name: found[1] for name, found in peers.items() if found is not None and found[0] >= ours[0] - SAME}
    if not equal:
        return ""
    fastest = min(equal, key=lambda name: equal[name])
    return "" if ours[1] <= NOISE * equal[fastest] else f"{fastest} {equal[fastest]:.2f}, ours {ours[1]:.2f}"


def _line(met: bool, what: str, figure: str) -> str:
    return f"- **{'met' if met else 'missed'}**: {what}: {figure}"


def _listed(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{task} {form.format(value)}" for task, value in values.items())
