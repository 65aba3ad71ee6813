"""A/B and canary by requests: one install answers, or the other. The draw is ``choose``'s."""

from __future__ import annotations

from edgewise.wire.experiment import AB, CanaryRequests
from edgewise_agent.serving.inference import Answer, InferenceFailed, Request
from edgewise_agent.serving.quality import InputRefused
from edgewise_agent.serving.routing.arms import Arms
from edgewise_agent.serving.routing.choose import choose


class Sharing:
    """A candidate that fails, or refuses what it is given, costs itself only: the active install answers, and the
    request counts for the candidate as an error."""

    def __init__(self, policy: AB | CanaryRequests, arms: Arms) -> None:
        self.policy, self._arms = policy, arms

    def answer(self, request: Request) -> Answer:
        """By one of the two; ``arm`` says by which."""
        arms = self._arms
        if choose(self.policy, request=request.id, key=request.key, device=arms.device) == "candidate":
            try:
                answer = arms.run("candidate", request)
            except (InputRefused, InferenceFailed):
                return arms.active.answer_alone(request)
            answer.parameters["arm"] = "candidate"
            return answer
        answer = arms.run("active", request)
        answer.parameters["arm"] = "active"
        return answer

    def close(self) -> None:
        """Nothing to stop."""
