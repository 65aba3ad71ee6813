"""Techniques that are asked for by name, beside what the ladder finds on its own, and how long those that train do so.

No torch here: a plan is made where it may not be installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edgewise_compiler.errors import CompileError
from edgewise_compiler.passes.lora import LoraConfig
from edgewise_compiler.passes.mask import MaskConfig
from edgewise_compiler.training.recovery import Loss


class Techniques(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``steps`` of the optimizer and ``epochs`` over the training data, at most, for each pass that trains; no clock
    decides. ``loss``: of distillation, ``kd`` (Hinton et al. 2015) or ``dkd`` (Zhao et al. 2022).

    ``student``: a smaller model that learns to answer as the source, an ONNX file or a recipe (``build``); it is tried
    beside the source, in float and int8. A student has all to learn: it trains four times as long.

    ``mask``: zeros in the weights, ``2:4`` or a share such as ``0.8``; ``lora``: the rank of adapters that are
    fine-tuned on the training data's labels. Both come before the ladder: all candidates start from what they gave.
    ``apart``: the adapters stay beside an unchanged model, as an onnxruntime adapter of its own (blob ``adapter``);
    nothing else is tried then.
    """

    steps: Annotated[int, Meta(ge=1, le=10_000_000)] = 4000
    epochs: Annotated[int, Meta(ge=1, le=10_000)] = 30
    loss: Loss = "kd"
    student: Path | None = None
    mask: str | None = None
    lora: Annotated[int, Meta(ge=1, le=1024)] | None = None
    apart: bool = False

    def check(self) -> None:
        """Do they go together? Raises CompileError (code ``cannot-plan``)."""
        self.masking()
        if self.apart and self.lora is None:
            raise CompileError("apart: expected the rank of an adapter (lora) to keep apart", code="cannot-plan")
        if self.lora is not None and self.mask is not None:
            raise CompileError("expected mask or lora, got both: adapters would fill the zeros", code="cannot-plan")

    def masking(self) -> MaskConfig | None:
        """The configuration of the pass ``mask``. Raises CompileError (code ``cannot-plan``)."""
        if self.mask is None:
            return None
        if self.mask == "2:4":
            return MaskConfig(pattern="2:4", epochs=self.epochs, max_steps=self.steps, loss=self.loss)
        try:
            share = float(self.mask)
        except ValueError:
            share = 0.0
        if not 0 < share < 1:
            raise CompileError(
                f"mask: expected 2:4, or a share of zeros above 0 and below 1, got {self.mask!r}", code="cannot-plan"
            )
        return MaskConfig(sparsity=share, epochs=self.epochs, max_steps=self.steps, loss=self.loss)

    def adapting(self) -> LoraConfig | None:
        """The configuration of the pass ``lora``."""
        if self.lora is None:
            return None
        return LoraConfig(
            rank=self.lora,
            alpha=2 * self.lora,
            merge=not self.apart,
            epochs=self.epochs,
            max_steps=self.steps,
            loss=self.loss,
        )
