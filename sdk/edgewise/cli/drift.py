"""``edgewise drift``: what the hub judges of each group's windows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgewise.cli import parse
from edgewise.cli.output import Json, ago, progress, say, share, show_json, show_table
from edgewise.cli.session import hub
from edgewise.resources import DriftGroup, Judgement

app = typer.Typer(name="drift", help="Drift, group by group.", no_args_is_help=True)

COLUMNS = ["GROUP", "VERDICT", "P#", "ALPHA#", "EFFECT#", "ITEMS#", "EST. ACCURACY", "WAS#"]


@app.command("show")
def show_drift(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    group: Annotated[str | None, typer.Option(help="Only this group.")] = None,
    history: Annotated[int, typer.Option(min=0, max=1000, help="So many earlier judgements of each group.")] = 0,
    json: Json = False,
) -> None:
    """Show each group's verdict: how sure, how large, and what it does to accuracy."""
    with hub(context) as client:
        groups = client.drift.show(model, group, history)
    if json:
        return show_json(groups)
    for name in dict.fromkeys(found.model for found in groups):
        of_model = [found for found in groups if found.model == name]
        show_table(COLUMNS, [_row(found.group, found.current) for found in of_model], empty="", title=name)
        for found in of_model:
            if found.current is not None:
                say(f"{found.group}: {found.current.words}")
                for line in _changes(found.current):
                    say(f"  {line}")
            _show_history(found)
    if not groups:
        say("Nothing judged yet: devices report a window at a time.")
    return None


@app.command("calibrate")
def calibrate_alarms(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]", help="The newest compiled version without one.")],
    per_day: Annotated[
        int | None, typer.Option(min=1, help="Items a day of one device; as lately without.", show_default=False)
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write the page with plots to this file.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Give up waiting after so many seconds.")] = None,
    json: Json = False,
) -> None:
    """Measure on the model's own reference how often drift alarms are false, and which shifts they see."""
    name, version = parse.model_version(model)
    with hub(context) as client:
        job = client.drift.calibrate(name, version, per_day)
        with progress(f"calibrate {name}", quiet=json) as advance:
            client.jobs.wait(job.id, lambda now: advance(now.progress, now.progress_text), timeout=timeout)
        found = client.drift.calibration(job.id)
        if page is not None:
            page.write_text(client.drift.calibration_page(job.id))
    if json:
        return show_json(found)
    for bundle in found.bundles:
        say(f"{found.model}:{found.version} on {bundle.profile}")
        for line in [bundle.error] if bundle.error else bundle.words:
            say(f"  {line}")
    return None


def _show_history(found: DriftGroup) -> None:
    if found.history:
        rows = [_row(ago(judgement.at), judgement) for judgement in found.history]
        show_table(["AT", *COLUMNS[1:]], rows, empty="", title=f"{found.group}, earlier")


def _changes(judgement: Judgement) -> list[str]:
    """What else there is to say of it: since when, which devices, what changed."""
    lines = []
    if judgement.watch is not None:
        spans = "the last span" if judgement.watch.horizon == 1 else f"the last {judgement.watch.horizon} spans"
        lines.append(
            f"over time: looked back over {spans}, about {judgement.watch.n:,.0f} inferences: "
            f"{judgement.watch.score:.1f}, an alarm at {judgement.watch.limit:.1f}"
        )
    if judgement.since is not None:
        lines.append(f"since {ago(judgement.since.at)} (between {ago(judgement.since.earliest)} and now)")
    named = [device.device for device in judgement.devices if device.named]
    if named:
        lines.append(f"devices that differ: {', '.join(named[:8])}{' ...' if len(named) > 8 else ''}")
    for changed in judgement.changed[:3]:
        now, before = share(changed.share), share(changed.reference)
        lines.append(f"class {changed.index} is predicted for {now}, before for {before}")
    for cluster in judgement.clusters[:2]:
        of = ", ".join(f"class {kind} {100 * part:.0f}%" for kind, part in cluster.classes) or "nothing before"
        now, before = share(cluster.share), share(cluster.reference)
        lines.append(f"inputs near the reference's {of}: {now}, before {before}")
    lines += [
        f"column {column.name} changed (size {column.size:.2f})" for column in judgement.columns[:5] if column.named
    ]
    if judgement.verdict not in ("wait", "quiet") and judgement.false_alert_rate:
        lines.append(f"a false alert comes at most once in {1 / judgement.false_alert_rate:,.0f} judgements")
    return lines


def _row(label: str, judgement: Judgement | None) -> tuple[object, ...]:
    if judgement is None:
        return (label, "wait", "-", "-", "-", "-", "-", "-")
    estimated = share(judgement.estimated_accuracy)
    if judgement.estimated_low is not None and judgement.estimated_high is not None:
        estimated += f" ({100 * judgement.estimated_low:.0f}-{100 * judgement.estimated_high:.0f})"
    return (
        label,
        judgement.verdict,
        f"{judgement.p_value:.2g}",
        f"{judgement.alpha:.2g}",
        f"{judgement.effect:.2f} ({judgement.effect_low:.2f}-{judgement.effect_high:.2f})",
        judgement.n,
        estimated,
        share(judgement.reference_accuracy),
    )
