"""``edgewise experiment``: two versions of a model compared on the fleet."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from edgewise.cli import parse, plan
from edgewise.cli.output import Json, Limit, ago, share, show_fields, show_json, show_table
from edgewise.cli.session import hub
from edgewise.resources import Experiment, ExperimentDetail, Guardrails, Metric

app = typer.Typer(name="experiment", help="Experiments: two versions compared on the fleet.", no_args_is_help=True)

GUARDRAILS = "Guardrails"


class Kind(str, Enum):
    """How requests are shared."""

    shadow = "shadow"
    ab = "ab"
    canary_requests = "canary-requests"
    interleave = "interleave"
    escalate = "escalate"


class Measure(str, Enum):
    """What is compared."""

    accuracy = "accuracy"
    agreement = "agreement"
    latency = "latency"
    reward = "reward"


@app.command("create")
def create(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument()],
    candidate: Annotated[str, typer.Argument(metavar="MODEL:VERSION")],
    control: Annotated[int | None, typer.Option(help="Against this version; else what most of the group runs.")] = None,
    group: Annotated[str | None, typer.Option(help="Only this group; else every device.")] = None,
    share_of: Annotated[
        float | None, typer.Option("--share", help="Of requests or users for the candidate, 0 to 1.")
    ] = None,
    by_device: Annotated[bool, typer.Option("--by-device", help="ab: whole devices, not users.")] = False,
    output: Annotated[str | None, typer.Option(help="interleave: the output that ranks.")] = None,
    url: Annotated[str | None, typer.Option(help="escalate: the server, up to /v2.")] = None,
    server_model: Annotated[str | None, typer.Option(help="escalate: its model; else of the same name.")] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="escalate: ask where less sure than this.")] = 0.6,
    metric: Annotated[Measure | None, typer.Option(help="What is compared; else the first that the kind has.")] = None,
    margin: Annotated[float | None, typer.Option(help="Differences up to this are none; else the metric's.")] = None,
    min_samples: Annotated[int, typer.Option(min=1, help="Items of each arm before a decision.")] = 200,
    alpha: Annotated[float, typer.Option(help="Chance that a winner is named where there is none.")] = 0.05,
    block: Annotated[int, typer.Option(min=1, help="Items of an arm that make one value of a device.")] = 20,
    cap: Annotated[int, typer.Option(min=1, help="Values that one device gives at most.")] = 500,
    devices: Annotated[float, typer.Option(help="Share of the group that takes part.")] = 1.0,
    max_failed: Annotated[
        float, typer.Option(min=0, max=1, help="Share of devices it may fail on.", rich_help_panel=GUARDRAILS)
    ] = 0.1,
    max_errors: Annotated[
        str,
        typer.Option(metavar="SHARE|off", help="Share of its requests that may fail.", rich_help_panel=GUARDRAILS),
    ] = "0.02",
    max_latency_ratio: Annotated[
        str | None,
        typer.Option(metavar="RATIO|off", help="p95 against the control; else 2.", rich_help_panel=GUARDRAILS),
    ] = None,
    json: Json = False,
) -> None:
    """Start an experiment with a candidate (escalate: name the model alone)."""
    model, version = parse.model_version(candidate)
    if (version is None) != (kind is Kind.escalate):
        expected = model if kind is Kind.escalate else f"{model}:3"
        raise typer.BadParameter(f"{kind.value}: expected a candidate such as {expected}, got {candidate!r}")
    policy = _policy(
        kind,
        share_of=share_of,
        by_device=by_device,
        output=output,
        url=url,
        server_model=server_model or model,
        threshold=threshold,
    )
    guardrails: Guardrails | dict[str, float | None]
    guardrails = {"failed": max_failed, "errors": parse.limit(max_errors)}
    if max_latency_ratio is not None:
        guardrails["latency_ratio"] = parse.limit(max_latency_ratio)
    wanted: Metric | None = metric.value if metric is not None else None
    with hub(context) as client:
        made = client.experiments.create(
            model,
            policy,
            candidate=version,
            control=control,
            group=group,
            metric=wanted,
            margin=margin,
            min_samples=min_samples,
            alpha=alpha,
            block=block,
            cap=cap,
            devices=devices,
            guardrails=guardrails,
        )
    _present(made, json)


@app.command("list")
def list_experiments(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    state: Annotated[str | None, typer.Option(help="running or ended.")] = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """List experiments."""
    with hub(context) as client:
        found = client.experiments.list(model=model, state=state, limit=limit)
    if json:
        return show_json(found)
    return show_table(
        ["EXPERIMENT", "MODEL", "KIND", "VERSIONS", "GROUP", "METRIC", "DECISION", "WHY", "STARTED"],
        [
            (e.id, e.model, e.kind, versions(e), e.group or "all", e.metric, e.decision, e.reason, ago(e.created_at))
            for e in found
        ],
        empty="No experiments here: 'edgewise experiment create shadow MODEL:VERSION' starts one.",
    )


@app.command("show")
def show_experiment(
    context: typer.Context,
    experiment: str,
    follow: Annotated[
        bool, typer.Option("--watch", help="Until it has ended; exits 3 unless the candidate won.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(help="Give up watching after so many seconds.")] = None,
    json: Json = False,
) -> None:
    """Show one experiment: what is known, its arms, its devices. With --watch and --json one line a change."""
    with hub(context) as client:
        if not follow:
            return _present(client.experiments.get(experiment), json)
        decision = ""
        for found in client.experiments.follow(experiment, timeout=timeout):
            _present(found, json)
            decision = found.decision
    if decision != "candidate-wins":
        raise typer.Exit(3)
    return None


@app.command("stop")
def stop(context: typer.Context, experiment: str, json: Json = False) -> None:
    """End it; every device goes on with the control alone."""
    with hub(context) as client:
        _present(client.experiments.stop(experiment), json)


@app.command("promote")
def promote(
    context: typer.Context,
    experiment: str,
    stage: plan.Stages = None,
    max_install_failures: plan.MaxInstallFailures = 0.0,
    max_errors: plan.MaxErrors = "0.01",
    max_latency_ratio: plan.MaxLatencyRatio = "2",
    max_mix_distance: plan.MaxMixDistance = "0.1",
    min_inferences: plan.MinInferences = 200,
    deadline: plan.Deadline = "1h",
    soak: plan.Soak = "0",
    force: Annotated[bool, typer.Option("--force", help="Although it did not win.")] = False,
    json: Json = False,
) -> None:
    """Roll the candidate out to the experiment's group."""
    gates = plan.gates(
        max_install_failures=max_install_failures,
        max_errors=max_errors,
        max_latency_ratio=max_latency_ratio,
        max_mix_distance=max_mix_distance,
        min_inferences=min_inferences,
        deadline=deadline,
        soak=soak,
    )
    with hub(context) as client:
        done = client.experiments.promote(experiment, stages=plan.stages(stage), gates=gates, force=force)
    _present(done, json)


def _policy(
    kind: Kind,
    *,
    share_of: float | None,
    by_device: bool,
    output: str | None,
    url: str | None,
    server_model: str,
    threshold: float,
) -> dict[str, str | float | int]:
    """As the API takes it; what does not belong to the kind is refused, not dropped."""
    _only(kind, "--share", share_of is not None, Kind.shadow, Kind.ab, Kind.canary_requests)
    _only(kind, "--by-device", by_device, Kind.ab)
    _only(kind, "--output", output is not None, Kind.interleave)
    _only(kind, "--url", url is not None, Kind.escalate)
    policy: dict[str, str | float | int] = {"kind": kind.value}
    if share_of is not None:
        policy["weight" if kind is Kind.ab else "share"] = share_of
    if by_device:
        policy["by"] = "device"
    if kind is Kind.interleave:
        if output is None:
            raise typer.BadParameter("interleave: expected --output, the output that ranks")
        policy["output"] = output
    if kind is Kind.escalate:
        if url is None:
            raise typer.BadParameter("escalate: expected --url, the server that is asked")
        policy |= {"url": url, "model": server_model, "threshold": threshold}
    return policy


def _only(kind: Kind, option: str, given: bool, *kinds: Kind) -> None:
    if given and kind not in kinds:
        raise typer.BadParameter(f"{option} is for {' and '.join(each.value for each in kinds)}, not for {kind.value}")


def versions(experiment: Experiment) -> str:
    """``v1 against v2``."""
    candidate = "a server" if experiment.candidate is None else f"v{experiment.candidate}"
    return f"{candidate} against v{experiment.control}"


def _present(found: ExperimentDetail, json: bool) -> None:
    if json:
        return show_json(found)
    show_fields(
        [
            ("experiment", f"{found.id}: {found.kind} of {found.model}, {versions(found)}"),
            ("group", found.group or "every device"),
            ("decision", found.decision),
            ("why", found.reason),
            (
                "known by",
                f"{found.n} values of devices; {found.metric}, error {found.alpha:g}, margin {found.margin:g}",
            ),
            ("devices", f"{found.devices_total} take part, {found.devices_left_out} cannot"),
            ("rollout", found.rollout),
        ]
    )
    show_table(
        ["ARM", "VERSION", "REQUESTS#", "ERRORS#", "LABELLED#", "ACCURACY#", "P95 MS#", "WINS#"],
        [
            (a.role, a.version, a.requests, a.errors, a.labelled, share(a.accuracy), a.latency_p95_ms, a.wins)
            for a in found.arms
        ],
        empty="",
    )
    return show_table(
        ["DEVICE", "STATE", "REQUESTS#", "VALUES#", "WHY"],
        [(d.device, d.state, d.requests, d.values, d.reason) for d in found.devices],
        empty="No device takes part.",
    )
