"""Judges candidates on the reference: the metric, fidelity to the source, finite outputs."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.metric import Metric
from edgewise_compiler.model import RUNTIME_OF, Answers, Model
from edgewise_compiler.passes import Kind
from edgewise_compiler.runner import Ok


@dataclass(frozen=True)
class Judged:
    """``nonfinite``: items whose answer is NaN or infinite."""

    metric: float
    figures: dict[str, float]
    nonfinite: int


@dataclass
class Judgement:
    """``source``: what the source answered is what fidelity is held against. ``before``: the metric of the source."""

    metric: Metric
    reference: Data
    named: tuple[str | None, str | None]
    source_answers: Answers
    opened_source: Model
    before: float = 0.0
    _kept: dict[str, Judged] = field(default_factory=dict)

    @property
    def source(self) -> Judged:
        """The source itself."""
        return self._judge(self.source_answers)

    def judge(self, made: Ok, kind: Kind) -> Judged:
        """A finished file; the same file is judged once. Raises CompileError."""
        if made.digest not in self._kept:
            self._kept[made.digest] = self._judge(self.answers(made, kind))
        return self._kept[made.digest]

    def answers(self, made: Ok, kind: Kind) -> Answers:
        """What a finished file answers to the reference."""
        if kind not in RUNTIME_OF:
            from edgewise_compiler.passes.executorch import answer

            return answer(made.file, self.reference, self.opened_source)
        return Model(made.file, kind, named=self.named).answer(self.reference)

    def _judge(self, answers: Answers) -> Judged:
        nonfinite = int((~answers.finite()).sum())
        figures = self.metric.figures(answers, self.source_answers, self.reference)
        return Judged(figures[self.metric.name], figures, nonfinite)


def judgement(metric: Metric, reference: Data, named: tuple[str | None, str | None], source: Model) -> Judgement:
    """Answer the reference with the source. Raises CompileError (code ``not-finite``) when that is not finite."""
    answers = source.answer(reference)
    if bad := int((~answers.finite()).sum()):
        raise CompileError(
            f"the model's outputs are NaN or infinite for {bad} of {len(reference)} items of the reference; guard the "
            "model against such inputs",
            code="not-finite",
        )
    made = Judgement(metric, reference, named, answers, source)
    made.before = made.source.metric
    return made
