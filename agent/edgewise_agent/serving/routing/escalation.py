"""Escalation: where the active install is not sure, a server is asked, and the local answer is what it falls back on.

A label counts for the local answer: what is to be learned is how good the install on the device is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgewise.errors import EdgewiseError
from edgewise.sketch.histogram import confidence
from edgewise.wire.experiment import Escalate
from edgewise_agent.runtimes import Arrays
from edgewise_agent.serving.inference import Answer, Request
from edgewise_agent.serving.routing.arms import Arms


@dataclass(frozen=True)
class Reply:
    """What a server answered, and the bytes that it took both ways."""

    outputs: Arrays
    bytes: int


class Unanswered(EdgewiseError):
    """No answer. ``asked``: was the server? ``bytes``: that were spent on it."""

    code = "unanswered"

    def __init__(self, message: str, *, asked: bool = False, spent: int = 0) -> None:
        super().__init__(message)
        self.asked, self.bytes = asked, spent


Ask = Callable[[Arrays, list[str]], Reply]
"""Asks for these outputs of these inputs. Raises Unanswered."""


class Escalation:
    """``escalated`` among an answer's parameters says whether a server gave it; the embedding is always ours."""

    def __init__(self, policy: Escalate, arms: Arms, ask: Ask) -> None:
        self.policy, self._arms, self._ask = policy, arms, ask

    def answer(self, request: Request) -> Answer:
        """By the active install, or by the server. Raises as the active install does."""
        answer = self._arms.run("active", request)
        answer.parameters["arm"] = "active"
        manifest = self._arms.active.model.manifest
        if manifest.scores is None:
            return answer
        scores = answer.outputs[manifest.scores]
        if float(confidence(scores).min()) >= self.policy.threshold:  # type: ignore[arg-type]
            return answer
        names = [tensor.name for tensor in manifest.outputs if tensor.name != manifest.embedding]
        try:
            reply = self._ask(request.inputs, names)
            outputs = _fitting(reply, answer.outputs, names)
        except Unanswered as error:
            self._arms.recorder.count("escalated", asked=int(error.asked), fallbacks=1, bytes=error.bytes)
            answer.parameters["escalated"] = False
            return answer
        changed = bool((outputs[manifest.scores].argmax(axis=1) != scores.argmax(axis=1)).any())
        self._arms.recorder.count("escalated", asked=1, answered=1, changed=int(changed), bytes=reply.bytes)
        answer.outputs.update(outputs)
        answer.parameters["escalated"] = True
        return answer

    def close(self) -> None:
        """Nothing to stop."""


def _fitting(reply: Reply, ours: Arrays, names: list[str]) -> Arrays:
    """The outputs, each as ours is. Raises Unanswered."""
    for name in names:
        theirs = reply.outputs.get(name)
        if theirs is None or (theirs.dtype, theirs.shape) != (ours[name].dtype, ours[name].shape):
            raise Unanswered(f"output {name}: not what this model gives", asked=True, spent=reply.bytes)
    return {name: reply.outputs[name] for name in names}
