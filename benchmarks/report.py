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


def write(name: str, title: str, explanation: str, columns: list[str], rows: list[list[Any]]) -> None:
    """docs/benchmarks/NAME.json and NAME.md, and the table on standard output."""
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    PLACE.mkdir(parents=True, exist_ok=True)
    document = {"name": name, "title": title, "machine": machine, "columns": columns, "rows": rows}
    (PLACE / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(_text(value) for value in row)} |" for row in rows]
    table = "\n".join(lines)
    (PLACE / f"{name}.md").write_text(
        f"# {title}\n\n{explanation}\n\n{table}\n\n{machine}. Made by `scripts/bench {name}`.\n"
    )
    print(table)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
