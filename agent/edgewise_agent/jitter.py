"""Decorrelated jitter: how long to wait before the next try, so that a fleet does not come all at once. Pure."""

from __future__ import annotations

from collections.abc import Callable

Draw = Callable[[float, float], float]
"""A number between two, as ``random.uniform`` draws it."""


def decorrelated(previous_s: float, draw: Draw, least_s: float, most_s: float) -> float:
    """Between ``least_s`` and three times the wait before, at most ``most_s`` (AWS Architecture Blog, 2015)."""
    return min(most_s, draw(least_s, max(least_s, previous_s * 3)))
