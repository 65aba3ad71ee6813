"""``edgewise hub ...``: run the hub, let devices join, open the console. Errors are one line (``edgewise.cli``)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgewise.cli import parse
from edgewise.cli.output import Json, clean, say, show_json
from edgewise.cli.session import hub as connected

if TYPE_CHECKING:
    from edgewise_hub.main import Ready

app = typer.Typer(name="hub", help="The hub: registry, rollouts, monitoring, learning.", no_args_is_help=True)


@app.command("up")
def up(
    data: Annotated[Path | None, typer.Option(help="Its folder; else EDGEWISE_DATA, else .edgewise here.")] = None,
    host: Annotated[str | None, typer.Option(help="Loopback only, until TLS is configured.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.")] = None,
    broker_port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one, and keeps it.")] = None,
    profiles: Annotated[list[Path] | None, typer.Option(help="A folder of device profiles; may be repeated.")] = None,
    window_seconds: Annotated[float | None, typer.Option(help="How long a window is, in seconds.")] = None,
    trial_seconds: Annotated[float | None, typer.Option(help="How long an install is on trial, in seconds.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more, to stderr.")] = False,
    json: Json = False,
) -> None:
    """Run the hub in the foreground, with a broker of its own unless EDGEWISE_BROKER_URL names one."""
    # Imported here: `hub token` and `hub open` need a client only, and shall answer at once.
    from edgewise_hub.main import serve
    from edgewise_hub.settings import Settings

    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    settings = Settings.from_environment(
        data=data,
        host=host,
        port=port,
        broker_port=broker_port,
        profiles=tuple(profiles) if profiles else None,
        window_s=window_seconds,
        trial_s=trial_seconds,
    )
    serve(settings, lambda ready: _show(ready, json))


def _show(ready: Ready, json: bool) -> None:
    if json:
        event = {"event": "ready", "url": ready.url, "data": str(ready.data.absolute())}
        show_json(event if ready.token is None else {**event, "operator_token": ready.token})
        return
    say(f"The hub answers at {ready.url}; its folder is {ready.data}.")
    if ready.token is not None:
        say(f"Operator token (shown this once, kept in {ready.data / 'operator.token'}):\n  {ready.token}")
    say("Open the console with 'edgewise hub open'; stop with Ctrl-C.")


@app.command("token")
def token(
    context: typer.Context,
    group: Annotated[list[str] | None, typer.Option(help="A group that the devices join; may be repeated.")] = None,
    uses: Annotated[int, typer.Option(min=1, help="How many devices may join.")] = 1,
    expires_in: Annotated[
        str, typer.Option(metavar="TIME", help="How long it holds: 10min, 2h, 1d, or seconds.")
    ] = "1h",
    json: Json = False,
) -> None:
    """Make a join token, with which devices enroll; it is shown this once."""
    with connected(context) as client:
        made = client.tokens.create(group or [], uses, parse.seconds(expires_in))
    if json:
        return show_json(made)
    return typer.echo(made.token)


@app.command("open")
def open_console(context: typer.Context, json: Json = False) -> None:
    """Print the console's address and a one-time code to sign in with."""
    with connected(context) as client:
        made = client.sign_in_code()
        url = client.url
    if json:
        return show_json({"url": url, "code": made.code, "expires_in": made.expires_in})
    return say(f"Open {clean(url)} and type {clean(made.code)} (holds {made.expires_in / 60:.0f} minutes, works once).")
