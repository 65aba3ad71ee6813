"""Experiments: two versions of a model compared on the fleet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgewise.endpoints.base import EVERY_S, Endpoint
from edgewise.resources import (
    DEFAULT_STAGES,
    Experiment,
    ExperimentDetail,
    Gates,
    Guardrails,
    Metric,
    Stage,
)
from edgewise.transport import segment


class Experiments(Endpoint):
    """Experiments, by id."""

    def create(
        self,
        model: str,
        policy: Mapping[str, str | float | int],
        *,
        candidate: int | None = None,
        control: int | None = None,
        group: str | None = None,
        metric: Metric | None = None,
        margin: float | None = None,
        min_samples: int = 200,
        alpha: float = 0.05,
        block: int = 20,
        cap: int = 500,
        devices: float = 1.0,
        guardrails: Guardrails | Mapping[str, float | None] | None = None,
    ) -> ExperimentDetail:
        """Compare ``candidate`` with what the group runs, or with ``control``. ``policy``: how requests are shared, as
        the API takes it: ``{"kind": "shadow", "share": 1.0}``, ``{"kind": "ab", "weight": 0.5, "by": "key"}``,
        ``{"kind": "canary-requests", "share": 0.05}``, ``{"kind": "interleave", "output": NAME}`` or ``{"kind":
        "escalate", "threshold": 0.6, "url": URL, "model": NAME}``. ``metric`` and ``margin`` None: those of the kind.
        ``block``: items of an arm that make one value of a device, which gives at most ``cap``; ``devices``: share of
        the group that takes part."""
        body = {
            "model": model,
            "policy": policy,
            "candidate": candidate,
            "control": control,
            "group": group,
            "metric": metric,
            "margin": margin,
            "min_samples": min_samples,
            "alpha": alpha,
            "block": block,
            "cap": cap,
            "devices": devices,
            "guardrails": {} if guardrails is None else guardrails,
        }
        return self._transport.post("/experiments", ExperimentDetail, body)

    def list(
        self, *, model: str | None = None, state: str | None = None, limit: int | None = None
    ) -> Sequence[Experiment]:
        """All experiments, or those of a model or a state (``running``, ``ended``)."""
        return self._transport.list("/experiments", Experiment, limit, model=model, state=state)

    def get(self, experiment_id: str) -> ExperimentDetail:
        """One experiment, with its arms, its devices and its history."""
        return self._transport.get(f"/experiments/{segment(experiment_id)}", ExperimentDetail)

    def stop(self, experiment_id: str) -> ExperimentDetail:
        """End it; every device goes on with the control alone."""
        return self._transport.post(f"/experiments/{segment(experiment_id)}/stop", ExperimentDetail)

    def promote(
        self,
        experiment_id: str,
        *,
        stages: Sequence[Stage | str | Mapping[str, float]] = DEFAULT_STAGES,
        gates: Gates | Mapping[str, float | None] | None = None,
        force: bool = False,
    ) -> ExperimentDetail:
        """Roll the candidate out to the group: ``rollout`` names the rollout. ``force``: although it did not win."""
        body = {
            "stages": [Stage.parse(stage) if isinstance(stage, str) else stage for stage in stages],
            "gates": gates or Gates(),
            "force": force,
        }
        return self._transport.post(f"/experiments/{segment(experiment_id)}/promote", ExperimentDetail, body)

    def follow(self, experiment_id: str, *, timeout: float | None = None) -> Iterator[ExperimentDetail]:
        """The experiment at first and each time that it changed, until it has ended."""
        for experiment in self._transport.follow(lambda: self.get(experiment_id), every=EVERY_S, timeout=timeout):
            yield experiment
            if experiment.ended:
                return
