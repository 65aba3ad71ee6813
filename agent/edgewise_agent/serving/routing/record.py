"""What an experiment adds up on a device, request by request: ``Sums`` as they grow, and what labels need later.

Rules that hold here:
- safe for several threads; clocks are passed in; a window in which nothing happened is not reported;
- answers are kept by request id for their label, at most ``MAX_ANSWERED``: the oldest goes first.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import NamedTuple

from edgewise.sketch.histogram import LatencySketch
from edgewise.wire.control import Role
from edgewise.wire.experiment import CALIBRATION_BINS, CLASSES, Arm, Compared, Sums, merge
from edgewise_agent.serving.routing.compare import Comparison, distance_bin

MAX_ANSWERED = 10_000


class Predicted(NamedTuple):
    """What one install said of one item. ``confidence``: its largest softmax probability, in [0, 1]."""

    role: Role
    prediction: int
    confidence: float


class Recorder:
    """The sums of one experiment's current window. ``now`` is monotonic seconds, ``clock`` Unix seconds."""

    def __init__(self, now: float, clock: float) -> None:
        self._lock = threading.Lock()
        self._answered: OrderedDict[str, list[Predicted]] = OrderedDict()
        self._sums, self._began, self._start = Sums(), now, clock

    def answered(self, role: Role, latency_s: float) -> None:
        """An install ran one request."""
        self._arm(role, Arm(requests=1, latency={latency_bin(latency_s): 1}))

    def failed(self, role: Role) -> None:
        """An install was given a request and had no answer to it."""
        self._arm(role, Arm(requests=1, errors=1))

    def compared(self, comparison: Comparison) -> None:
        """A shadow's answer was held against the one that went out."""
        distance = {distance_bin(comparison.relative): 1}
        self._add(Sums(compared=Compared(compared=comparison.items, agreed=comparison.agreed, distance=distance)))

    def dropped(self) -> None:
        """A shadow had too much to do."""
        self._add(Sums(compared=Compared(dropped=1)))

    def predicted(self, item: str, predicted: Predicted) -> None:
        """Keep what was said of an item until its label comes. Of two answers of one install, the later counts."""
        with self._lock:
            others = [found for found in self._answered.pop(item, []) if found.role != predicted.role]
            self._answered[item] = [*others, predicted]
            while len(self._answered) > MAX_ANSWERED:
                self._answered.popitem(last=False)

    def label(self, item: str, label: int) -> bool:
        """An item's label, for every install that answered it; the first one counts. False for an unknown item."""
        with self._lock:
            found = self._answered.get(item)
            if found is None:
                return False
            self._answered[item] = []
        for role, prediction, confidence in found:
            cell = min(label, CLASSES - 1) * CLASSES + min(prediction, CLASSES - 1)
            bin = min(int(confidence * CALIBRATION_BINS), CALIBRATION_BINS - 1)
            right = int(prediction == label)
            self._arm(
                role,
                Arm(
                    labelled=1, correct=right, confusion={cell: 1}, confident={bin: 1}, right={bin: 1} if right else {}
                ),
            )
        return True

    def poll(
        self, now: float, clock: float, window_s: float, *, last: bool = False
    ) -> tuple[float, float, Sums] | None:
        """(start, duration, sums) of the window, if it is over (or the ``last``) and not empty; the next one begins."""
        with self._lock:
            if now - self._began < window_s and not last:
                return None
            closed = self._start, now - self._began, self._sums
            self._sums, self._began, self._start = Sums(), now, clock
        return closed if closed[2] != Sums() else None

    def _arm(self, role: Role, arm: Arm) -> None:
        self._add(Sums(arms={role: arm}))

    def _add(self, sums: Sums) -> None:
        with self._lock:
            self._sums = merge(self._sums, sums)


def latency_bin(seconds: float) -> int:
    """The bin of ``LatencySketch`` that a latency falls in."""
    octaves = math.log2(max(seconds, LatencySketch.FIRST_S) / LatencySketch.FIRST_S)
    return min(int(octaves * 4), LatencySketch.BINS - 1)
