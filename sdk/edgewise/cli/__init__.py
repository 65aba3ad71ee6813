"""The ``edgewise`` command.

Rules that hold here:
- what a command has to say goes to stdout, and with ``--json`` it is one JSON document and nothing else (one line a
  change where something is watched); progress and errors go to stderr;
- an error is one line; exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 a rollout that was stopped, an
  experiment whose candidate did not win, a training run that was rejected or a budget that is not met, 130 interrupted;
- no secret is taken from the command line: a token comes from a file or from ``EDGEWISE_TOKEN``;
- other distributions add subcommands by the entry point group ``edgewise.commands`` (a Typer application each), which
  are imported only when they are asked for.
"""

from __future__ import annotations

import sys

from edgewise.errors import EdgewiseError


def main() -> None:
    """The console script."""
    try:
        from edgewise.cli.app import build
        from edgewise.cli.output import fail
    except ModuleNotFoundError as error:
        sys.exit(f"edgewise: the command needs {error.name}: pip install 'edgewise[client]'")
    arguments = sys.argv[1:]
    try:
        build(arguments)(args=arguments, prog_name="edgewise")
    except EdgewiseError as error:
        sys.exit(fail(str(error)))
    except KeyboardInterrupt:
        sys.exit(130)
