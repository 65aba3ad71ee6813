"""``edgewise profile``: the device profiles on this machine. No hub is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgewise.cli.output import Json, show_json, show_table
from edgewise.profile import load_all

app = typer.Typer(name="profile", help="Device profiles.", no_args_is_help=True)


@app.callback()
def _profiles() -> None:
    """Device profiles: the built-in ones, EDGEWISE_PROFILES and --profiles."""


@app.command("list")
def list_profiles(
    profiles: Annotated[list[Path] | None, typer.Option(help="A folder of profiles to add; repeat.")] = None,
    json: Json = False,
) -> None:
    """List device profiles: the built-in ones, those of EDGEWISE_PROFILES and of --profiles."""
    found = load_all(profiles or [])
    if json:
        return show_json(list(found.values()))
    return show_table(
        ["PROFILE", "TITLE", "ARCHITECTURE", "RUNTIME", "INT8 SCHEMES"],
        [(p.name, p.title, p.architecture, p.runtime, ", ".join(p.quantization.schemes)) for p in found.values()],
        empty="No device profiles.",
    )
