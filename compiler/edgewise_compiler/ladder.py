"""The escalation ladder: which rung is tried next, and why one is left out. Pure.

Cheap rungs come first. A rung is tried only where it can give what is still missing: when accuracy holds already and
speed is missing, quantizing more carefully is no help, and pruning is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from edgewise_compiler.budget import What

Price = Literal["free", "data", "training"]
"""``free``: seconds, no data; ``data``: calibration data, seconds to minutes; ``training``: minutes and more."""


@dataclass(frozen=True)
class Rung:
    """``helps``: what it can improve over the rungs before it. ``least_size``: how small it makes a model at best."""

    name: str
    title: str
    price: Price
    helps: frozenset[What]
    least_size: float = 0.0


RUNGS: tuple[Rung, ...] = (
    Rung("fp32", "the source, optimized", "free", frozenset(("latency", "size", "ram", "metric")), 0.9),
    Rung("student", "a smaller student, distilled, then int8", "training", frozenset(("latency", "size", "ram"))),
    Rung("fp16", "half precision", "free", frozenset(("latency", "size", "ram")), 0.45),
    Rung("weights", "8-bit weights, computed in float", "free", frozenset(("size",)), 0.22),
    Rung("4-bit", "4-bit weights, rounded", "free", frozenset(("size",)), 0.14),
    Rung("ptq", "post-training int8", "data", frozenset(("latency", "size", "ram")), 0.22),
    Rung("ptq+", "int8 with equalization, bias correction, exclusion", "data", frozenset(("metric",)), 0.22),
    Rung("mixed", "int8 and float by layer, an integer program", "data", frozenset(("metric", "latency")), 0.22),
    Rung("qat", "int8 trained with distillation", "training", frozenset(("metric",)), 0.22),
    Rung("4-bit+", "4-bit weights, trained with distillation", "training", frozenset(("size",)), 0.1),
    Rung("prune", "structured pruning with distillation, then int8", "training", frozenset(("latency", "size", "ram"))),
)


def why_skip(
    rung: Rung,
    lacking: Iterable[Collection[What]],
    *,
    limits: bool,
    size_ratio: float | None,
    training: bool,
    collapsed: bool = False,
    student: bool = False,
) -> str | None:
    """Why this rung is left out, in a sentence; None when it is tried.

    ``lacking``: for each candidate so far, what it lacks (none yet: before the first rung). ``limits``: has the budget
    limits on speed, size or memory? ``size_ratio``: the size it asks for, relative to fp32. ``training``: may passes
    train? ``collapsed``: does every int8 candidate so far lack accuracy? ``student``: was one given?
    """
    lacks = [frozenset(one) for one in lacking]
    if rung.name == "student":  # asked for by name: it is tried whatever lacks
        return None if student else "no student was given"
    if rung.price == "training" and not training:
        return "training was not asked for"
    if not lacks:
        return None
    if not limits:
        # Without limits the plain int8 candidates are wanted beside fp32; more only where they lose too much.
        if rung.name in ("fp16", "4-bit", "4-bit+", "prune"):
            return "the budget has no limit that it would help with"
        if rung.name in ("weights", "ptq"):
            return None
    # A cheap rung that is too large all the same is worth its place on the front.
    if rung.price == "training" and size_ratio is not None and rung.least_size > size_ratio:
        return f"at best {rung.least_size:.2f} of the size, the budget asks for {size_ratio:.2f}"
    # Whatever candidate it starts from: it must give all that one of them lacks, or bring a new trade.
    wanted = frozenset().union(*lacks)
    if not wanted:
        return "nothing is lacking"
    if not rung.helps & wanted:
        return f"it does not help with {', '.join(sorted(wanted))}"
    if rung.helps == {"metric"} and not collapsed and not any(one == {"metric"} for one in lacks):
        return "no candidate lacks accuracy alone, and int8 holds it"
    return None
