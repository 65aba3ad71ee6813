"""The options of every command that rolls out: stages and gates."""

from __future__ import annotations

from typing import Annotated

import typer

from edgewise.cli import parse
from edgewise.resources import DEFAULT_STAGES, Gates, RolloutPlan, Stage

GATES = "Gates"

Stages = Annotated[
    list[str] | None,
    typer.Option("--stage", metavar="N|N%", help="Devices in all, or a share; repeat. Without it 1, 25%, 100%."),
]
MaxInstallFailures = Annotated[
    float, typer.Option(min=0, max=1, help="Share of a stage's devices that may fail.", rich_help_panel=GATES)
]
MaxErrors = Annotated[
    str, typer.Option(metavar="SHARE|off", help="Share of requests that may fail.", rich_help_panel=GATES)
]
MaxLatencyRatio = Annotated[
    str, typer.Option(metavar="RATIO|off", help="p95 against the version before.", rich_help_panel=GATES)
]
MaxMixDistance = Annotated[
    str,
    typer.Option(metavar="SHARE|off", help="How far the mix of predicted classes may move.", rich_help_panel=GATES),
]
MinInferences = Annotated[int, typer.Option(min=0, help="Evidence that gates need.", rich_help_panel=GATES)]
Deadline = Annotated[
    str, typer.Option(metavar="TIME", help="How long a stage may take: 300, 5min, 1h.", rich_help_panel=GATES)
]
Soak = Annotated[
    str, typer.Option(metavar="TIME", help="How long a stage must hold before the next.", rich_help_panel=GATES)
]


def stages(texts: list[str] | None) -> list[Stage]:
    """``--stage`` options, or the default ones."""
    return [parse.stage(text) for text in texts] if texts else list(DEFAULT_STAGES)


def gates(
    *,
    max_install_failures: float,
    max_errors: str,
    max_latency_ratio: str,
    max_mix_distance: str,
    min_inferences: int,
    deadline: str,
    soak: str,
) -> Gates:
    """The gates that the options ask for."""
    return Gates(
        install_failures=max_install_failures,
        errors=parse.limit(max_errors),
        latency_ratio=parse.limit(max_latency_ratio),
        mix_distance=parse.limit(max_mix_distance),
        min_inferences=min_inferences,
        deadline=parse.seconds(deadline),
        soak=parse.seconds(soak),
    )


def rollout_plan(group: str | None, stage_texts: list[str] | None, wanted: Gates) -> RolloutPlan:
    """The plan for what a training run gives."""
    return RolloutPlan(group=group, stages=stages(stage_texts), gates=wanted)
