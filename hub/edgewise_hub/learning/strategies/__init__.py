"""Learning strategies: one file each, and one line in ``STRATEGIES``. Each has ``learn(lesson) -> Learned``.

Only job workers load one: a strategy imports the compiler's recipes and, through them, torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgewise_hub.learning.errors import LearningError

if TYPE_CHECKING:
    from edgewise_hub.learning.strategies.lesson import Learned, Lesson

STRATEGIES = {
    "full": "edgewise_hub.learning.strategies.full",
    "rehearsal": "edgewise_hub.learning.strategies.rehearsal",
}
"""Module by name; a name, so that the hub's own process can list them without loading torch."""


def find(name: str) -> Callable[[Lesson], Learned]:
    """A strategy's ``learn``. Raises LearningError."""
    if name not in STRATEGIES:
        raise LearningError(f"strategy: expected one of {', '.join(STRATEGIES)}, got {name!r}", code="bad-options")
    learn: Callable[[Lesson], Learned] = importlib.import_module(STRATEGIES[name]).learn
    return learn
