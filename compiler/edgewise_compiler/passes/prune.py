"""Structured pruning in steps chosen by measured latency: cut where most time is saved for what is lost, recover.

What was measured is no function of the inputs: two runs may choose other widths. The widths are in the notes; given
back as ``widths``, or with a goal in ``macs`` alone, the same inputs give the same bytes.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from edgewise_compiler.passes import Work
from edgewise_compiler.training.base import Training
from edgewise_compiler.training.recovery import Recovery


class PruneConfig(Recovery, frozen=True, kw_only=True):
    """``speedup``: latency of the model over that of the pruned one, both fp32 on onnxruntime here; None: not a goal.

    ``macs``: share of the multiply-adds that may be left; None: not a goal. ``widths``: the widths to cut to, by layer,
    instead of goals. The cuts come in ``steps`` with ``step_epochs`` of recovery each; then ``epochs`` more. Widths are
    multiples of ``round_to``. ``embedding``: may the embedding become narrower? ``normalize``: train with batch
    normalization where a graph came with it folded, and fold it again. ``measure_seconds``: for one table of
    what cuts save.
    """

    speedup: Annotated[float, Meta(gt=1, le=100)] | None = 2.0
    macs: Annotated[float, Meta(gt=0, lt=1)] | None = None
    widths: dict[str, Annotated[int, Meta(ge=1)]] | None = None
    steps: Annotated[int, Meta(ge=1, le=50)] = 4
    step_epochs: Annotated[int, Meta(ge=0, le=1000)] = 1
    round_to: Annotated[int, Meta(ge=1, le=256)] = 8
    importance: Literal["taylor", "magnitude"] = "taylor"
    embedding: bool = False
    normalize: bool = True
    measure_seconds: Annotated[float, Meta(gt=0, le=600)] = 10.0


class Prune(Training):
    """Gives the same graph with narrower layers, trained to answer as before."""

    name = "prune"
    version = 2
    title = "prune channels"
    paper = "DepGraph: Fang et al. 2023, arXiv:2301.12900; importance: Theis et al. 2018, arXiv:1801.05787"
    needs = frozenset({"float32"})
    forbids = frozenset({"quantized", "masked"})
    gives = frozenset({"pruned", "trained"})
    packages = (*Training.packages, "torch-pruning")
    modules: ClassVar[tuple[str, ...]] = ("torch", "torch_pruning")
    Config = PruneConfig

    def run(self, work: Work) -> None:
        """Raises Refusal, with the layers and why, where nothing can be cut."""
        from edgewise_compiler.training.prune import prune

        prune(work)
