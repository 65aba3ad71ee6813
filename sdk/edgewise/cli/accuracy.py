"""``edgewise accuracy``: what each group served, and how much of it was right."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from edgewise.cli import parse
from edgewise.cli.output import Json, share, show_json, show_table, size
from edgewise.cli.session import hub

app = typer.Typer(name="accuracy", help="Accuracy, from labels that came back.", no_args_is_help=True)


@app.command("show")
def show_accuracy(
    context: typer.Context,
    model: str,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only the last: 10min, 2h, 1d.")] = None,
    group: Annotated[str | None, typer.Option(help="Only this group.")] = None,
    json: Json = False,
) -> None:
    """Show served and labelled counts by group and version."""
    start = None if since is None else time.time() - parse.seconds(since)
    with hub(context) as client:
        rows = client.accuracy(model, start, group)
    if json:
        return show_json(rows)
    return show_table(
        ["GROUP", "V#", "ITEMS#", "ERRORS#", "NAN#", "LABELLED#", "ACCURACY#", "P95#", "WINDOWS"],
        [
            (
                r.group, r.version, r.inferences, r.errors, r.nonfinite_outputs, r.labelled, share(r.accuracy),
                "-" if r.latency_p95_ms is None else f"{r.latency_p95_ms:.1f} ms",
                f"{r.windows} ({size(r.window_bytes)})",
            )
            for r in rows
        ],
        empty="Nothing served in that time.",
    )  # fmt: skip
