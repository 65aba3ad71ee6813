"""A run of structured pruning: cut a little where most is saved for what is lost, recover, and again.

What decides is in ``widths``; what cuts is in ``dependency``; what matters is in ``importance``; what a cut saves is
measured (``latency``) or, where only multiply-adds are the goal, counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from torch import Tensor

from edgewise_compiler.data import Feed
from edgewise_compiler.errors import CompileError
from edgewise_compiler.passes import Refusal, Work
from edgewise_compiler.passes.prune import PruneConfig
from edgewise_compiler.training import norms
from edgewise_compiler.training.dependency import Group, count_macs, count_parameters, cut, find_groups, widths
from edgewise_compiler.training.importance import importances, least_important
from edgewise_compiler.training.latency import Timing, compare
from edgewise_compiler.training.lessons import Lesson, lesson_of, module_of, save
from edgewise_compiler.training.onnx_torch import write_back
from edgewise_compiler.training.recover import Teacher, recover, seeded, teach
from edgewise_compiler.training.widths import Cut, Goal, options, order, toward

MAX_TABLES = 6
"""Tables of what cuts save that are made in one step."""
SURE = 3.0
"""Standard errors that a saving has to exceed."""
FAR = 1.15
"""One table serves for several cuts while the goal is farther away than this; nearer, each cut is weighed anew."""
CHECK_S = 1.0
"""Seconds that measuring what was reached takes."""


def prune(work: Work) -> None:
    """Prune the work's model. Raises Refusal, with the layers and why, where nothing can be cut."""
    config: PruneConfig = work.config
    if config.widths is None and config.speedup is None and config.macs is None:
        raise CompileError("prune: expected a goal: speedup, macs or widths", code="cannot-plan")
    lesson = lesson_of(work)
    index = None if lesson.scores is None else lesson.outputs.index(lesson.scores)
    free = work.embedding if config.embedding else None
    with seeded(work.seed, config.threads):
        work.progress(0.0, "look for channels that can go")
        groups, refused = find_groups(lesson.model, lesson.example(), config.round_to, free)
        if not groups:
            raise Refusal("no channels can be cut out of this graph", refused)
        teacher = teach(lesson.module, lesson.feeds, index)
        macs = count_macs(lesson.model, lesson.feeds)
        model = norms.insert(lesson.model, lesson.module, lesson.feeds, teacher) if config.normalize else lesson.model
    run = _Run(work, config, lesson, groups, teacher, index, free, macs, model)
    for step in range(1, config.steps + 1):
        with seeded(work.seed + step, config.threads):
            if config.widths is not None:
                run.cut_toward(config.widths, step)
            else:
                run.cut_until(Goal(config.speedup, config.macs).at(step, config.steps), step)
        run.recover(step)
    run.model = norms.remove(run.model)
    run.report(len(refused))
    save(run.model, work.out)


@dataclass
class _Run:
    """The present model, and what it is held against. ``free``: the output that may become narrower."""

    work: Work
    config: PruneConfig
    lesson: Lesson
    groups: list[Group]
    teacher: Teacher
    score_index: int | None
    free: str | None
    macs_before: int
    model: onnx.ModelProto

    def cut_toward(self, wanted: Mapping[str, int], step: int) -> None:
        """This step's part of the way to given widths."""
        start = {group.root: group.width for group in self.groups}
        wrong = [root for root, width in wanted.items() if width > start.get(root, 0)]
        if wrong:
            known = ", ".join(f"{root} (at most {width})" for root, width in start.items())
            raise Refusal(f"cannot cut {', '.join(wrong)} to the width asked for; what can be cut is {known}")
        now = toward(start, wanted, step, self.config.steps, self.config.round_to)
        importance = self._importances(step, 0)
        self.model = self._narrower({root: w for root, w in now.items() if w < len(importance[root])}, importance)

    def cut_until(self, goal: Goal, step: int) -> None:
        """Cut until this step's part of the goal is reached, or nothing more is to be gained."""
        for number in range(MAX_TABLES):
            speedup, macs = self._reached()
            if goal.met(speedup, macs):
                return
            importance = self._importances(step, number)
            ordered = order(self._table(importance), goal.need(speedup, macs))
            if not ordered:
                self.work.notes.append("cutting ended early: no narrower layer saves anything that can be measured")
                return
            for chosen in ordered[: max(1, len(self.groups) // 2)]:
                self.model = self._narrower({chosen.root: chosen.keep}, importance)
                speedup, macs = self._reached()
                if goal.met(speedup, macs):
                    return
                if not goal.far(speedup, macs, FAR):
                    break

    def recover(self, step: int) -> None:
        """Train the present model; the last step's recovery is the long one."""
        config, last = self.config, step == self.config.steps
        epochs = config.step_epochs + (config.epochs if last else 0)
        total = config.steps * config.step_epochs + config.epochs
        done = (step - 1) * config.step_epochs

        def progress(fraction: float, text: str) -> None:
            self.work.progress((done + fraction * epochs) / max(1, total), f"cut {step} of {config.steps}: {text}")

        module = module_of(self.model)
        recover(
            module,
            self.teacher,
            self.lesson.feeds,
            self.lesson.labels,
            outputs=self.lesson.outputs,
            scores=self.lesson.scores,
            config=config.part(epochs, total),
            seed=self.work.seed + step,
            progress=progress,
            notes=self.work.notes if last else None,
        )
        self.model = write_back(module, self.model)

    def report(self, refused: int) -> None:
        """What was cut, as notes."""
        macs, (fp32, pruned) = self._macs(), self._compare([self.lesson.model, self.model], 2 * CHECK_S)
        parameters = count_parameters(self.lesson.model), count_parameters(self.model)
        now = self._widths()
        narrower = {group.root: now[group.root] for group in self.groups if now[group.root] < group.width}
        self.work.notes += [
            f"multiply-adds {self.macs_before} -> {macs} ({self.macs_before / macs:.2f}x fewer), parameters "
            f"{parameters[0]} -> {parameters[1]} ({parameters[0] / parameters[1]:.2f}x fewer)",
            f"measured in fp32 on onnxruntime, one thread: {fp32.ms:.4f} -> {pruned.ms:.4f} ms "
            f"({fp32.ms / pruned.ms:.2f}x as fast)",
            f"widths {json.dumps(narrower)}",
            f"{len(self.groups)} groups of channels could be cut, {refused} could not",
        ]
        speedup = self.config.speedup
        if self.config.widths is None and speedup is not None and fp32.ms / pruned.ms < 0.95 * speedup:
            self.work.notes.append(f"{speedup:g}x as fast was asked for and not reached")

    def _reached(self) -> tuple[float | None, float]:
        """(times faster, where that is a goal; share of the multiply-adds left)."""
        macs = self._macs() / self.macs_before
        if self.config.speedup is None:
            return None, macs
        before, now = self._compare([self.lesson.model, self.model], CHECK_S)
        return before.ms / now.ms, macs

    def _table(self, importance: Mapping[str, Tensor]) -> list[Cut]:
        """What each possible cut saves, of the latency or of the multiply-adds, and what it loses."""
        round_to = self.config.round_to
        candidates = [(root, keep) for root, now in self._widths().items() for keep in options(now, round_to)]
        models = [self._narrower({root: keep}, importance) for root, keep in candidates]
        if self.config.speedup is None:
            macs = self._macs()
            saved = [(macs - count_macs(model, self.lesson.feeds)) / macs for model in models]
        else:
            base, *timings = self._compare([self.model, *models], self.config.measure_seconds)
            saved = [saving(base, timing) for timing in timings]
        lost = [least_important(importance[root], len(importance[root]) - keep)[1] for root, keep in candidates]
        return [Cut(*of, saves, loses) for of, saves, loses in zip(candidates, saved, lost, strict=True)]

    def _narrower(self, to: Mapping[str, int], importance: Mapping[str, Tensor]) -> onnx.ModelProto:
        channels = {
            root: least_important(importance[root], len(importance[root]) - keep)[0] for root, keep in to.items()
        }
        return cut(self.model, self.lesson.example(), channels, self.free)

    def _importances(self, step: int, number: int) -> dict[str, Tensor]:
        return importances(
            self.model,
            self.groups,
            self.lesson.feeds,
            self.teacher,
            self.score_index,
            self.config.importance,
            np.random.default_rng([self.work.seed, step, number]),
        )

    def _widths(self) -> dict[str, int]:
        return widths(module_of(self.model), self.groups)

    def _macs(self) -> int:
        return count_macs(self.model, self.lesson.feeds)

    def _compare(self, models: list[onnx.ModelProto], seconds: float) -> list[Timing]:
        named = zip(self.lesson.module.input_names, self.lesson.example(), strict=True)
        feed: Feed = {name: tensor.numpy() for name, tensor in named}
        return compare(models, feed, seconds)


def saving(base: Timing, narrower: Timing) -> float:
    """The share of the latency that is saved; zero where it is inside the noise: of a dozen cuts in a table, one that
    saves nothing would else be taken for one that does, and cost accuracy."""
    saved = base.ms - narrower.ms
    return saved / base.ms if saved > SURE * math.hypot(base.noise_ms, narrower.noise_ms) else 0.0
