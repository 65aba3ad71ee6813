"""``edgewise sample``: raw labelled samples, from devices whose owner opted in."""

from __future__ import annotations

from typing import Annotated

import typer

from edgewise.cli.output import Json, Limit, ago, say, show_json, show_table, size
from edgewise.cli.session import hub

app = typer.Typer(name="sample", help="Samples, under the owner's opt-in.", no_args_is_help=True)


@app.command("request")
def request(
    context: typer.Context,
    model: str,
    group: Annotated[str, typer.Option(help="The group to ask.")],
    count: Annotated[int, typer.Option(min=1, help="At most so many samples a device.")],
    max_bytes: Annotated[int, typer.Option("--bytes", min=1, help="At most so many bytes a device.")],
    json: Json = False,
) -> None:
    """Ask a group's devices for samples, within two budgets."""
    with hub(context) as client:
        asked = client.samples.request(model, group, count, max_bytes)
    if json:
        return show_json(asked)
    return say(
        f"sample request {asked.id}: up to {asked.count} samples and {size(asked.bytes)} a device; "
        f"{asked.consented} devices of {asked.group} may send, since their owner opted in"
    )


@app.command("list")
def list_requests(context: typer.Context, limit: Limit = 50, json: Json = False) -> None:
    """List sample requests, and what has come."""
    with hub(context) as client:
        requests = client.samples.list(limit)
    if json:
        return show_json(requests)
    return show_table(
        ["REQUEST", "MODEL", "GROUP", "STATE", "CAME#", "LABELLED#", "BYTES#", "OPTED IN#", "ASKED"],
        [
            (
                r.id,
                r.model,
                r.group,
                r.state,
                r.received,
                r.labelled,
                size(r.received_bytes),
                r.consented,
                ago(r.created_at),
            )
            for r in requests
        ],
        empty="No sample requests.",
    )


@app.command("close")
def close(
    context: typer.Context, request_id: Annotated[str, typer.Argument(metavar="REQUEST")], json: Json = False
) -> None:
    """Close a request: devices send no more, what has come stays."""
    with hub(context) as client:
        closed = client.samples.close(request_id)
    if json:
        return show_json(closed)
    return say(
        f"sample request {closed.id} is closed with {closed.received} samples, {closed.labelled} of them labelled"
    )
