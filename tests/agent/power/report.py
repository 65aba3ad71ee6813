"""Every cut of every scenario, counted: ``python tests/agent/power/report.py [--write]`` (into docs/reliability.md)."""

# ruff: noqa: E402

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).parents[0]),
    str(Path(__file__).parents[1]),
    str(Path(__file__).parents[1] / "update"),
]

from agent_builders import Broker, HubKey
from life import Life
from power.harness import Result, prove
from scenarios import quick
from small_hub import EnrollHub

PAGE = Path(__file__).parents[3] / "docs" / "reliability.md"
BEGIN, END = "<!-- counted by tests/agent/power/report.py -->\n", "<!-- end -->\n"


def run(folder: Path) -> list[Result]:
    """Every scenario, whole."""
    key = HubKey()
    hub, broker = EnrollHub(key), Broker(folder / "broker")
    broker.start()
    try:
        results = []
        for index, scenario in enumerate([*quick(key, hub), Life(key, broker)]):
            began = time.monotonic()
            results.append(prove(scenario, folder / str(index)))
            print(f"{scenario.name}: {results[-1].cases} cases, {time.monotonic() - began:.0f} s", file=sys.stderr)
        return results
    finally:
        broker.stop()
        hub.close()


def table(results: list[Result]) -> str:
    """Markdown."""
    total = Result("all", *(sum(getattr(r, f) for r in results) for f in ("operations", "cases", "states")))
    total.broken = [line for result in results for line in result.broken]
    lines = ["| stretch of life | system calls recorded | power cuts | different disks booted | promises broken |"]
    lines += ["|---|---|---|---|---|"]
    lines += [f"| {r.name} | {r.operations} | {r.cases} | {r.states} | {len(r.broken)} |" for r in [*results, total]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Exit 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = run(Path(folder))
    print(table(results))
    broken = [line for result in results for line in result.broken]
    print("\n".join(broken), file=sys.stderr)
    if arguments.write:
        page = PAGE.read_text()
        head, rest = page.split(BEGIN)
        PAGE.write_text(head + BEGIN + table(results) + END + rest.split(END)[1])
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
