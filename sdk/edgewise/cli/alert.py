"""``edgewise alert``: alerts, with their cause."""

from __future__ import annotations

from typing import Annotated

import typer

from edgewise.cli.output import Json, Limit, ago, say, show_json, show_table
from edgewise.cli.session import hub

app = typer.Typer(name="alert", help="Alerts.", no_args_is_help=True)


@app.command("list")
def list_alerts(
    context: typer.Context,
    still_open: Annotated[bool, typer.Option("--open", help="Only those that are open.")] = False,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """List alerts."""
    with hub(context) as client:
        alerts = client.alerts.list(open=True if still_open else None, limit=limit)
    if json:
        return show_json(alerts)
    show_table(
        ["ALERT", "KIND", "MODEL", "GROUP", "STATE", "SINCE"],
        [
            (a.id, a.kind, a.model, a.group, "open" if a.closed_at is None else "closed", ago(a.opened_at))
            for a in alerts
        ],
        empty="No alerts.",
    )
    for found in alerts:
        say(f"{found.id}: {found.summary}")
        if found.calibration is not None:
            say(f"  calibrated on version {found.calibration.version}: {found.calibration.words[0]}")
    return None
