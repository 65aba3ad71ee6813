"""``python -m edgewise_compiler.toolchains install NAME... | list``."""

from __future__ import annotations

import argparse
import sys

from edgewise_compiler.toolchains import environment
from edgewise_compiler.toolchains.environment import NAMES, ToolchainError


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m edgewise_compiler.toolchains", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    install = commands.add_parser("install", help="install toolchains that are not there yet")
    install.add_argument("names", nargs="+", choices=NAMES, metavar="NAME", help=" or ".join(NAMES))
    commands.add_parser("list", help="which are installed, and where")
    given = parser.parse_args(arguments)
    try:
        for name in given.names if given.command == "install" else ():
            environment.install(name, lambda _, text: print(text, file=sys.stderr, flush=True))
    except ToolchainError as error:
        print(error, file=sys.stderr)
        return 1
    for name in NAMES if given.command == "list" else ():
        print(f"{name}: {environment.find(name) or 'not installed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
