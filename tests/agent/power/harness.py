"""Records a scenario, cuts the power at every operation, boots what is left, and holds it to the promises."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from power.filesystem import cuts, tree_after
from power.recording import recording, unsynced

from edgewise_agent.store.disk import Disk


class Scenario(Protocol):
    """One stretch of a device's life. ``outside``: names that need not survive, and are not written through Disk."""

    name: str
    outside: tuple[str, ...]

    def prepare(self, folder: Path) -> None:
        """What is there, and durable, when it begins."""

    def run(self, folder: Path, disk: Disk, note: Callable[[Any], None]) -> None:
        """The agent's own code, on ``disk``; ``note`` says what the world knows from now on."""

    def facts(self, notes: Sequence[Any]) -> Hashable:
        """Of all that was noted before the cut, what the promises depend on."""

    def check(self, folder: Path, facts: Any) -> list[str]:
        """Boot the folder; the promises that are broken."""


@dataclass
class Result:
    """Of one scenario. ``cases``: cuts; ``states``: folders of different content, or before different facts."""

    name: str
    operations: int = 0
    cases: int = 0
    states: int = 0
    broken: list[str] = field(default_factory=list)


def prove(scenario: Scenario, folder: Path, disk: Disk | None = None, step: int = 1, stop_at: int = 20) -> Result:
    """Run it once under the shim, then boot it after each cut (each ``step``-th operation)."""
    home = folder / "home"
    home.mkdir(parents=True)
    with unsynced():
        scenario.prepare(home)
    with recording(home) as record:
        scenario.run(home, disk or Disk(), record.note)
    assert record.complete(*scenario.outside) == [], "every write goes through Disk"
    result = Result(scenario.name, sum(op.kind != "note" for op in record.ops))
    seen: set[Hashable] = set()
    for cut in cuts(record.ops, step):
        result.cases += 1
        tree = tree_after(record.start, record.ops, cut)
        facts = scenario.facts([op.fact for op in record.ops[: cut.after] if op.kind == "note"])
        key = (tree.digest(), facts)
        if key in seen:
            continue
        seen.add(key)
        result.states += 1
        place = folder / "cut"
        tree.write_to(place)
        try:
            with unsynced():
                broken = scenario.check(place, facts)
        except Exception as error:  # the boot itself must never fail
            broken = [f"it does not boot: {type(error).__name__}: {error}"]
        result.broken += [f"{scenario.name}: {cut}: {what}" for what in broken]
        shutil.rmtree(place)
        if len(result.broken) >= stop_at:
            break
    return result
