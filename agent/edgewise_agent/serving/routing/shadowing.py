"""A shadow sees a share of the requests after their answers are given, on a thread of its own, and is compared."""

from __future__ import annotations

from edgewise.wire.experiment import Shadow
from edgewise_agent.serving.inference import Answer, InferenceFailed, Request
from edgewise_agent.serving.quality import InputRefused
from edgewise_agent.serving.routing.arms import Arms
from edgewise_agent.serving.routing.choose import mirrored
from edgewise_agent.serving.routing.compare import compare
from edgewise_agent.serving.routing.mirror import Mirror


class Shadowing:
    """Neither slows nor fails an answer: where the shadow has too much to do, it does not see the request."""

    def __init__(self, policy: Shadow, arms: Arms) -> None:
        self.policy, self._arms, self._mirror = policy, arms, Mirror()

    def answer(self, request: Request) -> Answer:
        """By the active install."""
        answer = self._arms.run("active", request)
        answer.parameters["arm"] = "active"
        if mirrored(self.policy, request=request.id):
            feedback = self._arms.active.feedback
            feedback.expect(request.id)
            if not self._mirror.offer(lambda: self._see(request, answer)):
                feedback.seen(request.id)
                self._arms.recorder.count("compared", dropped=1)
        return answer

    def close(self) -> None:
        """Its time is over; what waits is let go."""
        self._mirror.close()
        self._arms.active.feedback.expect_none()

    def _see(self, request: Request, went_out: Answer) -> None:
        try:
            answer = self._arms.run("shadow", request, apart=True)
        except (InputRefused, InferenceFailed):
            return  # counted
        finally:
            self._arms.active.feedback.seen(request.id)
        output = self._arms.active.model.manifest.scores
        comparison = compare(went_out.outputs[output], answer.outputs[output]) if output is not None else None
        if comparison is not None:
            self._arms.recorder.compared(comparison)
