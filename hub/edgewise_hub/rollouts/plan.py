"""The plan of a rollout: its stages and the limits of its gates, as the row keeps it."""

from __future__ import annotations

from typing import Any

import msgspec

from edgewise_hub.api.schemas import GatesIn, StageIn
from edgewise_hub.rollouts.errors import RolloutError


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """How many devices a stage reaches in all: by ``count``, or by ``percent`` of the target. Exactly one is set."""

    count: int | None = None
    percent: float | None = None

    @property
    def title(self) -> str:
        """As people say it: "1 device", "25%"."""
        if self.count is not None:
            return f"{self.count} device{'' if self.count == 1 else 's'}"
        return f"{self.percent:g}%"


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """The limits, as ``api.schemas.GatesIn`` describes them; None leaves a gate out. Times in seconds."""

    install_failures: float
    errors: float | None
    latency_ratio: float | None
    mix_distance: float | None
    min_inferences: int
    soak: float
    deadline: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The stages, in order, and the gates that hold in each."""

    stages: list[Stage]
    gates: Gates

    def to_json(self) -> dict[str, Any]:
        """For the row."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Plan:
        """From the row."""
        return msgspec.convert(content, cls)


def make_plan(stages: list[StageIn], gates: GatesIn) -> Plan:
    """The plan that was asked for. Raises RolloutError (``bad-plan``): a stage needs a count or a percent, and the last
    one must say 100%, so that nobody rolls out to more devices than they wrote down."""
    for number, stage in enumerate(stages, 1):
        if (stage.count is None) == (stage.percent is None):
            raise RolloutError(f"stage {number}: expected a count or a percent, got both or neither", code="bad-plan")
    if stages[-1].percent != 100:
        raise RolloutError(
            "the last stage: expected 100 percent, since a rollout ends with every device", code="bad-plan"
        )
    if gates.deadline <= gates.soak:
        raise RolloutError(
            f"deadline {gates.deadline:g} s: expected more than the soak of {gates.soak:g} s", code="bad-plan"
        )
    return Plan(
        stages=[Stage(count=stage.count, percent=stage.percent) for stage in stages],
        gates=msgspec.convert(gates.model_dump(), Gates),
    )
