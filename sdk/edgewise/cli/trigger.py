"""``edgewise trigger``: on drift, train and roll out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgewise.cli import parse, plan
from edgewise.cli.model import ConfigOption
from edgewise.cli.output import Json, ago, say, show_json, show_table
from edgewise.cli.session import hub

app = typer.Typer(name="trigger", help="Triggers: on drift, train and roll out.", no_args_is_help=True)


@app.command("create")
def create(
    context: typer.Context,
    model: str,
    min_samples: Annotated[int, typer.Option(min=1, help="Labelled samples of the group that it takes.")] = 200,
    any_drift: Annotated[bool, typer.Option("--any-drift", help="Also on drift not estimated to harm.")] = False,
    profile: Annotated[list[str] | None, typer.Option(help="Compile for this device profile; repeat.")] = None,
    config: ConfigOption = None,
    config_file: Annotated[Path | None, typer.Option(help="A JSON object that --config adds to.")] = None,
    rollout: Annotated[bool, typer.Option(help="Roll the new version out.")] = True,
    group: Annotated[str | None, typer.Option(help="Roll out to this group; else every device.")] = None,
    stage: plan.Stages = None,
    max_install_failures: plan.MaxInstallFailures = 0.0,
    max_errors: plan.MaxErrors = "0.01",
    max_latency_ratio: plan.MaxLatencyRatio = "2",
    max_mix_distance: plan.MaxMixDistance = "0.1",
    min_inferences: plan.MinInferences = 200,
    deadline: plan.Deadline = "1h",
    soak: plan.Soak = "0",
    json: Json = False,
) -> None:
    """Make a trigger; it fires once for each alert."""
    values = parse.config(config or [], config_file)
    if any_drift:
        values["any_drift"] = True
    gates = plan.gates(
        max_install_failures=max_install_failures,
        max_errors=max_errors,
        max_latency_ratio=max_latency_ratio,
        max_mix_distance=max_mix_distance,
        min_inferences=min_inferences,
        deadline=deadline,
        soak=soak,
    )
    with hub(context) as client:
        made = client.triggers.create(
            model,
            min_samples=min_samples,
            config=values,
            profiles=profile or [],
            rollout=plan.rollout_plan(group, stage, gates) if rollout else None,
        )
    return show_json(made) if json else say(f"trigger {made.id} watches {made.model}")


@app.command("list")
def list_triggers(context: typer.Context, json: Json = False) -> None:
    """List triggers."""
    with hub(context) as client:
        triggers = client.triggers.list()
    if json:
        return show_json(triggers)
    return show_table(
        ["TRIGGER", "MODEL", "ON", "STRATEGY", "SAMPLES#", "ENABLED", "FIRED"],
        [
            (t.id, t.model, t.on, t.strategy, t.min_samples, "yes" if t.enabled else "no", ago(t.fired_at))
            for t in triggers
        ],
        empty="No triggers.",
    )


@app.command("delete")
def delete(context: typer.Context, trigger: str, json: Json = False) -> None:
    """Delete a trigger."""
    with hub(context) as client:
        client.triggers.delete(trigger)
    return show_json({"deleted": trigger}) if json else say(f"trigger {trigger} is deleted")
