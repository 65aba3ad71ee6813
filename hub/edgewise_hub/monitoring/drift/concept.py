"""Concept drift: do labels show more errors than the reference, whatever the inputs look like?

Inputs that look the same and mean something else are invisible to embeddings. So labelled errors are bet on: the
likelihood ratio of a Bernoulli with more errors against p0, the reference's rate and a margin, for several sizes of the
rise, each in an e-detector of its own, S = (S + 1) L (Shin, Ramdas and Rinaldo, 2023, Shiryaev and Roberts' form),
whose average is one too. Reaching 1/a takes at least 1/a spans on average where errors are no more frequent than p0,
however many labels a span has and whoever chooses when to look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MARGIN = 0.01
RISES = (1.5, 2.0, 4.0, 8.0)
HIGHEST = 0.95
LARGEST = 27.6
"""ln of the most evidence kept of one span: 1e12."""


@dataclass(frozen=True)
class Evidence:
    """``e``: the detectors' average now; ``states``: each one, to go on from."""

    e: float
    states: tuple[float, ...]


NOTHING = Evidence(0.0, (0.0,) * len(RISES))


def step(before: Evidence, labels: Mapping[str, tuple[int, int]], error_rate: float) -> Evidence:
    """One span: of each device, (labelled, correct). ``error_rate``: the reference's. Where several devices have
    labels, the span counts as it does without the one that says most, so that no device alone makes the evidence."""
    present = {device: counts for device, counts in labels.items() if counts[0]}
    if not present:
        return before
    p0 = min(error_rate + MARGIN, 0.9)
    states = []
    for rise, state in zip(RISES, before.states, strict=True):
        each = [_log_ratio(n, n - correct, p0, min(rise * p0, HIGHEST)) for n, correct in present.values()]
        log = sum(each) - (max(each) if len(each) > 1 and max(each) > 0 else 0.0)
        states.append(min((state + 1.0) * math.exp(min(log, LARGEST)), math.exp(LARGEST)))
    return Evidence(sum(states) / len(states), tuple(states))


def run(history: Sequence[Mapping[str, tuple[int, int]]], error_rate: float) -> Evidence:
    """From the beginning, oldest first."""
    found = NOTHING
    for labels in history:
        found = step(found, labels, error_rate)
    return found


def _log_ratio(n: int, errors: int, p0: float, p1: float) -> float:
    return errors * math.log(p1 / p0) + (n - errors) * math.log((1 - p1) / (1 - p0))
