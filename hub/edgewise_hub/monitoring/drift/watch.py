"""Watching over time: exponentially weighted means of the whitened features over several horizons at once.

A short horizon sees what is abrupt, a long one what is slow, and nobody has to choose: the horizon whose statistic is
least likely is the window that was judged, and it is reported. Each horizon's statistic is ridge-T2 of its weighted
mean, n_e |S / W|^2 with 1/n_e = Q / W^2 + 1/m, where S, W and Q are the decayed sums of whitened features, of items and
of their squared weights. It becomes a p-value by its null, and the smallest of them is held against a limit that was
simulated for the promised run length (``run_length``). An exponentially weighted mean is Roberts' (1959) chart,
several of them the multivariate form of Lowry et al. (1992).

A group is the sum of its devices, which are kept apart, so that each can be looked at, and left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgewise_hub.monitoring.drift.null import Null

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """``horizons``: those that are read, shortest first: all that a watch keeps, or the first of them. ``nulls``: of
    each one's statistic. ``score``: -ln p of the smallest p-value at which an alarm is raised; ``promise``: steps
    between two false alarms, on average."""

    horizons: tuple[int, ...]
    nulls: tuple[Null, ...]
    score: float
    promise: float


@dataclass(frozen=True)
class Reading:
    """``score``: -ln of the smallest p-value over the horizons; ``horizon``: the one that gave it, in steps; ``n``: its
    effective items; ``shift``: squared distance beyond chance."""

    score: float
    limit: float
    horizon: int
    n: float
    shift: float

    @property
    def alarm(self) -> bool:
        """Whether the score is at or above the limit."""
        return self.score >= self.limit


@dataclass
class Weighted:
    """Decayed sums of one device, or of several together: ``sums`` [H, D], ``weight`` [H], ``square`` [H]."""

    sums: Array
    weight: Array
    square: Array

    @classmethod
    def nothing(cls, horizons: int, width: int) -> Weighted:
        """Of a device that sent nothing yet."""
        return cls(np.zeros((horizons, width)), np.zeros(horizons), np.zeros(horizons))

    def minus(self, other: Weighted) -> Weighted:
        """What is left without ``other``, which is part of it."""
        return Weighted(self.sums - other.sums, self.weight - other.weight, self.square - other.square)

    def read(self, limits: Limits, m: int) -> Reading | None:
        """Held against the limits; None where nothing was seen. ``m``: items of the reference."""
        if not (self.weight > 1e-9).all():
            return None
        inverse = self.square / self.weight**2 + 1.0 / m
        statistics = np.einsum("hd,hd->h", self.sums, self.sums) / self.weight**2 / inverse
        statistics = statistics[: len(limits.horizons)]
        p_values = [null.p_value(float(value)) for null, value in zip(limits.nulls, statistics, strict=True)]
        best = int(np.argmin(p_values))
        return Reading(
            score=-math.log(p_values[best]),
            limit=limits.score,
            horizon=limits.horizons[best],
            n=float(self.weight[best] ** 2 / max(self.square[best], 1e-12)),
            shift=float(max(statistics[best] - limits.nulls[best].mean, 0.0) * inverse[best]),
        )


@dataclass
class Watch:
    """The devices of one group and one bundle. ``width``: of the whitened features; ``horizons``: in steps, from 1."""

    width: int
    horizons: tuple[int, ...]
    devices: dict[str, Weighted] = field(default_factory=dict)

    def step(self, seen: Mapping[str, tuple[int, Array]]) -> None:
        """One step: of each device that sent something, its items and the sum [D] of their whitened features less the
        reference's mean. Raises ValueError on a sum that is not finite or of another width."""
        for device, (n, total) in seen.items():
            if total.shape != (self.width,) or not np.isfinite(total).all() or n <= 0:
                raise ValueError(f"watch: {device}: expected a finite sum of {self.width} over n > 0 items")
        keep = decays(self.horizons)
        for held in self.devices.values():
            held.sums *= keep[:, None]
            held.weight *= keep
            held.square *= keep**2
        for device, (n, total) in seen.items():
            held = self.devices.setdefault(device, Weighted.nothing(len(self.horizons), self.width))
            held.sums += total
            held.weight += n
            held.square += n
        self.devices = {name: held for name, held in self.devices.items() if held.weight[-1] > 1e-3}

    def together(self) -> Weighted:
        """All devices as one."""
        parts = list(self.devices.values())
        if not parts:
            return Weighted.nothing(len(self.horizons), self.width)
        return Weighted(
            np.sum([part.sums for part in parts], axis=0),
            np.sum([part.weight for part in parts], axis=0),
            np.sum([part.square for part in parts], axis=0),
        )

    def read(self, limits: Limits, m: int) -> Reading | None:
        """The group: what it says without the one device that says most, where there are several."""
        everyone = self.together()
        readings = [everyone.read(limits, m)]
        if len(self.devices) > 1:
            readings += [everyone.minus(device).read(limits, m) for device in self.devices.values()]
        found = [reading for reading in readings if reading is not None]
        return min(found, key=lambda reading: reading.score, default=None)

    def read_devices(self, limits: Limits, m: int) -> dict[str, Reading]:
        """Each device on its own."""
        found = {device: held.read(limits, m) for device, held in self.devices.items()}
        return {device: reading for device, reading in found.items() if reading is not None}


def decays(horizons: Sequence[int]) -> Array:
    """What is kept of each horizon's sums from one step to the next."""
    return np.array([1.0 - 1.0 / horizon for horizon in horizons])
