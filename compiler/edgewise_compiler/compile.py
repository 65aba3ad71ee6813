"""A source, device profiles and a budget in, bundles out. What profiles share is computed once.

The same inputs give the same bytes, but for one thing: where speed is measured, what is chosen can turn on it when two
candidates are about as fast.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import onnx

from edgewise.profile import Profile
from edgewise_compiler import measure, targets
from edgewise_compiler.budget import Budget
from edgewise_compiler.bundle import CompiledBundle, Identity, write_bundle
from edgewise_compiler.cache import Cache, default_folder, environment
from edgewise_compiler.errors import CompileError
from edgewise_compiler.judge import Judgement, judgement
from edgewise_compiler.model import Model
from edgewise_compiler.page import write_page, write_pages
from edgewise_compiler.plan import Origin
from edgewise_compiler.reference import make_reference
from edgewise_compiler.report import LayerReport, Report
from edgewise_compiler.runner import Ok, Runner
from edgewise_compiler.search import Found, Search
from edgewise_compiler.sources import Opened, Source, open_source
from edgewise_compiler.sources.student import open_student
from edgewise_compiler.techniques import Techniques

PACKAGES = ("edgewise-compiler", "numpy", "onnx", "onnxruntime")
PARITY_ITEMS = 32
MAX_LAYERS = 40


def compile(
    source: Source,
    profiles: list[Profile],
    out: Path,
    *,
    tenant: str,
    model: str,
    version: int,
    release: int,
    created_at: float,
    budget: Budget | None = None,
    training: bool | None = None,
    techniques: Techniques | None = None,
    explore: bool = False,
    seed: int = 0,
    cache: Path | None = None,
    refused: Callable[[str, CompileError], None] | None = None,
    progress: Callable[[float, str], None],
) -> list[CompiledBundle]:
    """Compile for every profile, into ``out``/PROFILE: bundle, ``report.json``, ``report.html``; for several profiles
    ``out``/report.html besides.

    ``created_at``: Unix seconds. ``training``: may rungs train? As a rule where the budget has limits; ``techniques``:
    how long, on which loss, and what else is asked for by name. ``explore``: try
    every rung of every target, for the whole front. ``cache``: a folder; the user's own without. ``progress``:
    (fraction, text). ``refused``: called with a profile's name and the reason when no target of it can take the model;
    the other profiles are compiled all the same. Without it the reason is raised.

    A budget that nothing meets is no error: the bundle is then the best there was, and its report says
    ``meets: false`` and what is missing. Raises CompileError; refuses before anything is computed where it can.
    """
    budget, techniques = budget or Budget(), techniques or Techniques()
    techniques.check()
    _refuse(profiles, one_by_one=refused is not None)
    started = time.monotonic()
    progress(0.0, "read the model and its data")
    out.mkdir(parents=True, exist_ok=True)
    identity = Identity(tenant, model, version, release, created_at, seed)
    # No profile's name begins with a dot.
    with tempfile.TemporaryDirectory(prefix=".work-", dir=out) as work:
        folder = Path(work)
        opened = open_source(source, folder)
        student = None if techniques.student is None else open_student(techniques.student, source, opened, folder, seed)
        shared = _Shared(opened, folder, out, Cache(cache or default_folder()), seed, student)
        made: list[CompiledBundle] = []
        for number, profile in enumerate(profiles):
            begin, end = (number + 0.05) / len(profiles), (number + 1) / len(profiles)
            part = _part(progress, begin, end)
            shared.runner.progress = lambda fraction, text, part=part: part(None, text)  # type: ignore[misc]
            search = Search(
                runner=shared.runner,
                judgement=shared.judgement,
                profile=profile,
                budget=budget,
                source=shared.source,
                original=shared.original,
                model=shared.proto,
                reference=opened.reference,
                folder=folder,
                has_labels=opened.reference.labels is not None,
                training=budget.limits if training is None else training,
                techniques=techniques,
                student=shared.student,
                explore=explore,
                progress=part,
            )
            try:
                targets.first(profile)
                found = search.run()
            except CompileError as error:
                if refused is None or error.code not in ("refused", "cannot-plan"):
                    raise
                refused(profile.name, error)
                continue
            made.append(_bundle(shared, identity, profile, budget, found, out / profile.name, started))
    if len(made) > 1:
        write_pages(out / "report.html", model, [bundle.report for bundle in made])
    progress(1.0, "compiled")
    return made


class _Shared:
    """What all profiles of one request share: the opened source, its answers, the runner and so all nodes."""

    def __init__(self, opened: Opened, folder: Path, out: Path, cache: Cache, seed: int, student: Path | None) -> None:
        self.opened = opened
        self.source = Origin("the source", "onnx", opened.traits)
        self.original = None if opened.original is None else Origin("the TFLite file", "tflite", opened.traits)
        self.proto = onnx.load_model(str(opened.model))
        fp32 = Model(opened.model, named=opened.named)
        self.judgement: Judgement = judgement(opened.metric, opened.reference, opened.named, fp32)
        scores = self.judgement.source_answers.scores
        opened.check_classes(None if scores is None else scores.shape[1])
        self.before = self.judgement.before
        if opened.baseline is not None:
            self.before = opened.baseline()[opened.metric.name]
        origins = {self.source: opened.model}
        if self.original is not None and opened.original is not None:
            origins[self.original] = opened.original
        self.student = None
        if student is not None:
            self.student = Origin("the student", "onnx", frozenset(("float32",)))
            origins[self.student] = student
        self.runner = Runner(
            origins=origins,
            data=opened.data,
            parity=opened.reference.spread(PARITY_ITEMS),
            named=opened.named,
            folder=folder,
            failures=out / "failures",
            cache=cache,
            seed=seed,
            progress=lambda fraction, text: None,
        )


def _bundle(
    shared: _Shared, identity: Identity, profile: Profile, budget: Budget, found: Found, out: Path, started: float
) -> CompiledBundle:
    opened, chosen = shared.opened, found.chosen
    answers = shared.judgement.answers(chosen.made, chosen.target.kind)
    signature = Model(opened.model, named=opened.named)
    version = chosen.target.name
    if chosen.target.runtime:
        signature = Model(chosen.made.file, chosen.target.kind, named=opened.named)
        version = signature.version
    reference = make_reference(
        answers,
        opened.reference,
        signature.ranks,
        batched=signature.batched,
        seed=identity.seed,
        columns=opened.columns,
        categorical=opened.categorical,
    )
    report = Report(
        profile=profile.name,
        target=chosen.target.name,
        runtime=version,
        scheme=chosen.name,
        rung=chosen.rung,
        metric=opened.metric.name,
        metric_before=shared.before,
        metric_after=chosen.cost.metric,
        items=len(opened.reference),
        size_before=found.source.size,
        size_after=chosen.cost.size,
        latency=found.latency or None,
        not_measured=None if found.latency else measure.why_not(profile),
        parity=opened.parity,
        notes=[*opened.notes, *chosen.notes, *reference.notes, *_elsewhere(profile)],
        candidates=[found.report(one, budget) for one in found.candidates],
        rungs=found.rungs,
        front=found.front,
        layers=_layers(shared.runner),
        targets=found.targets,
        budget={name: value for name, value in msgspec.to_builtins(budget).items() if value is not None},
        meets=not found.lacks,
        missing=found.lacks,
        unchecked=found.unchecked,
        digests=opened.digests,
        environment=environment(*PACKAGES, *opened.packages),
        seconds=round(time.monotonic() - started, 2),
    )
    made = write_bundle(
        out, identity, profile, chosen.target, chosen.made.file, signature, opened.classes, reference, report
    )
    (out / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    write_page(out / "report.html", identity.model, made.report)
    return made


def _layers(runner: Runner) -> list[LayerReport]:
    """The most sensitive layers, worst first, where sensitivity was looked at."""
    for node, outcome in runner.outcomes():
        if node.kind == "sensitivity" and isinstance(outcome, Ok):
            layers = json.loads(outcome.file.read_text())["layers"]
            return [LayerReport(node=one["node"], op=one["op"], snr_db=one["snr_db"]) for one in layers[:MAX_LAYERS]]
    return []


def _part(progress: Callable[[float, str], None], begin: float, end: float) -> Callable[[float | None, str], None]:
    """Progress of one profile; without a fraction the last one stays."""
    last = begin

    def tell(fraction: float | None, text: str) -> None:
        nonlocal last
        if fraction is not None:
            last = max(last, begin + (end - begin) * fraction)
        progress(last, text)

    return tell


def _refuse(profiles: list[Profile], *, one_by_one: bool) -> None:
    if not profiles:
        raise CompileError("expected at least one device profile, got none", code="cannot-plan")
    names = [profile.name for profile in profiles]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CompileError(f"expected each device profile once, got {', '.join(twice)} twice", code="cannot-plan")
    for profile in () if one_by_one and len(profiles) > 1 else profiles:
        targets.first(profile)


def _elsewhere(profile: Profile) -> list[str]:
    why = measure.why_not(profile)
    return (
        []
        if why is None
        else [f"the reference was computed here: int8 arithmetic on {profile.architecture} may round otherwise"]
    )
