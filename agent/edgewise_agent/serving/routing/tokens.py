"""The tokens with which servers are asked: where each lies on this device, by the owner's word alone.

Rules that hold here:
- a token is of one host (``server.example``, or ``server.example:8443``), and goes to no other;
- it is in a file or in a variable of the environment, named in the options: it is itself in no option, no message of a
  channel, no desired state and no log;
- it is read for each question, so that a file may be replaced while the agent runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgewise.errors import EdgewiseError

MAX_TOKEN = 8192
_TOKEN = re.compile(r"[!-~]+")


class NoToken(EdgewiseError):
    """There should be a token, and none can be read. What is said of it never holds any of its bytes."""

    code = "no-token"


def place_of(tokens: Sequence[str], host: str, port: int) -> str | None:
    """Where the token of a host lies, ``file:PATH`` or ``env:NAME``; None: it is asked without one. ``tokens``: as
    ``Options.escalate_tokens``. The host with its port goes first."""
    places = dict(token.split("=", 1) for token in tokens)
    return places.get(f"{host}:{port}", places.get(host))


def read_token(place: str, environment: Mapping[str, str] = os.environ) -> str:
    """The token that lies there. Raises NoToken."""
    kind, _, name = place.partition(":")
    if kind == "env":
        token = environment.get(name, "")
    else:
        try:
            with Path(name).open("rb") as file:
                token = file.read(MAX_TOKEN + 1).decode("ascii", "replace")
        except OSError as error:
            raise NoToken(f"token {place}: {error.strerror}") from error
    token = token.strip()
    if not _TOKEN.fullmatch(token) or len(token) > MAX_TOKEN:
        raise NoToken(f"token {place}: expected printable ASCII without spaces, got something else or nothing")
    return token
