"""``edgewise model``: models, versions, and how new ones come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec
import typer

from edgewise.cli import parse
from edgewise.cli.output import Json, ago, say, share, short, show_fields, show_json, show_table, size
from edgewise.cli.session import hub
from edgewise.cli.training import finish
from edgewise.endpoints.learning import Strategy
from edgewise.resources import Bundle, Version
from edgewise.wire.quality import decided

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


@app.command("quality")
def quality(
    context: typer.Context,
    model: str,
    out_of_bounds: Annotated[
        str | None, typer.Option(metavar="RULE", help="A value outside the range of the reference.")
    ] = None,
    not_finite: Annotated[str | None, typer.Option(metavar="RULE", help="NaN or infinity.")] = None,
    missing: Annotated[str | None, typer.Option(metavar="RULE", help="NaN in an input of features.")] = None,
    unknown_inputs: Annotated[
        str | None, typer.Option(metavar="RULE", help="An input that the model does not have.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what devices do with inputs that do not look right: count, flag, refuse, or default. Without options: show.

    count lets it through, flag says so in the answer, refuse does not run it. A device's owner has the last word.
    """
    typed = {
        "out_of_bounds": out_of_bounds,
        "not_finite": not_finite,
        "missing": missing,
        "unknown_inputs": unknown_inputs,
    }
    wished = {problem: parse.rule(text) for problem, text in typed.items() if text is not None}
    with hub(context) as client:
        found = client.models.get(model)
        if wished:
            found = client.models.set_quality(model, msgspec.structs.replace(found.quality, **wished))
    if json:
        return show_json(found.quality)
    in_force = decided(found.quality)
    return show_fields(
        [
            (problem.replace("_", " "), rule if getattr(found.quality, problem) else f"{rule} (default)")
            for problem, rule in msgspec.structs.asdict(in_force).items()
        ]
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
    """Bundles with what the compiler measured: the source before, and this bundle after."""
    if not bundles:
        return say("Not compiled yet: 'edgewise compile'.")
    return show_reports([bundle.report for bundle in bundles], [short(bundle.digest) for bundle in bundles])


def show_reports(reports: Sequence[dict[str, Any]], digests: Sequence[str] = ()) -> None:
    """The chosen candidate of each report, one line a profile; ``digests`` of their bundles, where there are some."""
    names = ", ".join(sorted({str(report.get("metric", "metric")) for report in reports}))
    say(f"METRIC: {names} over the reference, of the source and of the bundle. In brackets: times the source in fp32.")
    show_table(
        ["PROFILE", "CHOSEN", "METRIC#", "SIZE#", "P50#", "BUDGET", *(["BUNDLE"] if digests else [])],
        [
            (
                report.get("profile"),
                ", ".join(str(report[key]) for key in ("scheme", "target") if report.get(key)),
                f"{_figure(report, 'metric_before')} → {_figure(report, 'metric_after')}",
                _size(report),
                latency(report),
                {True: "met", False: "not met"}.get(report.get("meets", True), "-"),
                *digests[number : number + 1],
            )
            for number, report in enumerate(reports)
        ],
        empty="",
    )


def show_candidates(report: dict[str, Any]) -> None:
    """The candidates of a report that no other beats, and what each lacks."""
    show_table(
        ["CANDIDATE", "TARGET", f"{str(report.get('metric')).upper()}#", "SIZE#", "P50#", "LACKS"],
        [
            (
                one["name"],
                one["target"],
                _amount(str(report.get("metric")), one["metric"]),
                size(one["size"]),
                f"{one['latency']['p50_ms']:.3g} ms" if one["latency"] else "not measured",
                "; ".join(one["lacks"]) or "-",
            )
            for one in report["candidates"]
            if one["on_front"] or one["name"] == report["scheme"]
        ],
        empty="No candidates.",
        title=f"What there is for {report['profile']}",
    )


def _figure(report: dict[str, Any], name: Literal["metric_before", "metric_after"]) -> str:
    return _amount(str(report.get("metric")), report.get(name))


def latency(report: dict[str, Any], percentile: Literal["p50_ms", "p95_ms"] = "p50_ms") -> str:
    """The chosen candidate's latency in words, from a bundle's report; ``not measured`` where it was not."""
    by_candidate = report.get("latency") or {}
    chosen, source = by_candidate.get(report.get("scheme")), by_candidate.get("source")
    if not isinstance(chosen, dict):
        return "not measured"
    ratio = f" ({chosen[percentile] / source[percentile]:.2f}x)" if source else ""
    return f"{chosen[percentile]:.3g} ms{ratio}"


def _size(report: dict[str, Any]) -> str:
    before, after = report.get("size_before"), report.get("size_after")
    if not isinstance(after, int):
        return "-"
    return size(after) + (f" ({after / before:.2f}x)" if before else "")


def _amount(metric: str, value: Any) -> str:
    """Shares (accuracy, fidelity) in percent, everything else as a number."""
    if not isinstance(value, int | float):
        return "-"
    is_share = 0 <= value <= 1 and any(word in metric for word in ("accuracy", "fidelity", "agreement"))
    return share(value, 2) if is_share else f"{value:.4g}"


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
