"""A training run's config, told apart: what the strategy reads, and what the recipe is given."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from edgewise_hub.learning.errors import LearningError

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Loss = Annotated[float, msgspec.Meta(ge=0, le=1)]
Number = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """``new_share``: the weight of new samples in training, of all. ``replay``: how many old items are rehearsed, at
    most. ``max_old_loss``: what the metric may lose on the old slice. ``any_drift``: a trigger fires at ``drift`` that
    is not estimated to harm, too. ``alert``: id of the alert that a trigger answers."""

    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    new_share: Share = 0.4
    replay: Number = 5000
    max_old_loss: Loss = 0.01
    any_drift: bool = False
    alert: str | None = None


def read(config: dict[str, Any]) -> tuple[Options, dict[str, Any]]:
    """(options, the recipe's own config). Raises LearningError (code ``bad-options``)."""
    names = set(Options.__struct_fields__)
    try:
        options = msgspec.convert({key: value for key, value in config.items() if key in names}, Options)
    except msgspec.ValidationError as error:
        raise LearningError(f"config: {error}", code="bad-options") from error
    return options, {key: value for key, value in config.items() if key not in names}
