"""What the subcommands share: the data folder, the error of a wrong command line, what is installed, who is running."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, Protocol

from edgewise.errors import EdgewiseError
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import Disk, read
from edgewise_agent.store.installs import Installs
from edgewise_agent.store.lock import locked

DATA_VARIABLE = "EDGEWISE_AGENT_DATA"
"""The data folder, for commands without ``--data``."""
DEFAULT_PORT = 8600


class UsageError(EdgewiseError):
    """The command line does not say what is needed."""

    code = "usage"


class Command(Protocol):
    """Makes a subcommand: its name, what runs it, and what it is for."""

    def __call__(self, name: str, run: Any, text: str) -> argparse.ArgumentParser: ...


def with_json(parser: argparse.ArgumentParser) -> None:
    """``--json``, for whoever reads it by a script."""
    parser.add_argument("--json", action="store_true", help="as JSON")


def default_data() -> Path | None:
    """Of the environment."""
    value = os.environ.get(DATA_VARIABLE)
    return Path(value) if value else None


def installs(data: Path) -> Installs:
    """What is installed. Makes no folder, so that asking changes nothing."""
    disk, folder = Disk(), data / "blobs" / "sha256"
    if not folder.is_dir():
        raise EdgewiseError(f"{data}: nothing is installed here yet; run edgewise-agent run")
    return Installs(disk, data / "duties.json", BlobStore(disk, folder))


def running(data: Path) -> dict[str, Any] | None:
    """``run.json`` of the agent that runs on this folder; None: none does."""
    content = read(data / "run.json", 4096) if locked(data) else None
    found: dict[str, Any] | None = json.loads(content) if content else None
    return found
