"""The installs of an experiment: run one of them, and record how it went."""

from __future__ import annotations

import time
from dataclasses import dataclass

from edgewise.wire.control import Role
from edgewise.wire.experiment import Policy
from edgewise_agent.serving.inference import Answer, InferenceFailed, Request, ServedModel
from edgewise_agent.serving.quality import InputRefused
from edgewise_agent.serving.routing.record import Experiment, Recorder, experiment


@dataclass(frozen=True)
class Arms:
    """The active install, and the one beside it where there is one. ``device``: our name, for draws by it."""

    active: ServedModel
    other: ServedModel | None
    device: str
    which: Experiment
    recorder: Recorder

    def run(self, role: Role, request: Request, *, apart: bool = False, first: bool = False) -> Answer:
        """Run one install. ``apart``: its answer does not go out; ``first``: before the active one, so that nobody
        knows yet whether an input that it refuses is the application's fault. Raises as the install does."""
        install = self.active if role == "active" or self.other is None else self.other
        started = time.perf_counter()
        try:
            answer = install.answer_alone(request, apart=apart)
        except InputRefused:
            if role != "active" and not first:  # what the active install refuses speaks of the application
                self.recorder.failed(role)
            raise
        except InferenceFailed:
            self.recorder.failed(role)
            raise
        self.recorder.answered(role, time.perf_counter() - started)
        return answer

    def begin(self) -> None:
        """What they answer from now on belongs to this experiment."""
        for install in (self.active, self.other):
            if install is not None:
                install.join(self.which)

    def end(self) -> None:
        """And to none from now on."""
        for install in (self.active, self.other):
            if install is not None:
                install.join(None)


def arms_of(policy: Policy, active: ServedModel, other: ServedModel | None, device: str) -> Arms:
    """The arms of the experiment that a policy is about."""
    versions = {one.role: one.model.manifest.version for one in (active, other) if one is not None}
    which = experiment(policy, {str(role): version for role, version in versions.items()})
    return Arms(active, other, device, which, active.feedback.records.of(which, time.monotonic(), time.time()))
