"""A rollout as a rail of stages with its gates: live on a terminal, one line a change elsewhere.

``picture`` and ``headline`` are pure: a rollout and the time in, text out.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import nullcontext

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edgewise.cli.output import clean, duration, say, show_json, stdout, word
from edgewise.client import Client
from edgewise.resources import RolloutDetail

STOPPED = 3
"""Exit code of a rollout that was rolled back or aborted."""

REFRESHES = 4
"""Times a second that the live picture is drawn."""


def watch(client: Client, rollout_id: str, *, json: bool, timeout: float | None = None) -> None:
    """Follow a rollout to its end, and say why it ended so. Raises typer.Exit(3) unless it completed."""
    console = stdout()
    live = Live(console=console, refresh_per_second=REFRESHES) if console.is_terminal and not json else None
    said = ""

    def heard(rollout: RolloutDetail) -> None:
        nonlocal said
        if json:
            show_json(rollout)
        elif live is not None:
            live.update(picture(rollout, time.time()))
        elif (line := headline(rollout)) != said:
            said = line
            say(line)

    with live or nullcontext():
        rollout = client.rollouts.wait(rollout_id, heard, timeout=timeout)
    if not json:
        say(f"{rollout.state}: {rollout.reason}")
    if rollout.state != "completed":
        raise typer.Exit(STOPPED)


def show(rollout: RolloutDetail) -> None:
    """One look."""
    stdout().print(picture(rollout, time.time()))


def headline(rollout: RolloutDetail) -> str:
    """One line: where it is, how many devices, and what it waits for. Evidence that merely grows does not change it."""
    total = len(rollout.stages)
    stage = rollout.stages[rollout.stage] if rollout.stage < total else None
    where = f"stage {rollout.stage + 1} of {total} ({stage.title})" if stage else f"{total} stages"
    failing = [reading.words for reading in rollout.gates if reading.state == "fail"]
    waiting = [reading.gate for reading in rollout.gates if reading.state == "wait"]
    parts = [rollout.state, where, f"{rollout.devices_confirmed} of {rollout.devices_total} devices confirmed"]
    if failing:
        parts.append("; ".join(failing))
    elif waiting and not rollout.ended:
        parts.append(f"waits for {', '.join(waiting)}")
    return clean(", ".join(parts))


def picture(rollout: RolloutDetail, now: float) -> RenderableType:
    """The rail, the gates with their evidence, the devices by state, and the reason."""
    before = f"v{rollout.from_version}" if rollout.from_version is not None else "nothing"
    head = Text.assemble(
        (f"{rollout.model} {before} to v{rollout.to_version}", "bold"),
        f", {rollout.group or 'every device'}, rollout {rollout.id}: ",
        word(rollout.state),
    )
    parts: list[RenderableType] = [head, _rail(rollout)]
    if rollout.gates:
        parts.append(_gates(rollout))
    states = Counter(device.state for device in rollout.devices)
    if states:
        counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
        parts.append(Text(f"devices: {counts}"))
    if rollout.deadline_at is not None and rollout.state == "running":
        parts.append(Text(f"this stage's deadline is in {duration(rollout.deadline_at - now)}"))
    if rollout.reason:
        parts.append(Text(clean(rollout.reason)))
    return Group(*parts)


def _rail(rollout: RolloutDetail) -> Text:
    rail = Text()
    for stage in rollout.stages:
        if stage.index:
            rail.append("  >  ")
        rail.append(f"{clean(stage.title)} ({stage.devices}) ")
        rail.append_text(word(stage.state))
    return rail


def _gates(rollout: RolloutDetail) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for reading in rollout.gates:
        table.add_row(word(reading.state), reading.gate, Text(clean(reading.words)))
    return table
