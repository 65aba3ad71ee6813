"""What one group's spans add up to over time: a watch of each bundle, and the evidence of labelled errors.

The state is small and its own: the monitor keeps one a group, and after a restart gives it the spans of last time
again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgewise_hub.monitoring.drift import concept, evalues, one_device
from edgewise_hub.monitoring.drift.baseline import HORIZONS
from edgewise_hub.monitoring.drift.reference import Reference
from edgewise_hub.monitoring.drift.ridge_t2 import Metric
from edgewise_hub.monitoring.drift.summary import Summary
from edgewise_hub.monitoring.drift.versus_rest import Kind
from edgewise_hub.monitoring.drift.watch import Reading, Watch

SPANS = 48
"""Spans that a state is made of again after a restart: what came before has weight (15/16)^48 = 0.05 at most."""
RATE = 0.1
"""False discovery rate among a group's devices."""
FORGOTTEN = 64
"""Spans after which the watch of a bundle that nobody runs any more goes."""


@dataclass(frozen=True)
class DeviceReading:
    """A device's own watch. ``named``: by e-BH among the group's devices, at RATE."""

    device: str
    score: float
    limit: float
    horizon: int
    n: float
    named: bool


@dataclass(frozen=True)
class Watched:
    """``group``: None where nothing is watched; ``devices``: by name."""

    group: Reading | None
    devices: tuple[DeviceReading, ...]
    concept: float


@dataclass
class OverTime:
    """One group of one model. ``labels``: the evidence of labelled errors so far."""

    labels: concept.Evidence = concept.NOTHING
    _watches: dict[str, Watch] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)
    _runs: dict[str, float] = field(default_factory=dict)
    _sizes: dict[str, float] = field(default_factory=dict)
    _spans: int = 0

    def step(self, sent: Mapping[str, Mapping[str, Summary]], kinds: Mapping[str, Kind]) -> None:
        """One span: device -> bundle -> what it sent, of this group's devices alone."""
        self._spans += 1
        by_bundle: dict[str, dict[str, Summary]] = {}
        for device, sums in sent.items():
            for bundle in sums.keys() & kinds.keys():
                by_bundle.setdefault(bundle, {})[device] = sums[bundle]
        for bundle, each in by_bundle.items():
            reference = kinds[bundle].baseline.reference
            metric = reference.watched_metric
            steps = {}
            for device, summary in one_device.cap(each).items():
                n, total = summary.watched(reference.scale)
                if n > 0:
                    white = metric.whiten((total - n * metric.mean)[None, :])[0]
                    steps[device] = (n, white * _share_without_noise(summary, reference, metric, n))
            if steps:
                watch = self._watches.setdefault(bundle, Watch(len(metric.mean), HORIZONS))
                watch.step(steps)
                counts = np.array([n for n, _ in steps.values()], dtype=float)
                self._seen[bundle], self._runs[bundle] = self._spans, float((counts**2).sum() / counts.sum())
                size, usual = float(counts.sum()), self._sizes.get(bundle, 0.0)
                self._sizes[bundle] = max(size, usual + (size - usual) / HORIZONS[-1])
        for bundle in [name for name, at in self._seen.items() if self._spans - at > FORGOTTEN]:
            del self._watches[bundle], self._seen[bundle], self._runs[bundle], self._sizes[bundle]
        self.labels = concept.step(self.labels, *_labels(by_bundle, kinds))

    def begin_anew(self) -> None:
        """After a span that alarms by itself: what it showed is said, and must not be seen again once it is over."""
        self._watches.clear()
        self._seen.clear()
        self._runs.clear()
        self._sizes.clear()

    def read(self, kinds: Mapping[str, Kind]) -> Watched:
        """The group and each device, by the bundle that says most; k bundles raise each limit by ln k."""
        groups: list[Reading] = []
        devices: dict[str, Reading] = {}
        for bundle in sorted(self._watches.keys() & kinds.keys()):
            baseline = kinds[bundle].baseline
            limits = baseline.limits(self._runs[bundle], self._sizes[bundle])
            reading = self._watches[bundle].read(limits, baseline.reference.m)
            groups += [reading] if reading is not None else []
            for device, own in self._watches[bundle].read_devices(limits, baseline.reference.m).items():
                if device not in devices or own.score > devices[device].score:
                    devices[device] = own
        worst = max(groups, key=lambda reading: reading.score - reading.limit, default=None)
        if worst is not None and len(groups) > 1:
            worst = Reading(worst.score, worst.limit + math.log(len(groups)), worst.horizon, worst.n, worst.shift)
        p_values = {device: min(1.0, len(HORIZONS) * math.exp(-own.score)) for device, own in devices.items()}
        named = evalues.e_bh({device: evalues.calibrate(p) for device, p in p_values.items()}, RATE)
        return Watched(
            worst,
            tuple(
                DeviceReading(device, own.score, own.limit, own.horizon, own.n, device in named)
                for device, own in sorted(devices.items())
            ),
            self.labels.e,
        )


def _share_without_noise(summary: Summary, reference: Reference, metric: Metric, n: int) -> float:
    """What a whitened sum is multiplied by, so that devices' noise for privacy leaves its mean square as it was."""
    noise = n * summary.noise_of_mean(reference.scale) * metric.inverse_trace
    return 1.0 / math.sqrt(1.0 + noise / metric.weights) if noise > 0 else 1.0


def _labels(
    by_bundle: Mapping[str, Mapping[str, Summary]], kinds: Mapping[str, Kind]
) -> tuple[dict[str, tuple[int, int]], float]:
    """Each device's (labelled, correct) in bundles whose reference has labels, and the error rate to expect of them."""
    found: dict[str, tuple[int, int]] = {}
    expected, total = 0.0, 0
    for bundle, each in by_bundle.items():
        accuracy = kinds[bundle].baseline.reference.accuracy
        if accuracy is None:
            continue
        for device, summary in one_device.cap(each).items():
            labelled, correct = found.get(device, (0, 0))
            found[device] = (labelled + summary.labelled, correct + summary.correct)
            expected += summary.labelled * (1.0 - accuracy)
            total += summary.labelled
    return found, expected / total if total else 0.0
