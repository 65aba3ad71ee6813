"""``edgewise-agent enroll``: ask a hub for an identity."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edgewise_agent.commands.parts import Command, UsageError
from edgewise_agent.enroll import enroll
from edgewise_agent.store.disk import Disk, read
from edgewise_agent.store.lock import lock

TOKEN_VARIABLE = "EDGEWISE_JOIN_TOKEN"
"""The join token, for ``enroll`` without ``--token-file``; never on a command line, which others may read."""


def add(command: Command) -> None:
    """Its arguments."""
    sub = command("enroll", run, "Ask a hub for an identity, with a join token.")
    sub.add_argument("--hub", required=True, help="the hub's address, such as https://hub.example:8443")
    sub.add_argument("--name", required=True, help="the device's name")
    sub.add_argument("--profile", required=True, help="the device profile, such as linux-x86-64")
    sub.add_argument("--token-file", type=Path, help=f"file with the join token (or the variable {TOKEN_VARIABLE})")


def run(arguments: argparse.Namespace) -> None:
    """Enroll, or say why not."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    if arguments.token_file is not None:
        content = read(arguments.token_file, 4096)
        if content is None:
            raise UsageError(f"{arguments.token_file}: expected a file with the join token, got none")
        token = content.decode(errors="replace")
    if not token.strip():
        raise UsageError(f"expected a join token in --token-file or in {TOKEN_VARIABLE}")
    disk = Disk()
    disk.folder(arguments.data)
    with lock(arguments.data):
        who = enroll(
            disk, arguments.data, hub=arguments.hub, token=token.strip(), name=arguments.name, profile=arguments.profile
        )
    print(f"enrolled as {who.tenant}/{who.device} ({who.profile})")
