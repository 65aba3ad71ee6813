"""Finds the bundle of one profile: rung by rung, until a candidate meets the budget.

Thin: what is decided is in ``ladder`` (which rung), ``budget`` (what is missing) and ``front`` (which is best); this
runs the nodes, judges and measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
from msgspec import structs

from edgewise.profile import Profile
from edgewise_compiler import front, ladder, measure
from edgewise_compiler.budget import Budget, Cost, What, excess, missing, unknown
from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.judge import Judged, Judgement
from edgewise_compiler.plan import Node, Origin, Step, node, problems
from edgewise_compiler.report import CandidateReport, Latency, RungReport, TargetReport
from edgewise_compiler.runner import Failed, Ok, Outcome, Refused, Runner
from edgewise_compiler.targets import Ask, Target, find
from edgewise_compiler.targets.ort import nodes
from edgewise_compiler.techniques import Techniques

SOURCE = "source"
ONE_BY_ONE = ("4-bit", "ptq+", "mixed", "qat", "4-bit+", "prune")
"""Rungs that go on from careful to more careful, or that train: they end with the first candidate that will do."""
FLOAT = ("fp32", "fp16", "weights")
"""Rungs that compute in float."""
HARDLY = 0.75
"""A quantized model above this share of fp32's size has most of its layers in float."""
MAX_REASONS = 5
"""Nodes that a refusal names in the table of rungs."""
MEASURED = 32
"""Items that latency is measured on, in turn."""


@dataclass(frozen=True)
class Candidate:
    """One finished model file of a target."""

    name: str
    rung: str
    target: Target
    made: Ok
    judged: Judged
    cost: Cost
    price_s: float
    notes: tuple[str, ...]


@dataclass
class Found:
    """What the search gave. ``chosen``: the best that meets the budget, else the one that lacks least."""

    chosen: Candidate
    candidates: list[Candidate]
    rungs: list[RungReport]
    targets: list[TargetReport]
    source: Cost
    lacks: list[str]
    unchecked: list[str]
    front: list[str]
    latency: dict[str, Latency]

    def report(self, candidate: Candidate, budget: Budget) -> CandidateReport:
        """One candidate, for people."""
        return CandidateReport(
            name=candidate.name,
            rung=candidate.rung,
            target=candidate.target.name,
            size=candidate.cost.size,
            metric=candidate.cost.metric,
            figures=candidate.judged.figures,
            nonfinite=candidate.judged.nonfinite,
            price_s=round(candidate.price_s, 2),
            latency=candidate.cost.latency,
            on_front=candidate.name in self.front,
            lacks=list(missing(budget, candidate.cost, self.source).values()),
            notes=list(candidate.notes),
        )


@dataclass
class Search:
    """One profile. ``explore``: try every rung of every target, whatever the budget says (for a whole front)."""

    runner: Runner
    judgement: Judgement
    profile: Profile
    budget: Budget
    source: Origin
    original: Origin | None
    model: onnx.ModelProto
    reference: Data
    folder: Path
    has_labels: bool
    training: bool
    techniques: Techniques
    student: Origin | None
    explore: bool
    progress: Callable[[float, str], None]
    candidates: dict[str, Candidate] = field(default_factory=dict)
    rungs: list[RungReport] = field(default_factory=list)

    def run(self) -> Found:
        """Raises CompileError (code ``refused``) when no target of the profile can take the model."""
        targets, told = self._targets()
        self.base = self._base()
        size_ratio = self.budget.max_size_ratio
        if self.budget.max_size is not None:
            size_ratio = min(size_ratio or 1e9, self.budget.max_size / self.base.size)
        for number, rung in enumerate(ladder.RUNGS):
            lacking = [self._lacks(one) for one in self.candidates.values()]
            why = None
            if not self.explore:
                why = ladder.why_skip(
                    rung,
                    lacking,
                    limits=self.budget.limits,
                    size_ratio=size_ratio,
                    training=self.training,
                    collapsed=self._collapsed(),
                    student=self.student is not None,
                )
            elif rung.name == "student" and self.student is None:
                why = "no student was given"
            elif rung.price == "training" and not self.training:
                why = "training was not asked for"
            if self.techniques.apart and rung.name != "fp32":
                why = "the adapters are kept apart: the model stays as it is"
            if why is None:
                self.progress(number / len(ladder.RUNGS), f"{self.profile.name}: {rung.title}")
                self.rungs.append(self._climb(rung, targets))
            else:
                self.rungs.append(RungReport(name=rung.name, title=rung.title, price_s=0.0, skipped=why))
            waits = rung.name == "fp32" and self.student is not None
            if self._done(rung) and not self.explore and not waits:
                break
        if not self.candidates:
            reasons = [line for rung in self.rungs for line in rung.refused]
            raise CompileError(
                f"{self.profile.name}: no target can take the model: {'; '.join(reasons) or 'it refused'}",
                code="refused",
            )
        return self._found(told)

    def _done(self, rung: ladder.Rung) -> bool:
        met = [one for one in self.candidates.values() if not self._lacks(one)]
        return bool(met) if self.budget.limits else any(one.rung not in (*FLOAT, "student") for one in met)

    def _collapsed(self) -> bool:
        """Has int8 been tried, and did it lose too much each time? What is hardly smaller has hardly an integer."""
        least = HARDLY * self.base.size
        integers = [one for one in self.candidates.values() if one.rung not in FLOAT and one.cost.size < least]
        return bool(integers) and all("metric" in self._lacks(one) for one in integers)

    def _lacks(self, candidate: Candidate) -> set[What]:
        """What a candidate lacks. Where speed is limited and cannot be measured here, only integers are taken to do."""
        lacks = set(missing(self.budget, candidate.cost, self.base))
        if candidate.rung in FLOAT and unknown(self.budget, candidate.cost):
            lacks.add("latency")
        return lacks

    @property
    def _measured(self) -> bool:
        return measure.why_not(self.profile) is None

    def _targets(self) -> tuple[list[Target], list[TargetReport]]:
        """Those of the profile that can work here; without limits in the budget only the first of them."""
        usable: list[Target] = []
        told: list[TargetReport] = []
        ops = sum(1 for _ in nodes(self.model.graph))
        sized = with_sizes(self.model, self.reference)
        for name in self.profile.runtimes:
            target = find(name)
            if target is None:
                told.append(TargetReport(name=name, missing=f"there is no target {name!r} here yet"))
                continue
            lacks, cannot = target.missing(), target.unsupported(sized)
            told.append(TargetReport(name=name, missing=lacks, unsupported=cannot, ops=ops))
            if not lacks and not cannot:
                usable.append(target)
        if not usable:
            raise CompileError(refusal(self.profile, told), code="refused")
        return (usable if self.budget.limits or self.explore else usable[:1]), told

    def _base(self) -> Cost:
        """What ratios and drops are relative to: the source's answers, and its size and speed as plain fp32."""
        return Cost(
            metric=self.judgement.before,
            size=self._fp32().file.stat().st_size,
            finite=not self.judgement.source.nonfinite,
        )

    def _fp32(self) -> Ok:
        """The source on onnxruntime as anybody would run it: optimized, where that can be done. A raw export is slower
        than what its owner has in use, and every gain over it would be flattered."""
        optimized = self.runner.run(node("optimize", model=self.source)) if self.source.traits & {"float32"} else None
        made = optimized if isinstance(optimized, Ok) else self.runner.run(self.source)
        assert isinstance(made, Ok)
        return made

    def _meeting(self) -> list[str]:
        return [name for name, one in self.candidates.items() if not missing(self.budget, one.cost, self.base)]

    def _climb(self, rung: ladder.Rung, targets: list[Target]) -> RungReport:
        """Try one rung with every target."""
        names: list[str] = []
        refused: list[str] = []
        started = self.runner.price
        for target in targets:
            ask = Ask(
                source=self.source,
                original=self.original,
                profile=self.profile,
                budget=self.budget,
                run=self._outcome,
                operators=frozenset(one.op_type for one in nodes(self.model.graph)),
                has_labels=self.has_labels,
                techniques=self.techniques,
                student=self.student,
            )
            for name, step in target.candidates(rung.name, ask):
                if problem := next(problems(step), None):
                    refused.append(f"{name}: {problem}")
                    continue
                price = self.runner.price
                outcome = self._outcome(step)
                match outcome:
                    case Ok():
                        try:
                            self._add(name, rung, target, step, outcome, self.runner.price - price)
                            names.append(name)
                        except CompileError as error:
                            refused.append(f"{name}: {error}")
                    case Refused():
                        reasons = [outcome.reason, *map(str, outcome.unsupported[:MAX_REASONS])]
                        refused.append(f"{name}: {outcome.by} refused: {'; '.join(reasons)}")
                    case Failed():
                        refused.append(f"{name}: {outcome.reason}; to repeat it: {outcome.reproducer}")
                if self._enough(rung):
                    break
        if rung.name not in ONE_BY_ONE:
            self.base = self._measure(names)
        return RungReport(
            name=rung.name,
            title=rung.title,
            price_s=round(self.runner.price - started, 2),
            candidates=names,
            refused=list(dict.fromkeys(refused)),
        )

    def _enough(self, rung: ladder.Rung) -> bool:
        """Within a rung that goes on from careful to more careful (or that trains), stop at the first that will do."""
        if self.explore or rung.name not in ONE_BY_ONE:
            return False
        return any(
            one.rung == rung.name and not missing(self.budget, one.cost, self.base) for one in self.candidates.values()
        )

    def _outcome(self, step: Step) -> Outcome:
        return self.runner.run(step)

    def _add(self, name: str, rung: ladder.Rung, target: Target, step: Step, made: Ok, price: float) -> None:
        target.check(made.file)
        judged = self.judgement.judge(made, step.kind)
        cost = Cost(metric=judged.metric, size=made.file.stat().st_size, finite=not judged.nonfinite)
        notes = made.notes if isinstance(step, Node) else ()
        self.candidates[name] = Candidate(name, rung.name, target, made, judged, cost, price, notes)
        if rung.name in ONE_BY_ONE:
            self._measure([name])

    def _measure(self, names: Iterable[str]) -> Cost:
        """Measure candidates beside the source, in one run; the source's cost by that run."""
        timed = {
            name: measure.Measured(one.target.runtime, one.made.file)
            for name in names
            if (one := self.candidates[name]).target.runtime and one.cost.finite
        }
        if not self._measured or not timed:
            return self.base
        path = self.folder / "measure.npz"
        if not path.exists():
            self.reference.spread(MEASURED).save(path)
        models = {SOURCE: measure.Measured("onnxruntime", self._fp32().file), **timed}
        latency = measure.measure(self.profile.limits.threads, models, path)
        for name in timed:
            one = self.candidates[name]
            self.candidates[name] = replace(one, cost=structs.replace(one.cost, latency=latency[name]))
        return structs.replace(self.base, latency=latency[SOURCE])

    def _found(self, told: list[TargetReport]) -> Found:
        met = self._meeting()
        if len(met) > 1:
            # Two figures are compared only where they come from one run.
            self.base = self._measure(met)
            met = [name for name in self._meeting() if name in met] or met
        costs = {name: one.cost for name, one in self.candidates.items()}
        chosen = self._choose(costs, met)
        candidate = self.candidates[chosen]
        lacks = list(missing(self.budget, candidate.cost, self.base).values()) if chosen not in met else []
        latency = {name: one.cost.latency for name, one in self.candidates.items() if one.cost.latency}
        if self.base.latency:
            latency = {SOURCE: self.base.latency, **latency}
        return Found(
            chosen=candidate,
            candidates=list(self.candidates.values()),
            rungs=self.rungs,
            targets=told,
            source=self.base,
            lacks=lacks,
            unchecked=unknown(self.budget, candidate.cost),
            front=front.front(costs),
            latency=latency,
        )

    def _choose(self, costs: dict[str, Cost], met: list[str]) -> str:
        if met:
            if not self._measured:
                # The profile's order of preference says what is fast there: int8 before float.
                integers = [n for n in met if self.candidates[n].rung not in FLOAT]
                if integers and not self.budget.limits:
                    return integers[0]
                return front.best(costs, integers or met) or met[0]
            chosen = front.best(costs, met)
            assert chosen is not None
            return chosen

        # Nothing meets it: of what is worth as much as was asked, the one that misses the fewest limits, and is least
        # over them; where speed is limited, none that is slower than fp32.
        limited = self.budget.max_latency_ratio or self.budget.max_latency_p95

        def over(name: str) -> tuple[bool, bool, bool, int, float]:
            cost = costs[name]
            lacks = missing(self.budget, cost, self.base)
            slower = bool(limited) and front.faster(self.base.latency, cost.latency)
            return (not cost.finite, "metric" in lacks, slower, len(lacks), excess(self.budget, cost, self.base))

        return min(costs, key=over)


def with_sizes(model: onnx.ModelProto, data: Data) -> onnx.ModelProto:
    """The model with its inputs' sizes fixed to those of one item: what only asks for sizes can then be folded away."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        if (array := data.inputs.get(value.name)) is None:
            continue
        dims = value.type.tensor_type.shape.dim
        sizes = array.shape[1:] if array.ndim == len(dims) + 1 else (1, *array.shape[1:])
        for dim, size in zip(dims, sizes, strict=True):
            dim.dim_value = size
    return fixed


def refusal(profile: Profile, told: list[TargetReport]) -> str:
    """Why no target of a profile can take the model: each target with what it lacks and the first nodes."""
    lines = []
    for target in told:
        if target.missing:
            lines.append(f"{target.name}: {target.missing}")
        else:
            shown = "; ".join(str(one) for one in target.unsupported[:3])
            more = len(target.unsupported) - 3
            lines.append(f"{target.name} cannot take {shown}" + (f"; and {more} more" if more > 0 else ""))
    return f"device profile {profile.name!r}: " + " | ".join(lines)
