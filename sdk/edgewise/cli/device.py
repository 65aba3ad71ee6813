"""``edgewise device``: the fleet's devices."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from edgewise.cli.output import Json, ago, clean, duration, share, short, show_fields, show_json, show_table, size
from edgewise.cli.session import hub
from edgewise.resources import Device, HealthSpan

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
            ("agent", found.agent or "-"),
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


@app.command("health")
def show_health(
    context: typer.Context,
    device: str,
    hours: Annotated[float, typer.Option(help="How far back.", min=0.01, max=8784)] = 24.0,
    json: Json = False,
) -> None:
    """Show how a device is: processor, memory, heat, network, energy, and how long its models take."""
    with hub(context) as client:
        found = client.devices.health(device, since=time.time() - hours * 3600)
    if json:
        return show_json(found)
    if found.spans:
        newest = found.spans[-1]
        off = "not known: nobody told it the time" if newest.uncertainty is None else _within(newest.uncertainty)
        show_fields(
            [("device", found.device), ("heard", ago(newest.received_at)), ("its clock", off), *totals(found.spans)]
        )
    show_table(
        ["RESOURCE", "NOW", "LEAST", "MOST"],
        gauges(found.spans),
        empty="Nothing came in that time: is the device offline, or its agent an older one?",
    )
    return show_table(
        ["MODEL", "DUTY", "INFERENCES#", "ERRORS#", "P50#", "P95#", "ENERGY#"],
        [
            (
                f"{m.model}:{m.version}",
                m.duty,
                m.inferences,
                m.errors,
                _ms(m.latency_p50_ms),
                _ms(m.latency_p95_ms),
                "-" if m.energy_mj is None else f"<{m.energy_mj:.3g} mJ",
            )
            for m in found.models
        ],
        empty="No window of a model came in that time.",
    )


def _bytes(amount: float) -> str:
    return size(round(amount))


def _percent(part: float) -> str:
    return share(part, 0)


def _celsius(degrees: float) -> str:
    return f"{degrees:.0f} C"


def _watts(power: float) -> str:
    return f"{power:.1f} W"


_WORDS: dict[str, Callable[[float], str]] = {
    "cpu": _percent,
    "gpu": _percent,
    "throttled": _percent,
    "temperature": _celsius,
    "gpu_temperature": _celsius,
    "power": _watts,
}
"""How a gauge is said; the others are bytes."""


def gauges(spans: Sequence[HealthSpan]) -> list[tuple[str, str, str, str]]:
    """Each gauge that there was: its newest mean, and its least and most over all spans."""
    rows = []
    for name in dict.fromkeys(name for span in reversed(spans) for name in span.gauges):
        seen = [span.gauges[name] for span in spans if name in span.gauges]
        say = _WORDS.get(name, _bytes)
        rows.append(
            (
                name.replace("_", " "),
                say(seen[-1].mean),
                say(min(g.least for g in seen)),
                say(max(g.most for g in seen)),
            )
        )
    return rows


def totals(spans: Sequence[HealthSpan]) -> list[tuple[str, object]]:
    """What was counted over all spans."""
    sums: dict[str, int] = {}
    for span in spans:
        for name, count in span.totals.items():
            sums[name] = sums.get(name, 0) + count
    fields: list[tuple[str, object]] = []
    if "received_bytes" in sums or "sent_bytes" in sums:
        received, sent = size(sums.get("received_bytes", 0)), size(sums.get("sent_bytes", 0))
        fields.append(("network", f"{received} received, {sent} sent"))
    if "energy_mj" in sums:
        fields.append(("energy", f"{sums['energy_mj'] / 3.6e6:.2f} Wh"))
    if "throttle_events" in sums:
        fields.append(("throttled", f"{sums['throttle_events']} times"))
    return fields


def _within(seconds: float) -> str:
    return f"right within {seconds * 1000:.0f} ms" if seconds < 1 else f"right within {duration(seconds)}"


def _ms(latency: float | None) -> str:
    return "-" if latency is None else f"{latency:.2f} ms"


def _state(device: Device) -> str:
    return "revoked" if device.revoked else "online" if device.online else "offline"


def _serves(device: Device) -> str:
    served = [f"{m.model}:{m.confirmed_version}" for m in device.models if m.confirmed_version is not None]
    pending = [f"{m.model}:{m.version} {m.state}" for m in device.models if m.confirmed_version != m.version]
    return ", ".join(served) + (f" ({', '.join(pending)})" if pending else "") or "-"
