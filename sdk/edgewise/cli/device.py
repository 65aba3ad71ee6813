"""``edgewise device``: the fleet's devices."""

from __future__ import annotations

from typing import Annotated

import typer

from edgewise.cli.output import Json, ago, clean, short, show_fields, show_json, show_table
from edgewise.cli.session import hub
from edgewise.resources import Device

app = typer.Typer(name="device", help="Devices of the fleet.", no_args_is_help=True)


@app.command("list")
def list_devices(
    context: typer.Context,
    group: Annotated[str | None, typer.Option(help="Only this group's.")] = None,
    state: Annotated[str | None, typer.Option(help="Only those in this state: online, offline, revoked.")] = None,
    json: Json = False,
) -> None:
    """List devices: what each serves, and whether it is there."""
    with hub(context) as client:
        devices = client.devices.list(group=group, state=state)
    if json:
        return show_json(devices)
    return show_table(
        ["DEVICE", "GROUPS", "PROFILE", "STATE", "SERVES", "SEEN"],
        [(d.id, ", ".join(d.groups), d.profile, _state(d), _serves(d), ago(d.last_seen)) for d in devices],
        empty="No devices here: make a join token with 'edgewise hub token', then 'edgewise-agent enroll'.",
    )


@app.command("show")
def show_device(context: typer.Context, device: str, json: Json = False) -> None:
    """Show one device: its models, its facts, what its owner opted in to."""
    with hub(context) as client:
        found = client.devices.get(device)
    if json:
        return show_json(found)
    show_fields(
        [
            ("device", found.id),
            ("state", _state(found)),
            ("profile", found.profile),
            ("groups", ", ".join(found.groups) or "-"),
            ("last seen", ago(found.last_seen)),
            ("enrolled", ago(found.enrolled_at)),
            ("generation", f"{found.generation} desired, {found.reported_generation} reported"),
            *((f"fact {name}", value) for name, value in sorted(found.facts.items())),
            *((f"consent {clean(name)}", value) for name, value in sorted(found.consent.items())),
        ]
    )
    return show_table(
        ["MODEL", "WISHED#", "RUNNING#", "CONFIRMED#", "STATE", "BUNDLE", "WHY"],
        [
            (m.model, m.version, m.running_version, m.confirmed_version, m.state, short(m.bundle), m.reason)
            for m in found.models
        ],
        empty="No model yet: roll one out with 'edgewise rollout create'.",
    )


def _state(device: Device) -> str:
    return "revoked" if device.revoked else "online" if device.online else "offline"


def _serves(device: Device) -> str:
    served = [f"{m.model}:{m.confirmed_version}" for m in device.models if m.confirmed_version is not None]
    pending = [f"{m.model}:{m.version} {m.state}" for m in device.models if m.confirmed_version != m.version]
    return ", ".join(served) + (f" ({', '.join(pending)})" if pending else "") or "-"
