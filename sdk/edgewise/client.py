"""The hub in Python: ``edgewise.connect()`` gives a ``Client``.

Where the hub is: the arguments, else ``EDGEWISE_URL`` and ``EDGEWISE_TOKEN``, else what ``edgewise hub up`` wrote into
its folder (``EDGEWISE_DATA``, else ``.edgewise`` here): ``hub.json`` and ``operator.token``. The folder's token goes to
this machine or to the folder's own hub, never to another that was merely named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgewise import endpoints
from edgewise.resources import Budget, Event, GroupAccuracy, Job, SignInCode, System, Techniques
from edgewise.transport import TIMEOUT_S, UNKNOWN_TOKEN, HubError, Transport, check_url, is_loopback

__all__ = ["Address", "Client", "HubError", "connect", "locate", "read_token"]

MAX_FILE = 64 * 1024


class Address(NamedTuple):
    """Where a hub is, and the token for it."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Address(url={self.url!r})"


class Client:
    """A hub's API. Use it from one thread at a time; close it, or use it in a ``with``.

    ``devices``, ``groups``, ``profiles``, ``tokens``, ``models``, ``jobs``, ``rollouts``, ``experiments``, ``drift``,
    ``alerts``, ``samples``, ``training``, ``triggers`` are its resources. Every method raises HubError.
    """

    def __init__(self, url: str, token: str, *, timeout: float = TIMEOUT_S) -> None:
        """``timeout``: seconds that one answer may take. Nothing is asked yet."""
        self._transport = Transport(url, token, timeout=timeout)
        self.url = self._transport.url
        self.devices = endpoints.Devices(self._transport)
        self.groups = endpoints.Groups(self._transport)
        self.profiles = endpoints.Profiles(self._transport)
        self.tokens = endpoints.Tokens(self._transport)
        self.models = endpoints.Models(self._transport)
        self.jobs = endpoints.Jobs(self._transport)
        self.rollouts = endpoints.Rollouts(self._transport)
        self.experiments = endpoints.Experiments(self._transport)
        self.drift = endpoints.Drift(self._transport)
        self.alerts = endpoints.Alerts(self._transport)
        self.samples = endpoints.Samples(self._transport)
        self.training = endpoints.Training(self._transport)
        self.triggers = endpoints.Triggers(self._transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def system(self) -> System:
        """What this hub is."""
        return self._transport.get("/system", System)

    def upload(self, path: Path | str) -> str:
        """Send a file as a blob, unless the hub has it already; returns its sha256."""
        return endpoints.Blobs(self._transport).put(Path(path))

    def compile(
        self,
        model: str,
        version: int,
        profiles: Sequence[str],
        *,
        budget: Budget | None = None,
        training: bool | None = None,
        allow_over_budget: bool = False,
        techniques: Techniques | None = None,
    ) -> Job:
        """Compile a version for several profiles in one request; wait for it with ``jobs.wait``.

        ``training``: may techniques that train be tried? None: where the budget has limits. A budget that nothing meets
        fails the job, saying what is missing, unless ``allow_over_budget``: then the nearest there is is kept.
        ``techniques``: those asked for by name, beside what the compiler finds on its own.
        """
        body = {
            "model": model,
            "version": version,
            "profiles": profiles,
            "budget": budget,
            "training": training,
            "allow_over_budget": allow_over_budget,
            "techniques": techniques,
        }
        return self._transport.post("/compiles", Job, body)

    def accuracy(self, model: str, since: float | None = None, group: str | None = None) -> Sequence[GroupAccuracy]:
        """What each group served with each version since then (Unix seconds), and how much of it was right."""
        return self._transport.get("/accuracy", list[GroupAccuracy], model=model, since=since, group=group)

    def sign_in_code(self) -> SignInCode:
        """A one-time code for the console."""
        return self._transport.post("/sign-in-codes", SignInCode)

    def events(self) -> Iterator[Event]:
        """Live changes, until the caller stops. Reconnects; says ``resync`` when events may have been missed."""
        return self._transport.events()


def connect(url: str | None = None, token: str | None = None) -> Client:
    """A client of the hub, which has answered and taken the token. See the module's head for where it looks.

    Raises HubError: ``no-hub``, ``no-token``, ``bad-url``, ``bad-token``, ``no-answer``, or the hub's own.
    """
    address = locate(url, token)
    client = Client(address.url, address.token)
    try:
        client.system()
    except HubError:
        client.close()
        raise
    return client


def locate(url: str | None = None, token: str | None = None, environ: Mapping[str, str] = os.environ) -> Address:
    """Where the hub is; nothing is asked of it. Raises HubError (code ``no-hub``, ``no-token`` or ``bad-url``)."""
    folder = Path(environ.get("EDGEWISE_DATA") or ".edgewise")
    local = _local_url(folder)
    found = url or environ.get("EDGEWISE_URL") or local
    if not found:
        raise HubError(
            f"no hub known: expected --url, EDGEWISE_URL or {folder / 'hub.json'}; start one with 'edgewise hub up'",
            code="no-hub",
        )
    found = check_url(found)
    token = token or environ.get("EDGEWISE_TOKEN")
    if not token and (is_loopback(found) or (local is not None and found == local.rstrip("/"))):
        try:
            token = read_token(folder / "operator.token")
        except FileNotFoundError:
            pass
    if not token:
        raise HubError(f"no token known for {found}; {UNKNOWN_TOKEN}", code="no-token")
    return Address(found, token)


def read_token(path: Path) -> str:
    """A token from a file. Raises FileNotFoundError, or HubError (code ``no-token``) when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE).decode("ascii").strip()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII text"
        raise HubError(f"{path}: the token cannot be read: {reason}", code="no-token") from error


class _HubFile(msgspec.Struct):
    url: str


def _local_url(folder: Path) -> str | None:
    path = folder / "hub.json"
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_FILE), type=_HubFile).url
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HubError(
            f'{path}: expected {{"url": ...}}: {error}; start the hub again, or set EDGEWISE_URL', code="no-hub"
        ) from error
