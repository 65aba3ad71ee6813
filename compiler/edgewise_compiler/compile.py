"""A source and device profiles in, bundles out. Runs the plan; what is shared runs once.

The same source, profiles, seed and ``created_at`` give the same bytes, but for one thing: where speed is measured, the
scheme that is chosen can turn on it when two are about as fast.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

from edgewise.profile import Profile, Scheme
from edgewise_agent.runtimes import RUNTIMES
from edgewise_compiler import export, measure, quantize
from edgewise_compiler.bundle import CompiledBundle, Identity, environment, write_bundle, write_npz
from edgewise_compiler.choose import Candidate, choose
from edgewise_compiler.errors import CompileError
from edgewise_compiler.model import Answers, Model
from edgewise_compiler.plan import FP32, Step, plan
from edgewise_compiler.recipe import Predict
from edgewise_compiler.reference import make_reference
from edgewise_compiler.report import CandidateReport, Latency, Report
from edgewise_compiler.source import FIDELITY, Opened, Source, open_source

RUNTIME = "onnxruntime"
"""Candidates are ONNX files and are judged on this runtime."""


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
    seed: int = 0,
    progress: Callable[[float, str], None],
) -> list[CompiledBundle]:
    """Compile for every profile, into ``out``/PROFILE. ``created_at``: Unix seconds. ``progress``: (fraction, text).

    Raises CompileError; refuses before anything is computed when the plan cannot work.
    """
    steps = plan(profiles, runtimes=RUNTIMES, machine=platform.machine())
    progress(0.0, "read the model and its data")
    identity = Identity(tenant, model, version, release, created_at, seed)
    opened = open_source(source)
    out.mkdir(parents=True, exist_ok=True)
    # No profile's name begins with a dot.
    with tempfile.TemporaryDirectory(prefix=".work-", dir=out) as work:
        run = _Run(opened, {profile.name: profile for profile in profiles}, out, Path(work), identity)
        for done, step in enumerate(steps):
            progress((done + 1) / (len(steps) + 1), step.title)
            run.step(step)
    progress(1.0, "compiled")
    return [run.bundles[profile.name] for profile in profiles]


def agreement(one: Answers, other: Answers) -> float:
    """Fidelity: share of items for which both predict the same class."""
    return float((one.scores.argmax(axis=1) == other.scores.argmax(axis=1)).mean())


class _Run:
    """One compilation: what the steps gave so far, and one method a kind of step."""

    def __init__(self, opened: Opened, profiles: dict[str, Profile], out: Path, work: Path, identity: Identity) -> None:
        self.opened = opened
        self.profiles = profiles
        self.out = out
        self.work = work
        self.identity = identity
        self.models: dict[str, Model] = {}
        self.answers: dict[str, Answers] = {}
        self.candidates: dict[str, CandidateReport] = {}
        self.latency: dict[str, dict[str, Latency]] = {}
        self.bundles: dict[str, CompiledBundle] = {}
        self.parity: float | None = None
        self.before = 1.0
        self.notes = list(opened.notes)

    def step(self, step: Step) -> None:
        """Run one step of the plan."""
        run: Callable[[str], None] = getattr(self, f"_{step.kind}")
        run(step.target)

    def _path(self, name: str) -> Path:
        return self.work / f"{name}.onnx"

    def _export(self, _: str) -> None:
        opened, path = self.opened, self._path(FP32)
        if opened.module is not None:
            self.notes += export.export_module(opened.module, opened.reference, path)
        elif opened.model is not None:
            export.copy_onnx(opened.model, path)
        fp32 = Model(RUNTIME, path)
        fp32.check(opened.reference)
        fp32.check(opened.calibrate)
        if opened.module is not None:
            self.parity = export.check_parity(opened.module, fp32, opened.reference)
        self.models[FP32] = fp32

    def _prepare(self, _: str) -> None:
        quantize.prepare(self._path(FP32), self._path("prepared"))

    def _calibrate(self, _: str) -> None:
        fp32 = self.models[FP32]
        quantize.calibrate(self._path("prepared"), fp32.input.name, self.opened.calibrate, self.work / "ranges.json")

    def _quantize(self, scheme: str) -> None:
        quantize.quantize(
            self._path("prepared"),
            self.models[FP32].scores,
            self.work / "ranges.json",
            cast(Scheme, scheme),
            self._path(scheme),
        )
        self.models[scheme] = Model(RUNTIME, self._path(scheme))

    def _answer(self, name: str) -> None:
        """Run a candidate over the reference and judge it; refuse the whole when fp32 itself is not finite."""
        opened, model = self.opened, self.models[name]
        answers = model.answer(opened.reference)
        nonfinite = int((~answers.finite()).sum())
        if name == FP32 and nonfinite:
            raise CompileError(
                f"the model's outputs are NaN or infinite for {nonfinite} of {len(opened.reference)} items of the "
                "reference; guard the model against such inputs",
                code="not-finite",
            )
        opened.check_classes(answers.scores.shape[1])
        self.answers[name] = answers
        if opened.evaluate is None:
            metric = agreement(answers, self.answers[FP32])
            figures = {FIDELITY: metric}
        else:
            metric, figures = opened.judge(self._predict(name))
        if name == FP32:
            self.before = metric if opened.baseline is None else opened.judge(opened.baseline)[0]
        self.candidates[name] = CandidateReport(
            name=name, size=model.path.stat().st_size, metric=metric, figures=figures, nonfinite=nonfinite
        )

    def _predict(self, name: str) -> Predict:
        """How a candidate predicts; the reference, which it has answered already, is not run again."""
        opened, model, answers = self.opened, self.models[name], self.answers[name]
        return lambda items: answers.scores if items is opened.reference else model.predict(items)

    def _measure(self, name: str) -> None:
        profile = self.profiles[name]
        inputs = self.work / "measure.npz"
        write_npz(inputs, {self.models[FP32].input.name: self.opened.reference[:32]})
        paths = {candidate: self.models[candidate].path for candidate in (FP32, *profile.quantization.schemes)}
        measured = measure.measure(profile, paths, inputs)
        if measured is not None:
            self.latency[name] = measured

    def _bundle(self, name: str) -> None:
        profile, opened = self.profiles[name], self.opened
        latency = self.latency.get(name)
        tried = (FP32, *profile.quantization.schemes)
        scheme, reasons = choose(
            profile.quantization.schemes,
            {
                candidate: Candidate(
                    metric=self.candidates[candidate].metric,
                    finite=not self.candidates[candidate].nonfinite,
                    latency=latency[candidate] if latency else None,
                )
                for candidate in tried
            },
        )
        chosen = self.models[scheme]
        reference = make_reference(self.answers[scheme], opened.reference, opened.labels, seed=self.identity.seed)
        report = Report(
            profile=name,
            runtime=chosen.version,
            scheme=scheme,
            metric=opened.metric,
            metric_before=self.before,
            metric_after=self.candidates[scheme].metric,
            items=len(opened.reference),
            size_before=self.candidates[FP32].size,
            size_after=self.candidates[scheme].size,
            latency=latency,
            not_measured=None if latency else measure.why_not(profile),
            parity=self.parity,
            notes=[*self.notes, *reasons, *reference.notes, *_elsewhere(profile)],
            candidates=[self.candidates[candidate] for candidate in tried],
            digests=opened.digests,
            environment=environment(torch=opened.module is not None),
        )
        self.bundles[name] = write_bundle(
            self.out / name, self.identity, profile, chosen, opened.classes, reference, report
        )


def _elsewhere(profile: Profile) -> list[str]:
    here = platform.machine()
    if profile.architecture == here:
        return []
    return [f"the reference was computed on {here}: int8 arithmetic on {profile.architecture} may round otherwise"]
