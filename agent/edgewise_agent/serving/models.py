"""The models of a serve child: opened, routed, set anew, and their windows given away.

The child imports this once it is told of a model: without one it needs neither NumPy nor a runtime.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgewise.wire.control import Role
from edgewise.wire.experiment import Escalate
from edgewise.wire.quality import decided
from edgewise_agent.serving.channel import FromChild, Load, LoadFailed, ServeModel
from edgewise_agent.serving.feedback import Feedback
from edgewise_agent.serving.inference import Busy, ServedModel
from edgewise_agent.serving.model import Model, ModelFailure, batching, open_model
from edgewise_agent.serving.routing.arms import Arms, arms_of
from edgewise_agent.serving.routing.choose import needed
from edgewise_agent.serving.routing.escalation import Ask
from edgewise_agent.serving.routing.router import CannotShare, Strategy, check_same, strategy
from edgewise_agent.windows.collector import Collector


class Models:
    """``served``: those that could be opened, by name; what runs beside them is in their experiments alone."""

    def __init__(self, load: Load, say: Callable[[FromChild], None]) -> None:
        """``say``: called with what the supervisor shall hear, from any thread."""
        self._loaded, self._options, self._say = load, load.options, say
        self._busy = Busy()
        self.served: dict[str, ServedModel] = {}
        self._others: dict[tuple[str, str], ServedModel] = {}
        self._experiments: dict[str, tuple[Strategy, Arms]] = {}

    def longest(self, now: float) -> float:
        """Seconds that the oldest inference, or a model that is opened, has taken."""
        return self._busy.longest(now)

    def open(self) -> list[str]:
        """Open them, one after another; the runtimes that they need."""
        runtimes: set[str] = set()
        answers = self._loaded.answers
        for wish in self._loaded.models:
            try:
                with self._busy:
                    model = self._open(wish.bundle)
            except ModelFailure as error:
                self._say(LoadFailed(model=wish.model, bundle=wish.bundle, code=error.code, reason=str(error)[:1000]))
                continue
            runtimes.add(model.runtime.version)
            folder = None if answers is None else Path(answers)
            feedback = Feedback(wish.model, folder, privacy=self._options.privacy)
            self.served[wish.model] = self._serving(model, wish, self._busy, feedback)
            self._load_others(wish)
            self._route(wish)
        return sorted(runtimes)

    def _open(self, bundle: str) -> Model:
        return batching(open_model(bundle, Path(self._loaded.blobs), self._loaded.threads), self._options)

    def _load_others(self, wish: ServeModel) -> None:
        """Open what runs beside a model. One that fails is told of, and costs the model nothing."""
        active = self.served[wish.model]
        for role, bundle in wish.others.items():
            try:
                with self._busy:
                    model = self._open(bundle)
                check_same(active.model.manifest, model.manifest)
            except (ModelFailure, CannotShare) as error:
                failed = LoadFailed(
                    model=wish.model, bundle=bundle, code=error.code, reason=str(error)[:1000], role=role
                )
                self._say(failed)
                continue
            # a shadow that hangs must not silence the heartbeat
            busy = Busy() if role == "shadow" else self._busy
            self._others[wish.model, role] = self._serving(model, wish, busy, active.feedback, role)

    def _serving(
        self, model: Model, wish: ServeModel, busy: Busy, feedback: Feedback, role: Role = "active"
    ) -> ServedModel:
        collector = Collector(
            model=model.manifest.model,
            version=model.manifest.version,
            bundle=model.bundle,
            spec=model.spec,
            spec_digest=model.spec_digest,
            projection=model.projection,
            window_s=wish.window_s,
            now=time.monotonic(),
            clock=time.time(),
            privacy=self._options.privacy,
        )
        quality = decided(self._options.quality, wish.quality)
        return ServedModel(model, collector, busy, wish.sampling, quality, feedback, role)

    def _route(self, wish: ServeModel) -> None:
        """Share the requests as the policy says, where what it needs is here."""
        served, policy, role = self.served[wish.model], wish.policy, needed(wish.policy)
        other = self._others.get((wish.model, role)) if role is not None else None
        running = self._experiments.pop(wish.model, None)
        if running is not None and running[0].policy == policy:
            self._experiments[wish.model] = running
            return
        if running is not None:
            served.route = None
            running[0].close()
            running[1].end()
        if policy is not None and (role is None or other is not None):
            arms = arms_of(policy, served, other, self._loaded.device)
            arms.begin()
            served.route = chosen = strategy(policy, arms, lambda escalate: self._ask(wish.model, escalate))
            self._experiments[wish.model] = chosen, arms

    def _ask(self, model: str, policy: Escalate) -> Ask:
        """How a server is asked for a model."""
        from edgewise_agent.serving.routing.budget import Budget  # here: http.client and ssl take memory
        from edgewise_agent.serving.routing.remote import Server as Remote

        answers = self._loaded.answers
        budget = Budget(None if answers is None else Path(answers) / f"{model}.budget", policy.bytes_per_day)
        options = self._options
        return Remote(policy, options.escalate_to, budget, max(1, options.running - 1), options.escalate_tokens)

    def configure(self, models: list[ServeModel]) -> None:
        """What the desired state and the owner's consent now say."""
        for wish in models:
            served = self.served.get(wish.model)
            if served is not None and served.model.bundle == wish.bundle:
                quality = decided(self._options.quality, wish.quality)
                for one in (served, *(other for (model, _), other in self._others.items() if model == wish.model)):
                    one.configure(wish.window_s, wish.sampling, quality)
                self._route(wish)

    def report(self, *, last: bool = False) -> None:
        """Say the windows that are over, or the ``last``."""
        for name in list(self.served):
            self._report(name, last=last)

    def _report(self, name: str, *, last: bool) -> None:
        served, running, now, clock = self.served[name], self._experiments.get(name), time.monotonic(), time.time()
        for one in (served, *(other for (model, _), other in list(self._others.items()) if model == name)):
            window = one.collector.poll(now, clock, last=last)
            if window is not None:
                self._say(msgspec.structs.replace(window, duty=one.role, quality=one.checker.take()))
        current = None if running is None else running[1].which
        for closed in served.feedback.poll(current, now, clock, served.collector.window_s, last=last):
            self._say(closed)
