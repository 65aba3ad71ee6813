"""``edgewise profile``: the device profiles on this machine. No hub is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgewise.cli.output import Json, show_fields, show_json, show_table
from edgewise.profile import Profile, find, load_all

app = typer.Typer(name="profile", help="Device profiles.", no_args_is_help=True)

Folders = Annotated[list[Path] | None, typer.Option("--profiles", help="A folder of profiles to add; repeat.")]


@app.command("list")
def list_profiles(profiles: Folders = None, json: Json = False) -> None:
    """List device profiles: the built-in ones, those of EDGEWISE_PROFILES and of --profiles."""
    found = load_all(profiles or [])
    if json:
        return show_json(list(found.values()))
    return show_table(
        ["PROFILE", "ARCHITECTURE", "RUNTIMES", "DTYPES"],
        [(p.name, p.architecture, " ".join(p.runtimes), " ".join(p.dtypes)) for p in found.values()],
        empty="No device profiles.",
    )


@app.command("show")
def show_profile(name: str, profiles: Folders = None, json: Json = False) -> None:
    """Show one device profile whole; a dash where it says nothing."""
    found = find(name, profiles or [])
    return show_json(found) if json else _show(found)


def _show(profile: Profile) -> None:
    hardware, limits, quantization = profile.hardware, profile.limits, profile.quantization
    show_fields(
        [
            ("profile", profile.name),
            ("title", profile.title),
            ("architecture", profile.architecture),
            ("runtimes", ", ".join(profile.runtimes)),
            ("dtypes", ", ".join(profile.dtypes)),
            ("soc", hardware.soc),
            ("cpu", hardware.cpu),
            ("cores", hardware.cores),
            ("memory", _megabytes(hardware.memory_mb)),
            ("storage", _megabytes(hardware.storage_mb)),
            ("accelerator", hardware.accelerator),
            ("int8 schemes", ", ".join(quantization.schemes) or None),
            ("per channel", "yes" if quantization.per_channel else "no"),
            ("threads for models", limits.threads),
            ("memory for models", _megabytes(limits.memory_mb)),
            ("storage for models", _megabytes(limits.storage_mb)),
        ]
    )


def _megabytes(count: int | None) -> str | None:
    """``512 MB``."""
    return None if count is None else f"{count} MB"
