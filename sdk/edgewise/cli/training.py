"""``edgewise training``: training runs, champion against challenger."""

from __future__ import annotations

from typing import Annotated

import typer

from edgewise.cli.output import Json, Limit, ago, progress, say, share, show_fields, show_json, show_table
from edgewise.cli.session import hub
from edgewise.client import Client
from edgewise.resources import TrainingRun

app = typer.Typer(name="training", help="Training runs.", no_args_is_help=True)

REJECTED = 3
"""Exit code of a run whose challenger did not win."""


@app.command("list")
def list_runs(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """List training runs."""
    with hub(context) as client:
        runs = client.training.list(model=model, limit=limit)
    if json:
        return show_json(runs)
    return show_table(
        ["RUN", "MODEL", "STRATEGY", "STATE", "VERSION#", "STARTED", "WHY"],
        [(r.id, r.model, r.strategy, r.state, r.version, ago(r.created_at), r.reason) for r in runs],
        empty="No training runs here: 'edgewise model train' starts one.",
    )


@app.command("show")
def show_run(context: typer.Context, run: str, json: Json = False) -> None:
    """Show one training run."""
    with hub(context) as client:
        found = client.training.get(run)
    return show_json(found) if json else show(found)


@app.command("watch")
def watch_run(
    context: typer.Context,
    run: str,
    timeout: Annotated[float | None, typer.Option(help="Give up after so many seconds.")] = None,
    json: Json = False,
) -> None:
    """Watch a training run until it has ended; with --json one line a change. Exits 3 when it was rejected."""
    with hub(context) as client:
        finish(client, run, json=json, every_change=True, timeout=timeout)


def finish(
    client: Client, run_id: str, *, json: bool, every_change: bool = False, timeout: float | None = None
) -> None:
    """Wait for a run and show it; with ``json`` the end, or ``every_change``. Raises JobError, typer.Exit(3)."""
    with progress("training", quiet=json) as advance:

        def heard(run: TrainingRun) -> None:
            if json and every_change:
                show_json(run)
            if run.job is not None:
                advance(1.0 if run.ended else run.job.progress, run.job.progress_text)

        run = client.training.wait(run_id, heard, timeout=timeout)
    if json and not every_change:
        show_json(run)
    if not json:
        show(run)
    if run.state == "rejected":
        raise typer.Exit(REJECTED)


def show(run: TrainingRun) -> None:
    """One run: what came of it, and how the challenger did."""
    show_fields(
        [
            ("training run", run.id),
            ("model", run.model),
            ("strategy", run.strategy),
            ("state", run.state),
            ("why", run.reason or "-"),
            ("parent", run.parent_version),
            ("version", run.version),
            ("trigger", run.trigger),
            ("rollout", run.rollout),
        ]
    )
    if run.comparison:
        show_table(
            ["SLICE", "ITEMS#", "CHAMPION#", "CHALLENGER#"],
            [(c.slice, c.n, share(c.champion, 2), share(c.challenger, 2)) for c in run.comparison],
            empty="",
        )
    if run.state == "accepted":
        say(f"{run.model}:{run.version} is there")
