"""One request, from its arrays to its answer: check quality, infer, record. Runs on the thread that heard it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np

from edgewise.errors import EdgewiseError
from edgewise.sketch.histogram import confidence
from edgewise.wire.control import Role
from edgewise.wire.quality import Quality
from edgewise.wire.windows import Sample
from edgewise_agent.runtimes import Arrays, RuntimeFailure
from edgewise_agent.serving import quality
from edgewise_agent.serving.channel import SampleTaken
from edgewise_agent.serving.feedback import APART, Counted, Feedback, Inputs
from edgewise_agent.serving.model import Model, all_finite, nonfinite_rows
from edgewise_agent.serving.routing.record import Experiment
from edgewise_agent.serving.sources import Source
from edgewise_agent.windows.collector import Collector

Parameter = str | int | float | bool
MAX_SAMPLE = 96 * 1024
"""Bytes of an input that can be sampled: what a ``Sample`` on the wire holds."""


class InferenceFailed(EdgewiseError):
    """The model failed, or gave what cannot be answered."""

    code = "inference-failed"


class Request(msgspec.Struct, frozen=True):
    """One request. ``key``: what A/B tests are drawn by; ``outputs``: the wanted ones; empty: the usual."""

    id: str
    inputs: Arrays
    key: str | None = None
    outputs: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """Every output by name, the version that gave it, and what the answer says besides."""

    outputs: Arrays
    model_version: int
    parameters: dict[str, Parameter] = {}


class Busy:
    """Which inferences run, since when: an inference that hangs silences the heartbeat."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._since[threading.get_ident()] = time.monotonic()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            del self._since[threading.get_ident()]

    def longest(self, now: float) -> float:
        """Seconds that the oldest running inference has taken; 0 when none runs."""
        with self._lock:
            return max((now - since for since in self._since.values()), default=0.0)


class Route(Protocol):
    """Who shares a model's requests: a strategy of ``routing.router``."""

    def answer(self, request: Request) -> Answer:
        """By one install or another."""


class ServedModel:
    """A model that takes requests: its collector, and what is remembered of its answers.

    ``route``: while there is an experiment, what shares the requests between this install and another.
    """

    route: Route | None = None

    def __init__(
        self,
        model: Model,
        collector: Collector,
        busy: Busy,
        sampling: bool,
        policy: Quality | None = None,
        feedback: Feedback | None = None,
        role: Role = "active",
    ) -> None:
        """``feedback``: of the model, all its installs together; None: in memory, for this one alone."""
        self.model, self.collector, self.sampling, self.role = model, collector, sampling, role
        self.checker = quality.Checker(model.manifest, policy)
        self.feedback = feedback or Feedback(model.manifest.model)
        self._inputs, self._busy = Inputs(), busy
        self.join(None)

    def join(self, experiment: Experiment | None) -> None:
        """What is answered from now on belongs to this experiment, or to none."""
        model = self.model
        source = Source(
            bundle=model.bundle,
            version=model.manifest.version,
            spec=model.spec_digest,
            classes=model.spec.classes,
            role=self.role,
            experiment=experiment,
        )
        self.experiment = experiment
        self.source = self.feedback.sources.add(source)

    def answer(self, request: Request) -> Answer:
        """Answer one request, by this install or by one beside it. Raises InputRefused or InferenceFailed."""
        route = self.route
        return self.answer_alone(request) if route is None else route.answer(request)

    def answer_alone(self, request: Request, *, apart: bool = False) -> Answer:
        """Answer one request by this install. Raises InputRefused or InferenceFailed; both are counted.

        ``apart``: the answer does not go out, and another one does by the same id.
        """
        started = time.perf_counter()
        checked = self._check(request.inputs)
        outputs = self._run(checked.inputs, checked.items)
        name = APART + request.id if apart else request.id
        self._record(name, checked.inputs, outputs, checked.items, checked.out_of_bounds, time.perf_counter() - started)
        parameters: dict[str, Parameter] = {"quality": "; ".join(checked.flags)} if checked.flags else {}
        return Answer(outputs, self.model.manifest.version, parameters)

    def _check(self, inputs: Arrays) -> quality.Checked:
        try:
            return self.checker.check(inputs)
        except quality.InputRefused as refused:
            self.collector.count(refused.count, refused.items)
            if refused.count == "nonfinite_inputs":
                self.collector.refused(inputs)
            raise

    def _run(self, inputs: Arrays, items: int) -> Arrays:
        try:
            with self._busy:
                outputs = self.model.runtime.infer(inputs)
        except RuntimeFailure as error:
            self.collector.count("errors", items)
            raise InferenceFailed(str(error)) from error
        if not all_finite(outputs):
            bad = int(nonfinite_rows(self.model.manifest.outputs, outputs, items).sum())
            self.collector.count("nonfinite_outputs", bad)
            raise InferenceFailed("model gave a value that is not finite")
        return outputs

    def _record(
        self, request: str, inputs: Arrays, outputs: Arrays, items: int, outside: int, latency_s: float
    ) -> None:
        manifest = self.model.manifest
        scores = outputs[manifest.scores] if manifest.scores else None
        embeddings = outputs[manifest.embedding] if manifest.embedding else None
        self.collector.record(items, outside, latency_s, scores, embeddings, inputs)
        if scores is None or scores.ndim != 2:
            predictions, sure = [-1] * items, [0.0] * items
        else:
            predictions = scores.argmax(axis=1).tolist()
            sure = [0.0] * items if self.experiment is None else confidence(scores).tolist()  # type: ignore[arg-type]
        names = [request] if items == 1 else [f"{request}/{i}" for i in range(items)]
        for name, prediction, confident in zip(names, predictions, sure, strict=True):
            self.feedback.answered(self.source, name, prediction, confident)
        first = next(iter(inputs.values()))
        if self.sampling and items == 1 and len(inputs) == 1 and first.ndim > 0 and first.nbytes <= MAX_SAMPLE:
            self._inputs.keep(request, time.time(), np.ascontiguousarray(first[0]).tobytes())

    def label(self, item: str, label: int, sampled: Callable[[SampleTaken], None]) -> Counted:
        """A label came: count it, and give the sample away if its input was kept."""
        found = self.feedback.label(item, label, self.model.bundle, self.collector.open_s(time.monotonic()))
        if found.counted != "counted":
            self.collector.count(found.counted)
            return found.counted
        if found.fresh:
            self.collector.label(label, found.prediction)
        kept = self._inputs.take(item)
        if self.sampling and kept is not None:
            manifest, tensor = self.model.manifest, self.model.manifest.inputs[0]
            at, data = kept
            sampled(
                SampleTaken(
                    model=manifest.model,
                    version=manifest.version,
                    bundle=self.model.bundle,
                    dtype=tensor.datatype,
                    shape=tensor.shape[1:],
                    sample=Sample(request=item, input=data, label=label, prediction=found.prediction, at=at),
                )
            )
        return "counted"

    def click(self, name: str, items: Sequence[int]) -> Counted:
        """Items of an interleaved ranking were clicked. Raises ValueError for items that it does not have."""
        counted = self.feedback.clicked(name, items)
        if counted != "counted":
            self.collector.count(counted)
        return counted

    def configure(self, window_s: float, sampling: bool, policy: Quality) -> None:
        """New settings from the desired state and the owner."""
        self.collector.window_s = window_s
        self.checker.policy = policy
        self.sampling = sampling
        if not sampling:
            self._inputs.forget()
