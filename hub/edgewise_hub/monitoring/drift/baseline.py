"""A reference made ready to be held against: its metric, and the null of each statistic at each n.

**Cross-fitted.** A metric tested on the items that made it looks better than it is (a third of the promised run
length). So the reference's blocks are split in two folds at random, several times; moments come from one fold, windows
of n items, whole blocks without replacement, from the other, both ways. Each draw is scaled by its own
1/n_e = 1/n + 1/(size of the fold), so that the null holds for the full reference.

**Blocks.** Items that follow each other on one device depend on each other as far as the reference's block length. A
span merges many devices' runs, so blocks are no longer than a run: four cameras with 40 items each know more than one
camera with 160.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgewise_hub.monitoring.drift import classes as class_test
from edgewise_hub.monitoring.drift import confidence as ks
from edgewise_hub.monitoring.drift.null import Null
from edgewise_hub.monitoring.drift.reference import Reference, means_by_class, one_hot
from edgewise_hub.monitoring.drift.ridge_t2 import Metric, effective_n
from edgewise_hub.monitoring.drift.summary import Counts

DRAWS = 4000
SPLITS = 10
SHARE = 10
"""m is at least SHARE times the n of a judgement."""
GRID = (16, 32, 64, 128, 256, 512)
"""Where nulls are drawn. n_e carries the dependence on n; what is left (how normal a mean is) fades long before 512."""


@dataclass(frozen=True)
class Nulls:
    """``embedding``: ridge-T2. ``reweighted``: the same against the reference reweighted to the window's own mix of
    classes. ``confidence``: n_e * D^2. None where the model lacks the output."""

    embedding: Null | None
    reweighted: Null | None
    confidence: Null | None


class Baseline:
    """A reference with its nulls, each drawn when first asked for. The same ``seed`` gives the same nulls."""

    def __init__(self, reference: Reference, seed: int) -> None:
        self.reference = reference
        self.limit = reference.m // SHARE
        """Largest n that is judged as such."""
        self._seed = seed
        self._nulls: dict[tuple[int, int], Nulls] = {}
        self._design_effects: dict[int, float] = {}

    def nulls(self, n: float, run: float) -> Nulls:
        """Nulls for about n items in runs of ``run`` items of one device: the nearest place on the grid that the
        reference is large enough for."""
        allowed = [place for place in GRID if place <= self.limit] or [GRID[0]]
        place = min(allowed, key=lambda candidate: abs(np.log(candidate / max(n, 1))))
        key = (place, self._length(run))
        if key not in self._nulls:
            self._nulls[key] = draw_nulls(self.reference, *key, np.random.default_rng([self._seed, *key]))
        return self._nulls[key]

    def design_effect(self, run: float) -> float:
        """Over-dispersion of class counts in runs of ``run`` items, at least 1."""
        length = self._length(run)
        if length not in self._design_effects:
            classes = self.reference.classes
            self._design_effects[length] = 1.0 if classes is None else class_test.design_effect(classes, length)
        return self._design_effects[length]

    def _length(self, run: float) -> int:
        """Items a block: a run's, rounded up to a power of two (few nulls to draw), at most the reference's."""
        return min(self.reference.block, 1 << math.ceil(math.log2(max(run, 1.0))))


def draw_nulls(reference: Reference, n: int, length: int, rng: np.random.Generator) -> Nulls:
    """Draw DRAWS windows of about n items, in blocks of ``length``, where nothing drifted.

    About a second at m = 10,000 and D = 256.
    """
    blocks = reference.m // length
    items = np.arange(blocks * length).reshape(blocks, length)
    parts = _Parts(
        rows=reference.rows() if reference.features is not None else None,
        classes=one_hot(reference.classes, reference.class_count) if reference.classes is not None else None,
        bins=one_hot(reference.bins, len(reference.edges) + 1) if reference.confidence is not None else None,
    )
    by_block = _Parts(*(None if part is None else part[items].sum(axis=1) for part in parts))
    found: list[tuple[Draws | None, ...]] = []
    for _ in range(SPLITS):
        order = rng.permutation(blocks)
        halves = order[: blocks // 2], order[blocks // 2 :]
        for kept, drawn in (halves, halves[::-1]):
            fold = _Parts(*(None if part is None else part[items[kept].ravel()] for part in parts))
            windows = _windows(drawn, max(1, round(n / length)), DRAWS // (2 * SPLITS), rng)
            sums = _Parts(*(None if part is None else windows @ part[drawn] for part in by_block))
            found.append(_statistics(fold, sums, len(kept) * length, int(windows[0].sum()) * length))
    nulls = [None if draws[0] is None else Null(np.concatenate(draws)) for draws in zip(*found, strict=True)]
    return Nulls(*nulls)


Draws = npt.NDArray[np.float64]


class _Parts(NamedTuple):
    """Features [k, D], class indicators or counts [k, K], confidence bins' [k, bins]; None where there are none."""

    rows: npt.NDArray[np.float32] | None
    classes: npt.NDArray[np.float32] | None
    bins: npt.NDArray[np.float32] | None


def _statistics(fold: _Parts, sums: _Parts, m: int, size: int) -> tuple[Draws | None, Draws | None, Draws | None]:
    """Embedding, reweighted and confidence statistics of windows of ``size`` items (their ``sums``) against a fold of m
    items."""
    n_e = effective_n(size, m)
    embedding = reweighted = confidence = None
    if fold.rows is not None and sums.rows is not None:
        second = (fold.rows.T @ fold.rows).astype(np.float64)
        metric = Metric.of_moments(m, fold.rows.sum(axis=0, dtype=np.float64), second)
        means = sums.rows.astype(np.float64) / size
        embedding = n_e * metric.squared_lengths(means - metric.mean)
        if fold.classes is not None and sums.classes is not None:
            per_class = means_by_class(fold.rows, fold.classes, metric.mean)
            reweighted = n_e * metric.squared_lengths(means - sums.classes / size @ per_class)
    if fold.bins is not None and sums.bins is not None:
        held = fold.bins.sum(axis=0).astype(np.int64)
        confidence = ks.statistics(sums.bins.astype(np.int64), held, n_e)
    return embedding, reweighted, confidence


def _windows(blocks: Counts, taken: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Which blocks are in which window: 0 or 1, [count, len(blocks)], ``taken`` in each."""
    taken = min(taken, len(blocks))
    each = len(blocks) // taken  # windows of one permutation share no block
    rounds = [rng.permutation(len(blocks))[: each * taken].reshape(each, taken) for _ in range(-(-count // each))]
    chosen = np.zeros((count, len(blocks)), dtype=np.float32)
    np.put_along_axis(chosen, np.concatenate(rounds)[:count], 1, axis=1)
    return chosen
