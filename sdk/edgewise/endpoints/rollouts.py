"""Rollouts: from one version to another, in stages, under gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from edgewise.endpoints.base import EVERY_S, Endpoint
from edgewise.resources import DEFAULT_STAGES, Gates, Rollout, RolloutDetail, Stage
from edgewise.transport import segment


class Rollouts(Endpoint):
    """Rollouts, by id."""

    def create(
        self,
        model: str,
        version: int,
        *,
        group: str | None = None,
        stages: Sequence[Stage | str | Mapping[str, float]] = DEFAULT_STAGES,
        gates: Gates | Mapping[str, float | None] | None = None,
    ) -> RolloutDetail:
        """Roll a version out to a group, or to every device. A stage may be text: ``"1"``, ``"25%"``; stages and
        gates may be dicts as the API takes them."""
        body = {
            "model": model,
            "version": version,
            "group": group,
            "stages": [Stage.parse(stage) if isinstance(stage, str) else stage for stage in stages],
            "gates": gates or Gates(),
        }
        return self._transport.post("/rollouts", RolloutDetail, body)

    def list(
        self, *, model: str | None = None, state: str | None = None, limit: int | None = None
    ) -> Sequence[Rollout]:
        """All rollouts, or those of a model or a state."""
        return self._transport.list("/rollouts", Rollout, limit, model=model, state=state)

    def get(self, rollout_id: str) -> RolloutDetail:
        """One rollout, with its devices and its history."""
        return self._transport.get(f"/rollouts/{segment(rollout_id)}", RolloutDetail)

    def pause(self, rollout_id: str) -> RolloutDetail:
        """Take no further device until resumed."""
        return self._transport.post(f"/rollouts/{segment(rollout_id)}/pause", RolloutDetail)

    def resume(self, rollout_id: str) -> RolloutDetail:
        """Go on after a pause."""
        return self._transport.post(f"/rollouts/{segment(rollout_id)}/resume", RolloutDetail)

    def abort(self, rollout_id: str) -> RolloutDetail:
        """End it, and take its devices back to the version before."""
        return self._transport.post(f"/rollouts/{segment(rollout_id)}/abort", RolloutDetail)

    def follow(self, rollout_id: str, *, timeout: float | None = None) -> Iterator[RolloutDetail]:
        """The rollout at first and each time that it changed, until it has ended."""
        for rollout in self._transport.follow(lambda: self.get(rollout_id), every=EVERY_S, timeout=timeout):
            yield rollout
            if rollout.ended:
                return

    def wait(
        self,
        rollout_id: str,
        on_change: Callable[[RolloutDetail], None] | None = None,
        *,
        timeout: float | None = None,
    ) -> RolloutDetail:
        """The rollout once it has ended, however it ended: read ``state``. Raises HubError (code ``timeout``)."""
        for rollout in self.follow(rollout_id, timeout=timeout):
            if on_change is not None:
                on_change(rollout)
            if rollout.ended:
                return rollout
        raise AssertionError("following gives the end last")
