"""One model's requests, shared between its active install and the one beside it, by the policy of an experiment.

Rules that hold here:
- a candidate that fails, or refuses what it is given, costs itself only: the active install answers, and the request
  counts for the candidate as an error;
- a shadow runs after the answer is given, on a thread of its own; it neither slows nor fails it;
- what it saw is ``Sums`` of this experiment alone; another experiment begins with empty ones.
"""

from __future__ import annotations

import time

import numpy as np

from edgewise.bundle import Manifest
from edgewise.errors import EdgewiseError
from edgewise.sketch.histogram import confidence
from edgewise.wire.control import Role
from edgewise.wire.experiment import Policy
from edgewise_agent.serving.channel import ExperimentClosed
from edgewise_agent.serving.inference import Answer, InferenceFailed, Request, ServedModel
from edgewise_agent.serving.quality import InputRefused
from edgewise_agent.serving.routing.choose import choose, mirrored
from edgewise_agent.serving.routing.compare import compare
from edgewise_agent.serving.routing.mirror import Mirror
from edgewise_agent.serving.routing.record import Predicted, Recorder


class CannotShare(EdgewiseError):
    """Two installs that do not take and give the same cannot share requests."""

    code = "other-signature"


def check_same(active: Manifest, other: Manifest) -> None:
    """Do both take the same inputs and give the same outputs? Raises CannotShare."""
    if (active.inputs, active.outputs, active.scores) != (other.inputs, other.outputs, other.scores):
        raise CannotShare(
            f"expected the inputs and outputs of version {active.version}: {active.inputs} -> {active.outputs}, "
            f"got {other.inputs} -> {other.outputs}"
        )


class Router:
    """``other`` has the duty ``role``: candidate or shadow; both passed ``check_same``. ``device``: for draws by it."""

    def __init__(self, active: ServedModel, other: ServedModel, role: Role, policy: Policy, device: str) -> None:
        self._active, self._other, self._role, self._policy, self._device = active, other, role, policy, device
        self._recorder = Recorder(time.monotonic(), time.time())
        self._mirror = Mirror() if role == "shadow" else None

    def answer(self, request: Request) -> Answer:
        """Answer by one of the two. Raises as the active install does."""
        policy = self._policy
        if choose(policy, request=request.id, key=request.key, device=self._device) == self._role:
            try:
                return self._run(self._role, request)
            except (InputRefused, InferenceFailed):
                return self._active.answer_alone(request)
        answer = self._run("active", request)
        mirror = self._mirror if mirrored(policy, request=request.id) else None
        if mirror is not None and not mirror.offer(lambda: self._shadow(request, answer)):
            self._recorder.dropped()
        return answer

    def label(self, item: str, label: int) -> bool:
        """A label, for whichever installs answered; False for an item that this experiment did not see."""
        return self._recorder.label(item, label)

    def configure(self, policy: Policy) -> None:
        """The same experiment with other shares. (Another experiment is another router.)"""
        self._policy = policy

    def same(self, policy: Policy) -> bool:
        """Is this the experiment that it carries out, perhaps with other shares?"""
        return type(policy) is type(self._policy) and policy.experiment == self._policy.experiment

    def poll(self, now: float, clock: float, window_s: float, *, last: bool = False) -> ExperimentClosed | None:
        """The window of the experiment, if it is over and not empty. ``now`` monotonic, ``clock`` Unix seconds."""
        closed = self._recorder.poll(now, clock, window_s, last=last)
        if closed is None:
            return None
        start, duration, sums = closed
        manifest = self._active.model.manifest
        return ExperimentClosed(
            model=manifest.model,
            experiment=self._policy.experiment,
            kind=str(type(self._policy).__struct_config__.tag),
            versions={"active": manifest.version, self._role: self._other.model.manifest.version},
            start=start,
            duration=duration,
            sums=sums,
        )

    def close(self) -> None:
        """Its time is over."""
        if self._mirror is not None:
            self._mirror.close()

    def _run(self, role: Role, request: Request) -> Answer:
        """Run one install, and record how it went."""
        install = self._active if role == "active" else self._other
        started = time.perf_counter()
        try:
            answer = install.answer_alone(request)
        except InputRefused:
            if role != "active":  # what the active install refuses speaks of the application
                self._recorder.failed(role)
            raise
        except InferenceFailed:
            self._recorder.failed(role)
            raise
        self._recorder.answered(role, time.perf_counter() - started)
        output = install.model.manifest.scores
        if output is not None:
            scores = answer.outputs[output].astype(np.float64)
            found = zip(scores.argmax(axis=1).tolist(), confidence(scores).tolist(), strict=True)
            for i, (prediction, sure) in enumerate(found):
                item = request.id if len(scores) == 1 else f"{request.id}/{i}"
                self._recorder.predicted(item, Predicted(role, prediction, sure))
        if role != "shadow":
            answer.parameters["arm"] = role
        return answer

    def _shadow(self, request: Request, went_out: Answer) -> None:
        try:
            answer = self._run("shadow", request)
        except (InputRefused, InferenceFailed):
            return  # counted
        output = self._active.model.manifest.scores
        comparison = compare(went_out.outputs[output], answer.outputs[output]) if output is not None else None
        if comparison is not None:
            self._recorder.compared(comparison)
