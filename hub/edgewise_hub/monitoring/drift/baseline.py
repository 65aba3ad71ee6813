"""A reference made ready to be held against: its metric, and the null of each statistic at each n.

**Cross-fitted.** A metric tested on the items that made it looks better than it is (a third of the promised run
length). So the reference's blocks are split in two folds at random, several times; moments come from one fold, windows
of n items, whole blocks without replacement, from the other, both ways. Each draw is scaled by its own
1/n_e = 1/n + 1/(size of the fold), so that the null holds for the full reference.

**Blocks.** Items that follow each other on one device depend on each other as far as the reference's block length. A
span merges many devices' runs, so blocks are no longer than a run: four cameras with 40 items each know more than one
camera with 160. Where a run is longer than the blocks, each draw is inflated by what blocks forget (``memory``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgewise_hub.monitoring.drift import classes as class_test
from edgewise_hub.monitoring.drift import columns, mmd, run_length
from edgewise_hub.monitoring.drift import confidence as ks
from edgewise_hub.monitoring.drift.memory import Memory
from edgewise_hub.monitoring.drift.null import Null
from edgewise_hub.monitoring.drift.reference import Reference, means_by_class, one_hot
from edgewise_hub.monitoring.drift.ridge_t2 import Metric, effective_n
from edgewise_hub.monitoring.drift.summary import Counts
from edgewise_hub.monitoring.drift.watch import Limits

DRAWS = 4000
SPLITS = 10
SHARE = 10
"""m is at least SHARE times the n of a judgement."""
PROMISE = 10_000.0
"""Spans between two false alarms of a watch."""
HORIZONS = (1, 4, 16)
"""Spans that a watch looks back over, where the reference is large enough (``run_length.allowed``)."""
WATCHED = 128
"""Items a step of the simulated streams: more or fewer change the statistic's distribution little (``GRID``)."""
GRID = (16, 32, 64, 128, 256, 512)
"""Where nulls are drawn. n_e carries the dependence on n; what is left (how normal a mean is) fades long before 512."""


Draws = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Nulls:
    """Each test's null, by name: ``embedding`` (ridge-T2), ``mmd``, ``classes``, ``confidence``, and ``reweighted``,
    which is ridge-T2 against the reference reweighted to the window's own mix of classes. Those that the model has no
    output for are missing. ``drawn``: the p-values [B] of the same B draws in every test."""

    by_test: dict[str, Null]
    drawn: dict[str, Draws]

    def __getitem__(self, test: str) -> Null | None:
        return self.by_test.get(test)


class Baseline:
    """A reference with its nulls, each drawn when first asked for. The same ``seed`` gives the same nulls."""

    def __init__(self, reference: Reference, seed: int) -> None:
        self.reference = reference
        self.limit = reference.m // SHARE
        """Largest n that is judged as such."""
        self._seed = seed
        self._nulls: dict[tuple[int, int, int], Nulls] = {}
        self._design_effects: dict[int, float] = {}
        self._memory: dict[str, Memory] | None = None
        self._limits: dict[tuple[int, int, tuple[int, ...]], Limits] = {}

    def nulls(self, n: float, run: float) -> Nulls:
        """Nulls for about n items in runs of ``run`` items of one device: the nearest place on the grid that the
        reference is large enough for."""
        allowed = [place for place in GRID if place <= self.limit] or [GRID[0]]
        place = min(allowed, key=lambda candidate: abs(np.log(candidate / max(n, 1))))
        key = (place, self._length(run), self._run(run))
        if key not in self._nulls:
            inflation = {test: memory.inflation(key[2], key[1]) for test, memory in self._memories().items()}
            self._nulls[key] = draw_nulls(
                self.reference, place, key[1], np.random.default_rng([self._seed, *key]), inflation
            )
        return self._nulls[key]

    def design_effect(self, run: float) -> float:
        """Over-dispersion of class counts in runs of ``run`` items, at least 1."""
        length = self._length(run)
        if length not in self._design_effects:
            classes = self.reference.classes
            self._design_effects[length] = 1.0 if classes is None else class_test.design_effect(classes, length)
        return self._design_effects[length]

    def limits(self, run: float, n: float) -> Limits:
        """Limits of a watch whose steps are n items, made of runs of ``run``, for the promised run length PROMISE."""
        horizons = run_length.allowed(HORIZONS, n, self.reference.m)
        key = (self._length(run), self._run(run), horizons)
        if key not in self._limits:
            rows = self.reference.watched()
            white = self.reference.watched_metric.whiten(rows - self.reference.watched_metric.mean.astype(np.float32))
            self._limits[key] = run_length.simulate(
                rows,
                n=min(WATCHED, max(self.limit, 1)),
                length=key[0],
                horizons=horizons,
                promise=PROMISE,
                rng=np.random.default_rng([self._seed, *key[:2]]),
                inflation=Memory(white).inflation(key[1], key[0]) if key[1] > key[0] else 1.0,
            )
        return self._limits[key]

    def _run(self, run: float) -> int:
        """A run, rounded up to a power of two, so that few nulls are drawn; 1 where the reference has no memory."""
        return 1 if self.reference.block == 1 else 1 << math.ceil(math.log2(max(run, 1.0)))

    def _length(self, run: float) -> int:
        """Items a block: a run's, at most the reference's."""
        return min(self.reference.block, self._run(run))

    def _memories(self) -> dict[str, Memory]:
        """Each test's memory, in the scale in which it weighs what it sees."""
        if self._memory is None:
            reference = self.reference
            self._memory = {}
            if reference.block > 1 and reference.features is not None:
                rows = reference.rows()
                self._memory["mmd"] = Memory(rows)
                self._memory["embedding"] = Memory(reference.metric.whiten(rows - reference.metric.mean))
                self._memory["reweighted"] = self._memory["embedding"]
            if reference.block > 1 and reference.classes is not None:
                shares = np.sqrt(np.maximum(reference.class_counts / reference.m, 1e-12))
                self._memory["classes"] = Memory(one_hot(reference.classes, reference.class_count) / shares)
            if reference.block > 1 and reference.confidence is not None:
                bins = one_hot(reference.bins, len(reference.edges) + 1)
                self._memory["confidence"] = Memory(bins.cumsum(axis=1)[:, :-1])
            places = reference.column_indicators() if reference.block > 1 else None
            if places is not None:
                self._memory["columns"] = Memory(places)
        return self._memory


def draw_nulls(
    reference: Reference, n: int, length: int, rng: np.random.Generator, inflation: Mapping[str, float]
) -> Nulls:
    """Draw DRAWS windows of about n items, in blocks of ``length``, where nothing drifted. ``inflation``: what each
    test's draws are multiplied by, at least 1.

    About a second at m = 10,000 and D = 256.
    """
    blocks = reference.m // length
    parts = _Parts(
        rows=reference.rows() if reference.features is not None else None,
        classes=one_hot(reference.classes, reference.class_count) if reference.classes is not None else None,
        bins=one_hot(reference.bins, len(reference.edges) + 1) if reference.confidence is not None else None,
        columns=reference.column_indicators(),
    )
    found: dict[str, list[Draws]] = {}
    for _ in range(SPLITS):
        first = int(rng.integers(reference.m))
        items = (first + np.arange(blocks * length).reshape(blocks, length)) % reference.m
        by_block = _Parts(*(None if part is None else part[items].sum(axis=1) for part in parts))
        order = rng.permutation(blocks)
        halves = order[: blocks // 2], order[blocks // 2 :]
        for kept, drawn in (halves, halves[::-1]):
            fold = _Parts(*(None if part is None else part[items[kept].ravel()] for part in parts))
            windows = _windows(drawn, max(1, round(n / length)), DRAWS // (2 * SPLITS), rng)
            sums = _Parts(*(None if part is None else windows @ part[drawn] for part in by_block))
            size = int(windows[0].sum()) * length
            for test, draws in _statistics(fold, sums, reference.tables, len(kept) * length, size).items():
                found.setdefault(test, []).append(draws)
    draws_of = {test: np.concatenate(draws) * inflation.get(test, 1.0) for test, draws in found.items()}
    nulls = {test: Null(draws) for test, draws in draws_of.items()}
    return Nulls(nulls, {test: nulls[test].p_values(draws) for test, draws in draws_of.items()})


class _Parts(NamedTuple):
    """Features [k, D], class indicators or counts [k, K], confidence bins' [k, bins], columns' places
    [k, w]; None where there are none."""

    rows: npt.NDArray[np.float32] | None
    classes: npt.NDArray[np.float32] | None
    bins: npt.NDArray[np.float32] | None
    columns: npt.NDArray[np.float32] | None


def _statistics(fold: _Parts, sums: _Parts, tables: Sequence[tuple[int, int]], m: int, size: int) -> dict[str, Draws]:
    """Each test's statistics of windows of ``size`` items (their ``sums``) against a fold of m items."""
    n_e = effective_n(size, m)
    found: dict[str, Draws] = {}
    if fold.rows is not None and sums.rows is not None:
        second = (fold.rows.T @ fold.rows).astype(np.float64)
        metric = Metric.of_moments(m, fold.rows.sum(axis=0, dtype=np.float64), second)
        means = sums.rows.astype(np.float64) / size
        found["embedding"] = n_e * metric.squared_lengths(means - metric.mean)
        found["mmd"] = mmd.statistics(means - metric.mean, n_e)
        if fold.classes is not None and sums.classes is not None:
            per_class = means_by_class(fold.rows, fold.classes, metric.mean)
            found["reweighted"] = n_e * metric.squared_lengths(means - sums.classes / size @ per_class)
    if fold.classes is not None and sums.classes is not None:
        found["classes"] = class_test.statistics(
            sums.classes.astype(np.int64), fold.classes.sum(axis=0).astype(np.int64)
        )
    if fold.bins is not None and sums.bins is not None:
        held = fold.bins.sum(axis=0).astype(np.int64)
        found["confidence"] = ks.statistics(sums.bins.astype(np.int64), held, n_e)
    if fold.columns is not None and sums.columns is not None:
        held = fold.columns.sum(axis=0).astype(np.int64)
        found["columns"] = columns.statistics(sums.columns.astype(np.int64), held, tables, n_e)
    return found


def _windows(blocks: Counts, taken: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Which blocks are in which window: 0 or 1, [count, len(blocks)], ``taken`` in each."""
    taken = min(taken, len(blocks))
    each = len(blocks) // taken  # windows of one permutation share no block
    rounds = [rng.permutation(len(blocks))[: each * taken].reshape(each, taken) for _ in range(-(-count // each))]
    chosen = np.zeros((count, len(blocks)), dtype=np.float32)
    np.put_along_axis(chosen, np.concatenate(rounds)[:count], 1, axis=1)
    return chosen
