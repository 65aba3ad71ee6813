"""What windows of one bundle add up to: vectors of integers, whose sum is the same in any order."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewise.sketch import WindowSketches

Counts = npt.NDArray[np.int64]


def _nothing() -> Counts:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Summary:
    """Integers of one bundle's windows. A part that the model has no output for is empty.

    ``n``: items answered. ``total`` int64 [D]: sum of fixed-point features of ``n_embedding`` rows. Counts: ``classes``
    [K], ``confidence`` and ``distances`` [bins], ``cells`` [cells], ``features`` and ``categories`` [columns, places],
    ``labels`` (as ``LabelSketch.counts``). ``invalid``: embeddings that were not finite. ``labelled`` and ``correct``:
    by the windows' counters. ``noise``: variance of the noise that devices added for privacy to each count, by sketch;
    in ``total`` it is larger by the square of the sketch's unit.
    """

    n: int = 0
    n_embedding: int = 0
    total: Counts = field(default_factory=_nothing)
    classes: Counts = field(default_factory=_nothing)
    confidence: Counts = field(default_factory=_nothing)
    labelled: int = 0
    correct: int = 0
    distances: Counts = field(default_factory=_nothing)
    cells: Counts = field(default_factory=_nothing)
    features: Counts = field(default_factory=_nothing)
    categories: Counts = field(default_factory=_nothing)
    labels: Counts = field(default_factory=_nothing)
    invalid: int = 0
    noise: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, sketches: WindowSketches, n: int, labelled: int = 0, correct: int = 0) -> Summary:
        """A summary of one window, or of several merged."""
        embedding = sketches.embedding
        return cls(
            n=n,
            n_embedding=embedding.n if embedding else 0,
            total=embedding.total if embedding else _nothing(),
            classes=sketches.classes.counts if sketches.classes else _nothing(),
            confidence=sketches.confidence.counts if sketches.confidence else _nothing(),
            labelled=labelled,
            correct=correct,
            distances=embedding.distances if embedding else _nothing(),
            cells=embedding.cells if embedding else _nothing(),
            features=sketches.features.counts if sketches.features else _nothing(),
            categories=sketches.categories.counts if sketches.categories else _nothing(),
            labels=sketches.labels.counts if sketches.labels else _nothing(),
            invalid=embedding.invalid if embedding else 0,
            noise={name: part.noise for name, part in sketches.parts.items() if part.noise},
        )

    @classmethod
    def nothing(cls) -> Summary:
        """A window of which nothing can be said."""
        return cls()

    def __add__(self, other: Summary) -> Summary:
        return self._with(other, operator.add)

    def __sub__(self, part: Summary) -> Summary:
        """What is left without ``part``, which was added before."""
        return self._with(part, operator.sub)

    def _with(self, other: Summary, how: Callable[[Any, Any], Any]) -> Summary:
        names = [one.name for one in fields(self) if one.name != "noise"]
        found = {name: how(getattr(self, name), getattr(other, name)) for name in names}
        noise = {name: how(self.noise.get(name, 0), other.noise.get(name, 0)) for name in {**self.noise, **other.noise}}
        return Summary(**found, noise=noise)

    @staticmethod
    def sum(summaries: Iterable[Summary]) -> Summary:
        """All of one bundle together. Raises ValueError for none."""
        found = list(summaries)
        if not found:
            raise ValueError("summary: expected at least one, got none")
        names = [one.name for one in fields(found[0]) if one.name != "noise"]
        noise: dict[str, int] = {}
        for one in found:
            for name, variance in one.noise.items():
                noise[name] = noise.get(name, 0) + variance
        totals: dict[str, Any] = {name: np.sum([getattr(one, name) for one in found], axis=0) for name in names}
        totals = {name: total if isinstance(total, np.ndarray) else int(total) for name, total in totals.items()}
        return Summary(**totals, noise=noise)

    def noise_of_mean(self, scale: int) -> float:
        """Variance that devices' noise for privacy adds to each feature of ``mean``."""
        unit = math.ceil(scale + math.sqrt(len(self.total)) / 2)  # as ``EmbeddingSketch``: noise is measured in it
        return self.noise.get("embedding", 0) * (unit / (max(self.n_embedding, 1) * scale)) ** 2

    def mean(self, scale: int) -> npt.NDArray[np.float64]:
        """Mean feature vector [D]."""
        return self.total / (max(self.n_embedding, 1) * scale)

    def watched(self, scale: int) -> tuple[int, npt.NDArray[np.float64]]:
        """Items, and the sum of what is watched over time: as ``Reference.watched``."""
        if len(self.total):
            return self.n_embedding, self.total / scale
        counts = [part for part in (self.classes, self.confidence) if len(part)]
        if counts:
            return int(counts[0].sum()), np.concatenate(counts).astype(np.float64)
        tables = [part for part in (self.features, self.categories) if part.size]
        if tables:
            return int(tables[0][0].sum()), np.concatenate([part.ravel() for part in tables]).astype(np.float64)
        return 0, np.zeros(0)
