"""``edgewise-agent``: its subcommands are in ``commands``. Errors are one line on stderr: exit 1, or 2 for usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edgewise.errors import EdgewiseError
from edgewise_agent import __version__
from edgewise_agent.commands import consent, doctor, enroll, infer, logs, models, run, status, unit
from edgewise_agent.commands.parts import DATA_VARIABLE, UsageError, default_data

COMMANDS = (enroll, run, status, models, infer, logs, doctor, unit, consent)


def main(argv: Sequence[str] | None = None) -> None:
    """The ``edgewise-agent`` command."""
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except EdgewiseError as error:
        print(f"edgewise-agent: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = argparse.ArgumentParser(prog="edgewise-agent", description="What runs on a device.")
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    default = default_data()

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        sub.add_argument(
            "--data", type=Path, default=default, required=default is None, help=f"data folder (or {DATA_VARIABLE})"
        )
        return sub

    for module in COMMANDS:
        module.add(command)
    return whole


if __name__ == "__main__":
    main()
