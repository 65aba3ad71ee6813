"""``edgewise rollout``: from one version to another, in stages, under gates."""

from __future__ import annotations

from typing import Annotated

import typer

from edgewise.cli import parse, plan
from edgewise.cli.output import Json, Limit, ago, show_json, show_table
from edgewise.cli.session import hub
from edgewise.cli.watch import show, watch
from edgewise.resources import RolloutDetail

app = typer.Typer(name="rollout", help="Rollouts, by canary.", no_args_is_help=True)

Timeout = Annotated[float | None, typer.Option(help="Give up watching after so many seconds.")]


@app.command("create")
def create(
    context: typer.Context,
    version: Annotated[str, typer.Argument(metavar="MODEL:VERSION")],
    group: Annotated[str | None, typer.Option(help="Only this group; else every device.")] = None,
    stage: plan.Stages = None,
    max_install_failures: plan.MaxInstallFailures = 0.0,
    max_errors: plan.MaxErrors = "0.01",
    max_latency_ratio: plan.MaxLatencyRatio = "2",
    max_mix_distance: plan.MaxMixDistance = "0.1",
    min_inferences: plan.MinInferences = 200,
    deadline: plan.Deadline = "1h",
    soak: plan.Soak = "0",
    follow: Annotated[bool, typer.Option("--watch", help="Watch it until it has ended.")] = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Roll a version out."""
    model, number = parse.exact_version(version)
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
        rollout = client.rollouts.create(model, number, group=group, stages=plan.stages(stage), gates=gates)
        if follow:
            return watch(client, rollout.id, json=json, timeout=timeout)
    return _present(rollout, json)


@app.command("list")
def list_rollouts(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    state: Annotated[str | None, typer.Option(help="running, paused, completed, rolled-back, aborted.")] = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """List rollouts."""
    with hub(context) as client:
        rollouts = client.rollouts.list(model=model, state=state, limit=limit)
    if json:
        return show_json(rollouts)
    return show_table(
        ["ROLLOUT", "MODEL", "TO", "GROUP", "STATE", "STAGE", "DONE#", "STARTED"],
        [
            (
                r.id, r.model, f"v{r.to_version}", r.group or "all", r.state,
                f"{r.stage + 1}/{len(r.stages)}", f"{r.devices_confirmed}/{r.devices_total}", ago(r.created_at),
            )
            for r in rollouts
        ],
        empty="No rollouts here: 'edgewise rollout create MODEL:VERSION' starts one.",
    )  # fmt: skip


@app.command("show")
def show_rollout(context: typer.Context, rollout: str, json: Json = False) -> None:
    """Show one rollout: its stages, its gates with their evidence, its devices and decisions."""
    with hub(context) as client:
        found = client.rollouts.get(rollout)
    if json:
        return show_json(found)
    show(found)
    show_table(
        ["DEVICE", "STAGE#", "STATE", "WHY"],
        [(d.device, d.stage + 1, d.state, d.reason) for d in sorted(found.devices, key=lambda d: (d.stage, d.draw))],
        empty="No devices in it.",
    )
    return show_table(
        ["DECIDED", "STAGE#", "DECISION", "WHY"],
        [(ago(e.at), e.stage + 1, e.decision, e.reason) for e in found.events],
        empty="Nothing decided yet.",
    )


@app.command("watch")
def watch_rollout(
    context: typer.Context,
    rollout: str,
    until_done: Annotated[bool, typer.Option("--until-done/--once", help="Until it has ended, or one look.")] = True,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Watch a rollout; exits 0 when it completed, 3 when it was stopped. With --json one line a change."""
    with hub(context) as client:
        if until_done:
            return watch(client, rollout, json=json, timeout=timeout)
        found = client.rollouts.get(rollout)
    return _present(found, json)


@app.command("pause")
def pause(context: typer.Context, rollout: str, json: Json = False) -> None:
    """Take no further device until resumed."""
    with hub(context) as client:
        _present(client.rollouts.pause(rollout), json)


@app.command("resume")
def resume(context: typer.Context, rollout: str, json: Json = False) -> None:
    """Go on after a pause."""
    with hub(context) as client:
        _present(client.rollouts.resume(rollout), json)


@app.command("abort")
def abort(context: typer.Context, rollout: str, json: Json = False) -> None:
    """End it, and take its devices back to the version before."""
    with hub(context) as client:
        _present(client.rollouts.abort(rollout), json)


def _present(rollout: RolloutDetail, json: bool) -> None:
    if json:
        show_json(rollout)
    else:
        show(rollout)
