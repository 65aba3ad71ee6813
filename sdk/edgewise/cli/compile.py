"""``edgewise compile``: one model for several device profiles in one request, on the hub or, from a file, here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from msgspec import structs

from edgewise.cli import local, parse
from edgewise.cli.model import show_bundles, show_candidates, show_reports
from edgewise.cli.output import Json, Progressing, clean, fail, progress, say, show_json, stderr
from edgewise.cli.session import hub
from edgewise.client import Client
from edgewise.endpoints.jobs import JobError
from edgewise.errors import EdgewiseError, ProfileError
from edgewise.profile import Profile, load_all
from edgewise.resources import Job

OVER_BUDGET = 3
"""Exit code where the budget is not met."""

HERE = "For a file"
"""The heading of the options that are for compiling a file on this machine."""
BY_NAME = "Techniques by name"
"""The heading of those that ask for more than the ladder tries on its own."""

Data = Annotated[
    Path | None, typer.Option(help="An npz with inputs and, if known, labels.", dir_okay=False, rich_help_panel=HERE)
]
Out = Annotated[
    Path | None, typer.Option(help="The folder that bundles and reports go to.", file_okay=False, rich_help_panel=HERE)
]
Metric = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.py:FUNC",
        help="Your figure: (outputs by name, labels) -> a number, higher is better.",
        rich_help_panel=HERE,
    ),
]
Recipe = Annotated[
    Path | None, typer.Option(help="The recipe that MODEL's weights are of.", dir_okay=False, rich_help_panel=HERE)
]
Config = Annotated[
    Path | None, typer.Option(help="The recipe's configuration, a JSON object.", dir_okay=False, rich_help_panel=HERE)
]


def compile_version(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A file (.onnx .tflite .pt2 .safetensors), or the hub's MODEL[:VERSION]."),
    ],
    profile: Annotated[list[str] | None, typer.Option(help="A device profile; repeat.")] = None,
    profiles: Annotated[
        Path | None,
        typer.Option(help="A folder of profiles: checked here; without --profile all of it. The hub must have it too."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="LIMITS", help="latency=5ms or 0.5x, size=200KB or 0.25x, ram=64MB, metric=0.9, drop=0.005."
        ),
    ] = None,
    training: Annotated[
        bool | None,
        typer.Option("--training/--no-training", help="Try techniques that train; else where the budget has limits."),
    ] = None,
    allow_over_budget: Annotated[
        bool, typer.Option("--allow-over-budget", help="On the hub: keep what is nearest where nothing meets it.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the hub is done.")] = True,
    timeout: Annotated[float | None, typer.Option(help="Give up waiting for the hub after so many seconds.")] = None,
    data: Data = None,
    out: Out = None,
    metric: Metric = None,
    recipe: Recipe = None,
    config: Config = None,
    scores: Annotated[str | None, typer.Option(help="The output with class scores.", rich_help_panel=HERE)] = None,
    embedding: Annotated[
        str | None, typer.Option(help="The embedding: an output, or an inner value or node.", rich_help_panel=HERE)
    ] = None,
    explore: Annotated[
        bool, typer.Option("--explore", help="Try every technique, for the whole front.", rich_help_panel=HERE)
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Fixes what is drawn.", rich_help_panel=HERE)] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps that one technique trains at most.", rich_help_panel=BY_NAME)
    ] = None,
    loss: Annotated[
        str | None, typer.Option(metavar="kd|dkd", help="Of distillation.", rich_help_panel=BY_NAME)
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|MODEL:VERSION",
            help="A smaller model that learns from MODEL: .onnx or a recipe for a file, else a version of the hub's.",
            rich_help_panel=BY_NAME,
        ),
    ] = None,
    mask: Annotated[
        str | None, typer.Option(metavar="2:4|SHARE", help="Zeros in the weights.", rich_help_panel=BY_NAME)
    ] = None,
    lora: Annotated[
        int | None,
        typer.Option(
            metavar="RANK", min=1, help="Fine-tune on labels by adapters of this rank.", rich_help_panel=BY_NAME
        ),
    ] = None,
    apart: Annotated[
        bool, typer.Option("--apart", help="Keep the adapters beside the model.", rich_help_panel=BY_NAME)
    ] = False,
    json: Json = False,
) -> None:
    """Compile a model for device profiles; shows what was chosen and what was measured.

    Exits 3, saying what is missing, where a budget is not met; 1 where a profile's targets cannot take the model (the
    others are compiled all the same).
    """
    limits = None if budget is None else parse.budget(budget)
    named = {"steps": steps, "loss": loss, "student": student, "mask": mask, "lora": lora, "apart": apart or None}
    techniques = {name: value for name, value in named.items() if value is not None}
    if local.is_file(model):
        if out is None:
            raise typer.BadParameter("expected --out DIR, where bundles and reports go")
        request = local.Request(
            model=Path(model),
            profiles=_profiles(profile or [], profiles),
            out=out,
            data=data,
            budget={} if limits is None else limits.fields(),
            metric=metric,
            recipe=recipe,
            config=parse.config([], config),
            scores=scores,
            embedding=embedding,
            explore=explore,
            training=training,
            techniques=techniques,
            seed=seed,
        )
        _here(request, json=json)
        return
    given: dict[str, object] = {"--data": data, "--out": out, "--metric": metric, "--recipe": recipe}
    given |= {"--config": config, "--scores": scores, "--embedding": embedding}
    given |= {"--explore": explore or None, "--seed": seed or None}
    if wrong := [name for name, value in given.items() if value is not None]:
        raise typer.BadParameter(f"{', '.join(wrong)}: only to compile a file here, and there is no file {model!r}")
    name, number = parse.model_version(model)
    wanted = _wanted(profile or [], profiles)
    with hub(context) as client:
        _refuse_unknown(client, wanted)
        version = _latest(client, name) if number is None else number
        job = client.compile(
            name,
            version,
            wanted,
            budget=limits,
            training=training,
            allow_over_budget=allow_over_budget,
            techniques=parse.techniques(techniques) if techniques else None,
        )
        if not wait:
            show_json({"job": job, "bundles": []}) if json else say(f"compile job {job.id} is queued")
            return
        job = _follow(client, job, f"compile {name}:{version}", timeout, quiet=json)
        bundles = [bundle for bundle in client.models.version(name, version).bundles if bundle.profile in wanted]
    if json:
        show_json({"job": job, "bundles": bundles})
    else:
        show_bundles(bundles)
    if refused := (job.result or {}).get("refused"):
        fail("; ".join(f"{one['profile']}: {one['detail']}" for one in refused))
        raise typer.Exit(1)


def _follow(client: Client, job: Job, title: str, timeout: float | None, *, quiet: bool) -> Job:
    try:
        with _progress(title, quiet=quiet) as advance:
            return client.jobs.wait(job.id, lambda now: advance(now.progress, now.progress_text), timeout=timeout)
    except JobError as error:
        if error.code != "over-budget":
            raise
        fail(str(error))
        raise typer.Exit(OVER_BUDGET) from error


def _here(request: local.Request, *, json: bool) -> None:
    compile = local.compiler()
    with _progress(f"compile {request.model.name}", quiet=json) as advance:
        made = compile(request, advance)
    over = [one for one in made if not one.report["meets"]]
    pages = request.out / "report.html" if len(made) > 1 else made[0].page
    if json:
        told = [{**structs.asdict(one), "folder": str(one.folder), "page": str(one.page)} for one in made]
        show_json({"bundles": told, "page": str(pages)})
    else:
        show_reports([one.report for one in made])
        for one in over:
            show_candidates(one.report)
        say(f"bundles and reports: {request.out}; open {pages}")
    if over:
        fail("; ".join(f"{one.profile}: the budget is not met: {', '.join(one.report['missing'])}" for one in over))
        raise typer.Exit(OVER_BUDGET)


@contextmanager
def _progress(title: str, *, quiet: bool) -> Iterator[Progressing]:
    """A bar on a terminal; elsewhere (a log) a line for each thing that is begun."""
    console = stderr()
    if quiet or console.is_terminal:
        with progress(title, quiet=quiet) as advance:
            yield advance
        return
    told = ""

    def tell(share: float, text: str) -> None:
        nonlocal told
        if text and text != told:
            told = text
            console.print(f"{share:4.0%} {clean(text)}", soft_wrap=True)

    yield tell


def _profiles(names: Sequence[str], folder: Path | None) -> list[Profile]:
    """The profiles themselves. Raises ProfileError."""
    wanted = _wanted(names, folder)
    known = load_all([] if folder is None else [folder])
    return [_known(name, known) for name in wanted]


def _wanted(names: Sequence[str], folder: Path | None) -> list[str]:
    """Profiles by name, each once. Raises ProfileError for a folder's file that is wrong, or an unknown name."""
    if folder is None:
        if not names:
            raise typer.BadParameter("expected --profile NAME (repeat it), or --profiles FOLDER")
        return list(dict.fromkeys(names))
    known = load_all([folder])
    if not names:
        names = sorted(path.stem for path in folder.glob("*.toml"))
        if not names:
            raise ProfileError(f"{folder}: expected device profiles (*.toml), got none")
    return [_known(name, known).name for name in dict.fromkeys(names)]


def _known(name: str, known: dict[str, Profile]) -> Profile:
    if name not in known:
        raise ProfileError(f"unknown device profile {name!r}: expected one of {', '.join(sorted(known))}")
    return known[name]


def _refuse_unknown(client: Client, wanted: list[str]) -> None:
    known = {profile.name for profile in client.profiles.list()}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ProfileError(
            f"unknown device profile {', '.join(unknown)}: the hub knows {', '.join(sorted(known)) or 'none'}; "
            "start it with --profiles FOLDER or EDGEWISE_PROFILES to add some"
        )


def _latest(client: Client, name: str) -> int:
    latest = client.models.get(name).latest
    if latest is None:
        raise EdgewiseError(f"model {name!r}: expected a version to compile, got none; train or register one")
    return latest
