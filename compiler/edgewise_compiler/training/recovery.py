"""Settings of a recovery. No torch here: a plan is made where it may not be installed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta

from edgewise_compiler.passes import Config

Loss = Literal["kd", "dkd", "mse"]


class Recovery(Config, frozen=True, kw_only=True):
    """How a model is trained to answer as its teacher. Passes that train have these settings and their own.

    ``loss``: on the scores, ``kd`` (Hinton et al. 2015) or ``dkd`` (Zhao et al. 2022); ``mse`` on every float output.
    ``temperature``: of the distillation. ``label_weight``: share of the cross-entropy with labels, where there are any.
    ``feature_weight``: weight of the other float outputs (an embedding) beside the scores.
    ``warm_up``: share of the steps in which the learning rate rises; after it falls along a cosine.
    ``held_out``: share of the training items that judge the epochs; ``patience``: epochs without a better one before it
    ends. ``max_steps`` of the optimizer in all (0: no limit): the whole epochs that fit, at least one a recovery. No
    clock decides: the same settings train as long on every machine.
    """

    epochs: Annotated[int, Meta(ge=0, le=10_000)] = 8
    batch: Annotated[int, Meta(ge=1, le=65_536)] = 64
    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 1e-3
    warm_up: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 0.0
    loss: Loss = "kd"
    temperature: Annotated[float, Meta(gt=0, le=100)] = 4.0
    label_weight: Annotated[float, Meta(ge=0, le=1)] = 0.3
    feature_weight: Annotated[float, Meta(ge=0, le=1000)] = 0.1
    dkd_alpha: Annotated[float, Meta(ge=0, le=100)] = 1.0
    dkd_beta: Annotated[float, Meta(ge=0, le=100)] = 4.0
    held_out: Annotated[float, Meta(gt=0, le=0.5)] = 0.1
    patience: Annotated[int, Meta(ge=1)] = 10
    max_steps: Annotated[int, Meta(ge=0)] = 0
    threads: Annotated[int, Meta(ge=1, le=256)] = 1

    def part(self, epochs: int, total: int) -> Self:
        """The same for one of several recoveries: with so many of all epochs, and their share of the steps."""
        share = -(-self.max_steps * epochs // total) if total else 0
        return msgspec.structs.replace(self, epochs=epochs, max_steps=share)
