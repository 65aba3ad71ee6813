"""What windows of one bundle add up to: vectors of integers, whose sum is the same in any order."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewise.sketch import WindowSketches

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Summary:
    """``total`` int64 [D]: sum of fixed-point features of ``n_embedding`` rows. ``classes`` int64 [K] and
    ``confidence`` int64 [bins]: counts. A part that the model has no output for is empty. ``n``: items answered."""

    n: int
    n_embedding: int
    total: Counts
    classes: Counts
    confidence: Counts
    labelled: int = 0
    correct: int = 0

    @classmethod
    def of(cls, sketches: WindowSketches, n: int, labelled: int = 0, correct: int = 0) -> Summary:
        """A summary of one window."""
        nothing: Counts = np.zeros(0, dtype=np.int64)
        return cls(
            n=n,
            n_embedding=sketches.embedding.n if sketches.embedding else 0,
            total=sketches.embedding.total if sketches.embedding else nothing,
            classes=sketches.classes.counts if sketches.classes else nothing,
            confidence=sketches.confidence.counts if sketches.confidence else nothing,
            labelled=labelled,
            correct=correct,
        )

    @classmethod
    def nothing(cls) -> Summary:
        """A window of which nothing can be said."""
        empty: Counts = np.zeros(0, dtype=np.int64)
        return cls(n=0, n_embedding=0, total=empty, classes=empty, confidence=empty)

    def __add__(self, other: Summary) -> Summary:
        return Summary(
            n=self.n + other.n,
            n_embedding=self.n_embedding + other.n_embedding,
            total=self.total + other.total,
            classes=self.classes + other.classes,
            confidence=self.confidence + other.confidence,
            labelled=self.labelled + other.labelled,
            correct=self.correct + other.correct,
        )

    def __sub__(self, part: Summary) -> Summary:
        """What is left without ``part``, which was added before."""
        return Summary(
            n=self.n - part.n,
            n_embedding=self.n_embedding - part.n_embedding,
            total=self.total - part.total,
            classes=self.classes - part.classes,
            confidence=self.confidence - part.confidence,
            labelled=self.labelled - part.labelled,
            correct=self.correct - part.correct,
        )

    @staticmethod
    def sum(summaries: Iterable[Summary]) -> Summary:
        """All of one bundle together. Raises ValueError for none."""
        found = list(summaries)
        if not found:
            raise ValueError("summary: expected at least one, got none")
        return functools.reduce(operator.add, found)

    def mean(self, scale: int) -> npt.NDArray[np.float64]:
        """Mean feature vector [D]."""
        return self.total / (max(self.n_embedding, 1) * scale)
