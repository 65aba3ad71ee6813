"""What experiments add up on a device, request by request: ``Sums`` as they grow.

Rules that hold here:
- safe for several threads; clocks are passed in; a window in which nothing happened is not reported;
- an experiment is known by its name, its kind and the versions in it: a label that comes after its end counts for it.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from typing import Any, Literal, cast

import msgspec

from edgewise.sketch.histogram import LatencySketch
from edgewise.wire.control import Role
from edgewise.wire.experiment import CALIBRATION_BINS, CLASSES, Arm, Compared, Escalated, Policy, Sums
from edgewise_agent.serving.channel import ExperimentClosed
from edgewise_agent.serving.routing.compare import Comparison, distance_bin


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """Which one. ``versions``: role -> version."""

    name: str
    kind: str
    versions: dict[str, int]


def experiment(policy: Policy, versions: dict[str, int]) -> Experiment:
    """The experiment that a policy is about."""
    return Experiment(name=policy.experiment, kind=str(type(policy).__struct_config__.tag), versions=versions)


Group = Role | Literal["compared", "escalated", "ties"]
"""What is counted together: an arm, or a part of ``Sums``."""


class Recorder:
    """The sums of one experiment's current window. ``now`` is monotonic seconds, ``clock`` Unix seconds."""

    def __init__(self, now: float, clock: float) -> None:
        self._lock = threading.Lock()
        self._began, self._start = now, clock
        self._clear()

    def _clear(self) -> None:
        self._counts: Counter[tuple[Group, str]] = Counter()
        self._bins: Counter[tuple[Group, str, int]] = Counter()

    def answered(self, role: Role, latency_s: float) -> None:
        """An install ran one request."""
        self.count(role, "latency", latency_bin(latency_s), requests=1)

    def failed(self, role: Role) -> None:
        """An install was given a request and had no answer to it."""
        self.count(role, requests=1, errors=1)

    def compared(self, comparison: Comparison) -> None:
        """A shadow's answer was held against the one that went out."""
        bin = distance_bin(comparison.relative)
        self.count("compared", "distance", bin, compared=comparison.items, agreed=comparison.agreed)

    def labelled(self, role: Role, prediction: int, confidence: float, label: int) -> None:
        """A label came for an item that this install answered."""
        bin = min(int(confidence * CALIBRATION_BINS), CALIBRATION_BINS - 1)
        self.count(role, "confident", bin, labelled=1)
        if prediction == label:
            self.count(role, "right", bin, correct=1)
        self.count(role, "confusion", min(label, CLASSES - 1) * CLASSES + min(prediction, CLASSES - 1))

    def count(self, group: Group, histogram: str = "", bin: int = 0, **counts: int) -> None:
        """Something that happened: counts by field of the group, and one more in a bin of a histogram of it."""
        with self._lock:
            for name, number in counts.items():
                self._counts[group, name] += number
            if histogram:
                self._bins[group, histogram, bin] += 1

    def due(self, now: float, window_s: float) -> bool:
        """Is the window over?"""
        return now - self._began >= window_s

    def poll(self, now: float, clock: float) -> tuple[float, float, Sums] | None:
        """(start, duration, sums) of the window, unless it is empty; the next one begins."""
        with self._lock:
            start, duration, sums = self._start, now - self._began, self._sums()
            self._began, self._start = now, clock
            self._clear()
        return (start, duration, sums) if sums != Sums() else None

    def _sums(self) -> Sums:
        fields: dict[Group, dict[str, Any]] = {}
        for (group, name), number in self._counts.items():
            fields.setdefault(group, {})[name] = number
        for (group, name, bin), number in sorted(self._bins.items()):
            fields.setdefault(group, {}).setdefault(name, {})[bin] = number
        compared, escalated = fields.pop("compared", {}), fields.pop("escalated", {})
        ties = fields.pop("ties", {}).get("ties", 0)
        arms = {cast("Role", role): Arm(**fields[role]) for role in sorted(fields)}
        return Sums(arms=arms, compared=Compared(**compared), escalated=Escalated(**escalated), ties=ties)


class Records:
    """The recorders of one model's experiments: the one that goes on, and those that labels still come for."""

    def __init__(self) -> None:
        self._recorders: list[tuple[Experiment, Recorder]] = []
        self._lock = threading.Lock()

    def of(self, which: Experiment, now: float, clock: float) -> Recorder:
        """The recorder of an experiment."""
        with self._lock:
            for known, recorder in self._recorders:
                if known == which:
                    return recorder
            recorder = Recorder(now, clock)
            self._recorders.append((which, recorder))
            return recorder

    def poll(
        self, model: str, current: Experiment | None, now: float, clock: float, window_s: float, *, last: bool = False
    ) -> list[ExperimentClosed]:
        """Windows that are over, or the ``last``. The recorder of an experiment that is not the ``current`` goes with
        its window."""
        closed = []
        with self._lock:
            for known, recorder in list(self._recorders):
                if not last and not recorder.due(now, window_s):
                    continue
                found = recorder.poll(now, clock)
                if known != current:
                    self._recorders.remove((known, recorder))
                if found is not None:
                    start, duration, sums = found
                    closed.append(
                        ExperimentClosed(
                            model=model,
                            experiment=known.name,
                            kind=known.kind,
                            versions=known.versions,
                            start=start,
                            duration=duration,
                            sums=sums,
                        )
                    )
        return closed


def latency_bin(seconds: float) -> int:
    """The bin of ``LatencySketch`` that a latency falls in."""
    octaves = math.log2(max(seconds, LatencySketch.FIRST_S) / LatencySketch.FIRST_S)
    return min(int(octaves * 4), LatencySketch.BINS - 1)
