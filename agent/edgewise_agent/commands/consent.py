"""``edgewise-agent consent``: the owner's opt-in to raw samples."""

from __future__ import annotations

import argparse

import msgspec

from edgewise.wire.codec import Name
from edgewise_agent import identity
from edgewise_agent.commands.parts import Command, UsageError
from edgewise_agent.store.disk import Disk
from edgewise_agent.windows.consent import Grant, load_grants, save_grants


def add(command: Command) -> None:
    """Its arguments."""
    sub = command("consent", run, "The owner's opt-in to raw samples: how many, how many bytes.")
    sub.add_argument("--model", required=True)
    sub.add_argument("--count", type=int, help="samples, over all requests")
    sub.add_argument("--bytes", type=int, help="bytes, over all requests")
    sub.add_argument("--none", action="store_true", help="withdraw the consent")


def run(arguments: argparse.Namespace) -> None:
    """Keep what the owner said."""
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
