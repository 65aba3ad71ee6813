"""``edgewise-agent status``: who this device is, whether it runs, what it serves."""

from __future__ import annotations

import argparse
import json

import msgspec

from edgewise_agent import identity
from edgewise_agent.commands.parts import Command, running, with_json
from edgewise_agent.store.blobs import BlobStore
from edgewise_agent.store.disk import Disk
from edgewise_agent.store.installs import Installs
from edgewise_agent.windows import privacy
from edgewise_agent.windows.consent import load_grants


def add(command: Command) -> None:
    """Its arguments."""
    with_json(command("status", run, "Who this device is, whether it runs, what it serves."))


def run(arguments: argparse.Namespace) -> None:
    """Print it."""
    who = identity.load(arguments.data)
    disk = Disk()
    duties = Installs(disk, arguments.data / "duties.json", BlobStore(disk, arguments.data / "blobs" / "sha256")).duties
    status = {
        "device": who.device,
        "tenant": who.tenant,
        "profile": who.profile,
        "hub": who.hub,
        "running": running(arguments.data),
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
