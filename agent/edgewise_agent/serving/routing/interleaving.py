"""Interleaving: both installs rank, the answer ranks as they drafted, and clicks say who ranked better."""

from __future__ import annotations

from itertools import count

from edgewise.errors import EdgewiseError
from edgewise.wire.experiment import Interleave, draw
from edgewise_agent.serving.inference import Answer, InferenceFailed, Request
from edgewise_agent.serving.quality import InputRefused
from edgewise_agent.serving.routing.arms import Arms
from edgewise_agent.serving.routing.interleave import ranked_scores, ranking, team_draft


class Interleaving:
    """Coins are drawn from the request's id, so that a request that is sent again is drafted again as it was; so is who
    runs first, since whoever does finds the inputs cold, and latencies shall compare. Where the candidate fails, or the
    output is no ranking of one request, the active install's answer stands."""

    def __init__(self, policy: Interleave, arms: Arms) -> None:
        self.policy, self._arms = policy, arms

    def answer(self, request: Request) -> Answer:
        """``arm`` is ``interleaved``, or ``active``."""
        arms, name = self._arms, self.policy.output
        first = draw(self.policy, f"{request.id}\0first") < 0.5
        other = self._candidate(request, first=True) if first else None
        answer = arms.run("active", request)
        answer.parameters["arm"] = "active"
        if isinstance(other, InputRefused):
            arms.recorder.failed("candidate")  # the active install takes it
        other = other if first else self._candidate(request, first=False)
        if other is None or isinstance(other, EdgewiseError):
            return answer
        try:
            ours, theirs = ranking(answer.outputs[name]), ranking(other.outputs[name])
            rounds = count()
            draft = team_draft(ours, theirs, lambda: draw(self.policy, f"{request.id}\0{next(rounds)}") < 0.5)
            answer.outputs[name] = ranked_scores(answer.outputs[name], draft)
        except ValueError:
            return answer
        arms.active.feedback.drafted(arms.active.source, request.id, draft)
        answer.parameters["arm"] = "interleaved"
        return answer

    def _candidate(self, request: Request, *, first: bool) -> Answer | InputRefused | InferenceFailed:
        try:
            return self._arms.run("candidate", request, apart=True, first=first)
        except (InputRefused, InferenceFailed) as error:
            return error

    def close(self) -> None:
        """Nothing to stop."""
