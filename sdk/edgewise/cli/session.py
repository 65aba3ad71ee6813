"""What the global options say, and the client that comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from edgewise.client import Client, connect, read_token
from edgewise.errors import EdgewiseError


@dataclass(frozen=True)
class Session:
    """``--url`` and ``--token-file``."""

    url: str | None = None
    token_file: Path | None = None


@contextmanager
def hub(context: typer.Context) -> Iterator[Client]:
    """A connected client for the time of one command. Raises HubError."""
    session = context.find_object(Session) or Session()
    token = None
    if session.token_file is not None:
        try:
            token = read_token(session.token_file)
        except FileNotFoundError as error:
            raise EdgewiseError(
                f"--token-file {session.token_file}: there is no such file; 'edgewise hub up' writes operator.token",
                code="no-token",
            ) from error
        if not token:
            raise EdgewiseError(f"--token-file {session.token_file}: expected a token, got nothing", code="no-token")
    with connect(session.url, token) as client:
        yield client
