"""Samples, training runs and triggers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from edgewise.endpoints.base import EVERY_S, Endpoint
from edgewise.endpoints.jobs import failed
from edgewise.resources import RolloutPlan, SampleRequest, TrainingRun, Trigger
from edgewise.transport import segment

Strategy = Literal["full", "rehearsal"]
"""``full`` trains from scratch; ``rehearsal`` fine-tunes the parent on old data and samples."""


class Samples(Endpoint):
    """Raw labelled samples, which come only from devices whose owner opted in."""

    def request(self, model: str, group: str, count: int, bytes: int) -> SampleRequest:
        """Ask a group; ``count`` and ``bytes`` are budgets for each device."""
        body = {"model": model, "group": group, "count": count, "bytes": bytes}
        return self._transport.post("/sample-requests", SampleRequest, body)

    def get(self, request_id: str) -> SampleRequest:
        """One request, and what has come."""
        return self._transport.get(f"/sample-requests/{segment(request_id)}", SampleRequest)

    def list(self, limit: int | None = None) -> Sequence[SampleRequest]:
        """All requests."""
        return self._transport.list("/sample-requests", SampleRequest, limit)

    def close(self, request_id: str) -> SampleRequest:
        """Devices send no more; what has come stays."""
        return self._transport.post(f"/sample-requests/{segment(request_id)}/close", SampleRequest)


class Training(Endpoint):
    """Training runs."""

    def start(
        self,
        model: str,
        *,
        strategy: Strategy = "full",
        recipe: str | None = None,
        config: Mapping[str, Any] | None = None,
        parent_version: int | None = None,
        sample_request: str | None = None,
        profiles: Sequence[str] = (),
        rollout: RolloutPlan | None = None,
        note: str = "",
    ) -> TrainingRun:
        """Run a recipe (its sha256, as ``client.upload`` gives it; None takes the parent's). An accepted version is
        compiled for ``profiles`` and, with ``rollout``, rolled out."""
        body = {
            "model": model,
            "strategy": strategy,
            "recipe": recipe,
            "config": dict(config or {}),
            "parent_version": parent_version,
            "sample_request": sample_request,
            "profiles": profiles,
            "rollout": rollout,
            "note": note,
        }
        return self._transport.post("/training-runs", TrainingRun, body)

    def get(self, run_id: str) -> TrainingRun:
        """One run."""
        return self._transport.get(f"/training-runs/{segment(run_id)}", TrainingRun)

    def list(self, *, model: str | None = None, limit: int | None = None) -> Sequence[TrainingRun]:
        """All runs, or those of a model."""
        return self._transport.list("/training-runs", TrainingRun, limit, model=model)

    def wait(
        self,
        run_id: str,
        on_progress: Callable[[TrainingRun], None] | None = None,
        *,
        timeout: float | None = None,
    ) -> TrainingRun:
        """The run, accepted or rejected: read ``state``. Raises JobError when it failed, HubError (code ``timeout``)
        after ``timeout`` seconds."""
        for run in self._transport.follow(lambda: self.get(run_id), every=EVERY_S, timeout=timeout):
            if on_progress is not None:
                on_progress(run)
            if run.state == "failed":
                raise failed("training run", run.id, run.job.error if run.job else None, run.reason)
            if run.ended:
                return run
        raise AssertionError("following never ends by itself")


class Triggers(Endpoint):
    """Triggers: on drift, train and roll out."""

    def create(
        self,
        model: str,
        *,
        min_samples: int = 200,
        strategy: Literal["rehearsal"] = "rehearsal",
        config: Mapping[str, Any] | None = None,
        profiles: Sequence[str] = (),
        rollout: RolloutPlan | None = None,
    ) -> Trigger:
        """When a group's verdict is harmful and ``min_samples`` labelled samples of it are there, train with
        rehearsal, compile for ``profiles`` and, with ``rollout``, roll out. ``config`` goes to the recipe; with
        ``any_drift: true`` in it, drift that is not estimated to harm fires too."""
        body = {
            "model": model,
            "min_samples": min_samples,
            "strategy": strategy,
            "config": dict(config or {}),
            "profiles": profiles,
            "rollout": rollout,
        }
        return self._transport.post("/triggers", Trigger, body)

    def list(self) -> Sequence[Trigger]:
        """All triggers."""
        return self._transport.list("/triggers", Trigger)

    def delete(self, trigger_id: str) -> None:
        """It fires no more."""
        self._transport.delete(f"/triggers/{segment(trigger_id)}")
