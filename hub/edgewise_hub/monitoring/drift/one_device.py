"""No device alone makes a group's alarm, whether it lies, is broken, or is just busier than all others.

Two rules (the first bounds how far one device moves a mean, the second is what counts):
- in a span, a device counts as at most ``MOST`` times as many items as the group's median device sent;
- an alarm must survive leaving any one device out, of the group or of the rest it is held against. Where it does not,
  the group is quiet and that device is named. A group of one device has nothing else to go by: its verdict is that
  device's, and says so by its one device.

The p-value is then the largest over all that was left out: too careful for a group of few devices, never too bold.
``group`` applies the second rule to the panel; ``watch``, ``concept`` and ``quality`` each to their own sums.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from edgewise_hub.monitoring.drift.summary import Summary

MOST = 4.0
LEFT_OUT = 24
"""Devices left out one at a time: those that move the sums most. One that moves them less changes less."""


def cap(summaries: Mapping[str, Summary]) -> dict[str, Summary]:
    """Each device's summary, scaled down where it counts more than ``MOST`` times the lower median's items."""
    counted = [summary.n for summary in summaries.values() if summary.n]
    most = MOST * statistics.median_low(counted) if len(counted) > 1 else float("inf")
    return {device: _scaled(s, most / s.n) if s.n > most else s for device, s in summaries.items()}


def most_influential(summaries: Mapping[str, Summary]) -> list[str]:
    """Up to LEFT_OUT devices, by how far each lies from all others together, times its items."""
    total = Summary.sum(summaries.values())

    def influence(device: str) -> float:
        own = summaries[device]
        rest = total - own
        found = 0.0
        for mine, others in ((own.total, rest.total), (own.classes, rest.classes), (own.confidence, rest.confidence)):
            if len(mine) and own.n and rest.n:
                gap = mine / own.n - others / rest.n
                scale = np.abs(others / rest.n).sum() + 1e-12
                found += own.n * float(np.abs(gap).sum() / scale)
        return found + (own.labelled - own.correct)

    return sorted(summaries, key=lambda device: (-influence(device), device))[:LEFT_OUT]


def _scaled(summary: Summary, share: float) -> Summary:
    """Every sum and count times ``share``, rounded; noise, whose size is a variance, times its square."""
    found: dict[str, Any] = {}
    for part in fields(summary):
        value = getattr(summary, part.name)
        if isinstance(value, dict):
            found[part.name] = {name: round(noise * share**2) for name, noise in value.items()}
        else:
            found[part.name] = (
                np.rint(value * share).astype(np.int64) if isinstance(value, np.ndarray) else round(value * share)
            )
    return Summary(**found)
