"""``edgewise model``: models, versions, and how new ones come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from edgewise.cli import parse
from edgewise.cli.output import Json, ago, say, share, short, show_fields, show_json, show_table, size
from edgewise.cli.session import hub
from edgewise.cli.training import finish
from edgewise.endpoints.learning import Strategy
from edgewise.resources import Bundle, Version

app = typer.Typer(name="model", help="Models and their versions.", no_args_is_help=True)

ConfigOption = Annotated[
    list[str] | None, typer.Option("--config", metavar="KEY=VALUE", help="For the recipe; VALUE is JSON, else text.")
]


@app.command("list")
def list_models(context: typer.Context, json: Json = False) -> None:
    """List models, and how many devices serve which version."""
    with hub(context) as client:
        models = client.models.list()
    if json:
        return show_json(models)
    return show_table(
        ["MODEL", "VERSIONS#", "LATEST#", "SERVING", "SINCE"],
        [(m.name, m.versions, m.latest, _serving(m.serving), ago(m.created_at)) for m in models],
        empty="No models here: 'edgewise model train' or 'edgewise model register' makes the first.",
    )


@app.command("show")
def show_model(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]")],
    json: Json = False,
) -> None:
    """Show a model's versions, or one version with its lineage and bundles."""
    name, number = parse.model_version(model)
    with hub(context) as client:
        if number is None:
            found = client.models.get(name)
            versions = client.models.versions(name)
            return show_json({"model": found, "versions": versions}) if json else _show_versions(name, versions)
        version = client.models.version(name, number)
    return show_json(version) if json else show_version(version)


@app.command("register")
def register(
    context: typer.Context,
    model: str,
    onnx: Annotated[Path, typer.Option(help="The model, an ONNX file.", dir_okay=False)],
    data: Annotated[Path, typer.Option(help="An npz with inputs and, if known, labels.", dir_okay=False)],
    note: Annotated[str, typer.Option(help="A line for people.")] = "",
    json: Json = False,
) -> None:
    """Register a version from an ONNX file."""
    with hub(context) as client:
        version = client.models.register_onnx(model, onnx, data, note)
    if json:
        return show_json(version)
    return say(
        f"{version.model}:{version.version} is registered; next: edgewise compile {version.model}:{version.version}"
    )


@app.command("train")
def train(
    context: typer.Context,
    model: str,
    recipe: Annotated[Path | None, typer.Option(help="The recipe, a Python file; else the parent's.")] = None,
    config: ConfigOption = None,
    config_file: Annotated[Path | None, typer.Option(help="A JSON object that --config adds to.")] = None,
    strategy: Annotated[str, typer.Option(help="full or rehearsal.", metavar="STRATEGY")] = "full",
    parent: Annotated[int | None, typer.Option(help="The version to start from.")] = None,
    sample_request: Annotated[str | None, typer.Option(help="Train on these samples too.")] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Compile for this device profile; repeat.")] = None,
    note: Annotated[str, typer.Option(help="A line for people.")] = "",
    wait: Annotated[bool, typer.Option(help="Wait until it has ended.")] = True,
    json: Json = False,
) -> None:
    """Train a version with a recipe, which the hub keeps and can run again."""
    if strategy not in ("full", "rehearsal"):
        raise typer.BadParameter(f"strategy: expected full or rehearsal, got {strategy!r}")
    values = parse.config(config or [], config_file)
    with hub(context) as client:
        run = client.training.start(
            model,
            strategy=cast(Strategy, strategy),
            recipe=None if recipe is None else client.upload(recipe),
            config=values,
            parent_version=parent,
            sample_request=sample_request,
            profiles=profile or [],
            note=note,
        )
        if wait:
            return finish(client, run.id, json=json)
    return show_json(run) if json else say(f"training run {run.id} is queued; see: edgewise training watch {run.id}")


def show_version(version: Version) -> None:
    """One version as fields, and its bundles as a table."""
    show_fields(
        [
            ("version", f"{version.model}:{version.version}"),
            ("made", ago(version.created_at)),
            ("note", version.note or "-"),
            *((f"metric {name}", value) for name, value in sorted(version.metrics.items())),
            *((f"source {name}", value) for name, value in sorted(version.source.items())),
            *((f"lineage {name}", value) for name, value in sorted(version.lineage.items())),
        ]
    )
    show_bundles(version.bundles)


def show_bundles(bundles: Sequence[Bundle]) -> None:
    """Bundles with what the compiler measured: the version before, and this bundle after."""
    metrics = sorted({str(bundle.report.get("metric", "metric")) for bundle in bundles})
    if metrics:
        say(f"Before and after: {', '.join(metrics)} over the reference.")
    show_table(
        ["PROFILE", "SCHEME", "BEFORE#", "AFTER#", "SIZE#", "P50", "BUNDLE"],
        [
            (
                b.profile,
                b.report.get("scheme"),
                share(b.report.get("metric_before"), 2),
                share(b.report.get("metric_after"), 2),
                size(b.total_size),
                latency(b.report),
                short(b.digest),
            )
            for b in bundles
        ],
        empty="Not compiled yet: 'edgewise compile'.",
    )


def latency(report: dict[str, object], figure: Literal["p50_ms", "p95_ms"] = "p50_ms") -> str:
    """The chosen candidate's latency in words, from a bundle's report; ``not measured`` where it was not."""
    by_candidate = report.get("latency")
    chosen = by_candidate.get(report.get("scheme")) if isinstance(by_candidate, dict) else None
    value = chosen.get(figure) if isinstance(chosen, dict) else None
    return f"{value:.2f} ms" if isinstance(value, int | float) else "not measured"


def _show_versions(name: str, versions: Sequence[Version]) -> None:
    show_table(
        ["VERSION", "KIND", "METRICS", "BUNDLES", "MADE", "NOTE"],
        [
            (
                f"{name}:{v.version}",
                v.source.get("kind"),
                ", ".join(f"{key} {value:.4g}" for key, value in v.metrics.items() if isinstance(value, int | float)),
                ", ".join(bundle.profile for bundle in v.bundles) or "-",
                ago(v.created_at),
                v.note or "-",
            )
            for v in versions
        ],
        empty="No versions.",
    )


def _serving(serving: dict[str, int]) -> str:
    return ", ".join(f"{count} on v{version}" for version, count in sorted(serving.items())) or "-"
