"""What every benchmark shares: interleaved rounds of CPU time, and one JSON and one table written from one dict."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parent.parent / "docs" / "benchmarks"


def interleave(cases: dict[str, Callable[[], None]], *, rounds: int, repeat: int) -> dict[str, float]:
    """Median CPU seconds of one call: in each of ``rounds``, every case runs ``repeat`` times, one after another."""
    for call in cases.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            start = time.process_time()
            for _ in range(repeat):
                call()
            taken[name].append((time.process_time() - start) / repeat)
    return {name: statistics.median(values) for name, values in taken.items()}


Table = tuple[list[str], list[list[Any]]]
"""Columns and rows."""


def write(
    name: str,
    title: str,
    explanation: str,
    columns: list[str],
    rows: list[list[Any]],
    further: dict[str, Table] | None = None,
) -> None:
    """docs/benchmarks/NAME.json and NAME.md, and the first table on standard output. ``further``: tables by heading."""
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    PLACE.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"name": name, "title": title, "machine": machine, "columns": columns, "rows": rows}
    parts = [f"# {title}", explanation, markdown(columns, rows)]
    if further:
        document["tables"] = [{"title": each, "columns": of, "rows": them} for each, (of, them) in further.items()]
        parts += [text for each, table in further.items() for text in (f"## {each}", markdown(*table))]
    (PLACE / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (PLACE / f"{name}.md").write_text("\n\n".join([*parts, f"{machine}. Made by `scripts/bench {name}`."]) + "\n")
    print(parts[2])


def markdown(columns: list[str], rows: list[list[Any]]) -> str:
    """A table; numbers with three digits."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(_text(value) for value in row)} |" for row in rows)])


def _text(value: Any) -> str:
    if isinstance(value, float) and abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
