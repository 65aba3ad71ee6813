"""The tree of subcommands: the built-in ones, and those that installed distributions add."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated

import typer

import edgewise
from edgewise.cli import (
    accuracy,
    agent,
    alert,
    compile,
    device,
    drift,
    experiment,
    model,
    profile,
    rollout,
    sample,
    training,
    trigger,
)
from edgewise.cli.session import Session
from edgewise.errors import EdgewiseError

ENTRY_POINTS = "edgewise.commands"
ELSEWHERE = {"hub": "edgewise-hub"}
"""Subcommands that a user expects, and the distribution that brings each."""
VALUED = frozenset({"--url", "--token-file"})
"""Global options that take a value."""


def build(arguments: Sequence[str]) -> typer.Typer:
    """The application for one command line. Raises EdgewiseError when an added subcommand cannot be loaded."""
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
    app.callback()(_root)
    for part in (device, agent, model, rollout, experiment, drift, accuracy, alert, sample, training, trigger, profile):
        app.add_typer(part.app)
    app.command("compile")(compile.compile_version)
    wanted = subcommand(arguments)
    added = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    for name in sorted(added.keys() | ELSEWHERE.keys()):
        if name not in added:
            _add_missing(app, name)
        elif name == wanted:
            app.add_typer(_load(added[name]), name=name)
        else:
            # Only named for --help: importing it would slow every other command down.
            app.add_typer(typer.Typer(help=f"Added by {_distribution(added[name])}."), name=name)
    return app


def subcommand(arguments: Sequence[str]) -> str | None:
    """The subcommand that a command line names: pure."""
    rest = iter(arguments)
    for argument in rest:
        if argument in VALUED:
            next(rest, None)
        elif not argument.startswith("-"):
            return argument
    return None


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(edgewise.__version__)
        raise typer.Exit


def _root(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="The hub's URL; else EDGEWISE_URL, else the hub of this folder.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token; else EDGEWISE_TOKEN, else the hub of this folder's.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """One model in, the whole fleet out."""
    context.obj = Session(url, token_file)


def _load(point: EntryPoint) -> typer.Typer:
    try:
        loaded = point.load()
    except (ImportError, AttributeError) as error:
        raise EdgewiseError(
            f"{point.name}: {_distribution(point)} is installed, but cannot be loaded: {error}; install it again",
            code="bad-command",
        ) from error
    if not isinstance(loaded, typer.Typer):
        raise EdgewiseError(
            f"{point.name}: expected a Typer application at {point.value}, got {type(loaded).__name__}",
            code="bad-command",
        )
    return loaded


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _add_missing(app: typer.Typer, name: str) -> None:
    distribution = ELSEWHERE[name]

    def missing() -> None:
        raise EdgewiseError(f"{name}: not installed here: pip install {distribution}", code="not-installed")

    app.command(
        name,
        help=f"Needs {distribution}, which is not installed here.",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(missing)
