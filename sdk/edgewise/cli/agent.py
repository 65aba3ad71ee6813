"""``edgewise agent``: releases of the agent itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgewise.cli.output import Json, say, show_json
from edgewise.cli.session import hub

app = typer.Typer(name="agent", help="The agent that runs on devices.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Subcommands by name, though there is one."""


@app.command("release")
def release(
    context: typer.Context,
    wheels: Annotated[list[Path], typer.Argument(help="The wheels of edgewise and edgewise-agent.", dir_okay=False)],
    note: Annotated[str, typer.Option(help="A line for people.")] = "",
    json: Json = False,
) -> None:
    """Register a release of the agent; a rollout brings it to devices, as with any model."""
    with hub(context) as client:
        version = client.models.register_release(wheels, note)
    if json:
        return show_json(version)
    name = f"{version.model}:{version.version}"
    return say(f"{name} is registered; next: edgewise rollout create {name} --stage 1 --stage 100%")
