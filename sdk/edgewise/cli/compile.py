"""``edgewise compile``: one version for several device profiles in one request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgewise.cli import parse
from edgewise.cli.model import show_bundles
from edgewise.cli.output import Json, progress, say, show_json
from edgewise.cli.session import hub
from edgewise.client import Client
from edgewise.errors import EdgewiseError, ProfileError
from edgewise.profile import load_all


def compile_version(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]", help="Without a version the latest.")],
    profile: Annotated[list[str] | None, typer.Option(help="A device profile; repeat.")] = None,
    profiles: Annotated[
        Path | None,
        typer.Option(help="A folder of profiles: checked here; without --profile all of it. The hub must have it too."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is done.")] = True,
    timeout: Annotated[float | None, typer.Option(help="Give up waiting after so many seconds.")] = None,
    json: Json = False,
) -> None:
    """Compile a version for device profiles; shows what was measured."""
    name, number = parse.model_version(model)
    wanted = _wanted(profile or [], profiles)
    with hub(context) as client:
        _refuse_unknown(client, wanted)
        version = _latest(client, name) if number is None else number
        job = client.compile(name, version, wanted)
        if not wait:
            return show_json({"job": job, "bundles": []}) if json else say(f"compile job {job.id} is queued")
        with progress(f"compile {name}:{version}", quiet=json) as advance:
            job = client.jobs.wait(job.id, lambda now: advance(now.progress, now.progress_text), timeout=timeout)
        bundles = [bundle for bundle in client.models.version(name, version).bundles if bundle.profile in wanted]
    return show_json({"job": job, "bundles": bundles}) if json else show_bundles(bundles)


def _wanted(names: list[str], folder: Path | None) -> list[str]:
    """Profiles by name, each once. Raises ProfileError for a folder's file that is wrong, or an unknown name."""
    if folder is None:
        if not names:
            raise typer.BadParameter("expected --profile NAME (repeat it), or --profiles FOLDER")
        return list(dict.fromkeys(names))
    known = load_all([folder])
    if not names:
        names = sorted(path.stem for path in folder.glob("*.toml"))
        if not names:
            raise ProfileError(f"{folder}: expected device profiles (*.toml), got none")
    for name in names:
        if name not in known:
            raise ProfileError(f"unknown device profile {name!r}: expected one of {', '.join(sorted(known))}")
    return list(dict.fromkeys(names))


def _refuse_unknown(client: Client, wanted: list[str]) -> None:
    known = {profile.name for profile in client.profiles.list()}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ProfileError(
            f"unknown device profile {', '.join(unknown)}: the hub knows {', '.join(sorted(known)) or 'none'}; "
            "start it with --profiles FOLDER or EDGEWISE_PROFILES to add some"
        )


def _latest(client: Client, name: str) -> int:
    latest = client.models.get(name).latest
    if latest is None:
        raise EdgewiseError(f"model {name!r}: expected a version to compile, got none; train or register one")
    return latest
