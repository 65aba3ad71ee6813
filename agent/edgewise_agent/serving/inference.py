"""One request, from its arrays to its answer: check quality, infer, record. Runs on a thread of the inference pool."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgewise.errors import EdgewiseError
from edgewise.wire.windows import Sample
from edgewise_agent.runtimes import Arrays, RuntimeFailure
from edgewise_agent.serving import quality
from edgewise_agent.serving.channel import SampleTaken
from edgewise_agent.serving.feedback import Answered, Requests
from edgewise_agent.serving.model import Model, nonfinite_rows
from edgewise_agent.serving.options import Quality
from edgewise_agent.windows.collector import Collector

Parameter = str | int | float | bool
MAX_SAMPLE = 96 * 1024
"""Bytes of an input that can be sampled: what a ``Sample`` on the wire holds."""


class InferenceFailed(EdgewiseError):
    """The model failed, or gave what cannot be answered."""

    code = "inference-failed"


@dataclass(frozen=True)
class Request:
    """One request. ``key``: what A/B tests are drawn by; ``outputs``: the wanted ones; empty: the usual."""

    id: str
    inputs: Arrays
    key: str | None = None
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """Every output by name, the version that gave it, and what the answer says besides."""

    outputs: Arrays
    model_version: int
    parameters: dict[str, Parameter] = field(default_factory=dict)


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
    """Who shares a model's requests: ``routing.router.Router``."""

    def answer(self, request: Request) -> Answer:
        """By one install or another."""

    def label(self, item: str, label: int) -> bool:
        """False for an item that it did not see."""


class ServedModel:
    """A model that takes requests: its collector and its last requests with it.

    ``route``: while there is an experiment, what shares the requests between this install and another.
    """

    route: Route | None = None

    def __init__(
        self, model: Model, collector: Collector, busy: Busy, sampling: bool, policy: Quality | None = None
    ) -> None:
        self.model, self.collector, self.sampling = model, collector, sampling
        self.checker = quality.Checker(model.manifest, policy)
        self._requests, self._busy = Requests(), busy

    def answer(self, request: Request) -> Answer:
        """Answer one request, by this install or by one beside it. Raises InputRefused or InferenceFailed."""
        route = self.route
        return self.answer_alone(request) if route is None else route.answer(request)

    def answer_alone(self, request: Request) -> Answer:
        """Answer one request by this install. Raises InputRefused or InferenceFailed; both are counted."""
        started = time.perf_counter()
        checked = self._check(request.inputs)
        outputs = self._run(checked.inputs, checked.items)
        self._record(
            request.id, checked.inputs, outputs, checked.items, checked.out_of_bounds, time.perf_counter() - started
        )
        parameters: dict[str, Parameter] = {"quality": "; ".join(checked.flags)} if checked.flags else {}
        return Answer(outputs, self.model.manifest.version, parameters)

    def _check(self, inputs: Arrays) -> quality.Checked:
        try:
            return self.checker.check(inputs)
        except quality.InputRefused as refused:
            self.collector.count(refused.count, refused.items)
            raise

    def _run(self, inputs: Arrays, items: int) -> Arrays:
        try:
            with self._busy:
                outputs = self.model.runtime.infer(inputs)
        except RuntimeFailure as error:
            self.collector.count("errors", items)
            raise InferenceFailed(str(error)) from error
        bad = int(nonfinite_rows(self.model.manifest.outputs, outputs, items).sum())
        if bad:
            self.collector.count("nonfinite_outputs", bad)
            raise InferenceFailed("model gave a value that is not finite")
        return outputs

    def _record(
        self, request: str, inputs: Arrays, outputs: Arrays, items: int, outside: int, latency_s: float
    ) -> None:
        manifest = self.model.manifest
        scores = outputs[manifest.scores] if manifest.scores else None
        embeddings = outputs[manifest.embedding] if manifest.embedding else None
        self.collector.record(items, outside, latency_s, scores, embeddings)
        predictions = None if scores is None else scores.argmax(axis=1).tolist()
        now, first = time.time(), next(iter(inputs.values()))
        keep = self.sampling and items == 1 and len(inputs) == 1 and first.ndim > 0 and first.nbytes <= MAX_SAMPLE
        for i in range(items):
            name = request if items == 1 else f"{request}/{i}"
            data = np.ascontiguousarray(first[0]).tobytes() if keep else None
            self._requests.add(name, Answered(None if predictions is None else predictions[i], now, data))

    def label(self, request: str, label: int, sampled: Callable[[SampleTaken], None]) -> bool:
        """A label came: count it, and give the sample away if its input was kept. False for an unknown id."""
        shared = self.route is not None and self.route.label(request, label)
        found = self._requests.label(request)
        if found is None:
            return shared
        answered, data = found
        if answered.labelled:
            return True
        self.collector.label(correct=answered.prediction == label)
        if self.sampling and data is not None:
            manifest, tensor = self.model.manifest, self.model.manifest.inputs[0]
            dtype = tensor.datatype
            sample = Sample(request=request, input=data, label=label, prediction=answered.prediction, at=answered.at)
            sampled(
                SampleTaken(
                    model=manifest.model,
                    version=manifest.version,
                    bundle=self.model.bundle,
                    dtype=dtype,
                    shape=tensor.shape[1:],
                    sample=sample,
                )
            )
        return True

    def configure(self, window_s: float, sampling: bool) -> None:
        """New settings from the desired state and the owner's consent."""
        self.collector.window_s = window_s
        self.sampling = sampling
        if not sampling:
            self._requests.forget_inputs()
