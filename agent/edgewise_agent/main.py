"""``edgewise-agent enroll | run | status | consent``. Errors are one line on stderr: exit 1, or 2 for usage."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from edgewise.errors import EdgewiseError
from edgewise.wire.codec import Name
from edgewise_agent import __version__, identity, logs
from edgewise_agent.enroll import enroll
from edgewise_agent.serving.listeners import open_listeners
from edgewise_agent.serving.options import of_owner
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import Disk, read
from edgewise_agent.store.installs import Installs
from edgewise_agent.windows import privacy
from edgewise_agent.windows.consent import Grant, load_grants, save_grants

TOKEN_VARIABLE = "EDGEWISE_JOIN_TOKEN"
DATA_VARIABLE = "EDGEWISE_AGENT_DATA"
DEFAULT_PORT = 8600


class UsageError(EdgewiseError):
    """The command line does not say what is needed."""

    code = "usage"


def main(argv: Sequence[str] | None = None) -> None:
    """The ``edgewise-agent`` command."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except UsageError as error:
        print(f"edgewise-agent: {error}", file=sys.stderr)
        sys.exit(2)
    except EdgewiseError as error:
        print(f"edgewise-agent: {error}", file=sys.stderr)
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgewise-agent", description="What runs on a device.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    default = os.environ.get(DATA_VARIABLE)

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        sub.add_argument(
            "--data", type=Path, default=default, required=default is None, help=f"data folder (or {DATA_VARIABLE})"
        )
        return sub

    sub = command("enroll", _enroll, "Ask a hub for an identity, with a join token.")
    sub.add_argument("--hub", required=True, help="the hub's address, such as https://hub.example:8443")
    sub.add_argument("--name", required=True, help="the device's name")
    sub.add_argument("--profile", required=True, help="the device profile, such as linux-x86-64")
    sub.add_argument("--token-file", type=Path, help=f"file with the join token (or the variable {TOKEN_VARIABLE})")
    sub = command("run", _run, "Serve, and stay in touch with the hub.")
    sub.add_argument("--port", type=int, default=DEFAULT_PORT, help="port on 127.0.0.1; 0: any that is free")
    sub = command("status", _status, "What is installed here.")
    sub.add_argument("--json", action="store_true", help="as JSON")
    sub = command("consent", _consent, "The owner's opt-in to raw samples: how many, how many bytes.")
    sub.add_argument("--model", required=True)
    sub.add_argument("--count", type=int, help="samples, over all requests")
    sub.add_argument("--bytes", type=int, help="bytes, over all requests")
    sub.add_argument("--none", action="store_true", help="withdraw the consent")
    return parser


def _enroll(arguments: argparse.Namespace) -> None:
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
    with _lock(arguments.data):
        who = enroll(
            disk, arguments.data, hub=arguments.hub, token=token.strip(), name=arguments.name, profile=arguments.profile
        )
    print(f"enrolled as {who.tenant}/{who.device} ({who.profile})")


def _run(arguments: argparse.Namespace) -> None:
    from edgewise_agent.agent import Agent  # here, so that status and consent stay quick

    logs.set_up()
    who = identity.load(arguments.data)
    options = of_owner(os.environ)
    with _lock(arguments.data), open_listeners(arguments.data, arguments.port) as listeners:

        def announce(line: dict[str, str | int]) -> None:
            print(json.dumps(line), flush=True)

        agent = Agent(arguments.data, who, Disk(), listeners, announce, options)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.request_stop())
        agent.run()


def _lock(data: Path) -> IO[bytes]:
    """One agent a data folder: the lock goes with the process, however that ends."""
    file = (data / "lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise EdgewiseError(f"{data}: another edgewise-agent uses this folder") from error
    return file


def _status(arguments: argparse.Namespace) -> None:
    who = identity.load(arguments.data)
    disk = Disk()
    duties = Installs(disk, arguments.data / "duties.json", BlobStore(disk, arguments.data / "blobs" / "sha256")).duties
    running = read(arguments.data / "run.json", 4096)
    status = {
        "device": who.device,
        "tenant": who.tenant,
        "profile": who.profile,
        "hub": who.hub,
        "running": json.loads(running) if running and _locked(arguments.data) else None,
        "models": msgspec.to_builtins(duties.models),
        "failures": msgspec.to_builtins(duties.failures),
        "consent": msgspec.to_builtins(load_grants(arguments.data)),
        "privacy": privacy.load(arguments.data).report(),
    }
    if arguments.json:
        print(json.dumps(status, indent=2))
        return
    print(f"{who.tenant}/{who.device} ({who.profile}), hub {who.hub}")
    print(f"serving at {status['running']['url']}" if status["running"] else "not running")
    for model, duty in duties.models.items():
        state = "confirmed" if duty.confirmed else "on trial"
        print(f"  {model}: version {duty.active.version}, {state}, bundle {duty.active.bundle[:12]}")
    for model, failures in duties.failures.items():
        for failure in failures:
            print(f"  {model}: bundle {failure.bundle[:12]} failed: {failure.code}: {failure.reason}")
    for model, spent in status["privacy"].items():
        limit = "no limit" if spent["limit"] is None else f"limit {spent['limit']:g}"
        print(
            f"  {model}: privacy spent: epsilon {spent['epsilon']:g} at delta {spent['delta']:g} over "
            f"{spent['windows']} windows ({limit}, {spent['withheld']} withheld)"
        )


def _locked(data: Path) -> bool:
    try:
        _lock(data).close()
    except EdgewiseError:
        return True
    return False


def _consent(arguments: argparse.Namespace) -> None:
    grants = load_grants(arguments.data)
    try:
        model = msgspec.convert(arguments.model, Name)
        if arguments.none:
            grants.pop(model, None)
        elif arguments.count is None or arguments.bytes is None:
            raise UsageError("expected --count and --bytes, or --none")
        else:
            grants[model] = msgspec.convert({"count": arguments.count, "bytes": arguments.bytes}, Grant)
    except msgspec.ValidationError as error:
        raise UsageError(f"consent: {error}") from error
    identity.load(arguments.data)
    save_grants(Disk(), arguments.data, grants)
    grant = grants.get(model)
    print(f"{model}: at most {grant.count} samples and {grant.bytes} bytes" if grant else f"{model}: no samples")


if __name__ == "__main__":
    main()
