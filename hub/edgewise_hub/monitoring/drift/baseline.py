"""A reference made ready to be held against: its metric, and the null of each statistic at each n.

**Cross-fitted.** A metric tested on the items that made it looks better than it is (a third of the promised run
length). So the reference's blocks are split in FOLDS folds at random, several times; windows of n items, whole blocks
without replacement, come from one fold, moments from the others: from four fifths of the items, since a metric of half
of them is noisier than the one that judges (by 6% of the statistic at 3,000 items and 256 features). Each draw is
scaled by its own 1/n_e = 1/n + 1/(size of the other folds), so that the null holds for the full reference.

**Blocks.** Items that follow each other on one device depend on each other as far as the reference's block length. A
span merges many devices' runs, so blocks are no longer than a run: four cameras with 40 items each know more than one
camera with 160. Where a run is longer than the blocks, each draw is inflated by what blocks forget (``memory``).
A reference of few runs knows the scale of its statistics only so well: draws are spread by that (``_predictive``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

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
FOLDS = 5
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
Moments = dict[str, npt.NDArray[Any]]


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

    @property
    def independent(self) -> int:
        """Items drawn alone that know as much as the reference's: fewer where its items depend on each other."""
        memories = self._memories().values()
        return round(self.reference.m / max([1.0, *(memory.time for memory in memories)]))

    def level(self, alpha: float, n: float, run: float) -> tuple[float, float]:
        """Between which rates of false alarms the level ``alpha`` lies, in two of three references: as well as this one
        knows the scale of the statistic that it knows least."""
        nulls, known = self.nulls(n, run), self.reference.m // self._length(run)
        found = []
        for null in nulls.by_test.values():
            unsure = null.deviation / null.mean / math.sqrt(known)
            at = null.quantile(1 - alpha)
            found.append((null.p_value(at * (1 + unsure)), null.p_value(at / (1 + unsure))))
        return min(low for low, _ in found), max(high for _, high in found)

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
        """A run, on a grid of quarters of an octave, so that few nulls are drawn; 1 where the reference has no memory.
        To the nearest: where a stream hardly changes within a run, its statistic grows as the run does."""
        return 1 if self.reference.block == 1 else max(1, round(2 ** (round(4 * math.log2(max(run, 1.0))) / 4)))

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
        folds = np.array_split(rng.permutation(blocks), FOLDS)
        moments = [_moments(parts, items[drawn].ravel()) for drawn in folds]
        for drawn, own in zip(folds, moments, strict=True):
            others = {name: sum(each[name] for each in moments) - own[name] for name in own}
            windows = _windows(drawn, max(1, round(n / length)), DRAWS // (FOLDS * SPLITS), rng)
            sums = _Parts(*(None if part is None else windows @ part[drawn] for part in by_block))
            size = int(windows[0].sum()) * length
            for test, draws in _statistics(others, sums, reference.tables, size).items():
                found.setdefault(test, []).append(draws)
    unsure, known = rng.random(FOLDS * SPLITS * (DRAWS // (FOLDS * SPLITS))), blocks
    draws_of = {
        test: _predictive(np.concatenate(draws) * inflation.get(test, 1.0), unsure, known)
        for test, draws in found.items()
    }
    nulls = {test: Null(draws) for test, draws in draws_of.items()}
    return Nulls(nulls, {test: nulls[test].p_values(draws) for test, draws in draws_of.items()})


class _Parts(NamedTuple):
    """Features [k, D], class indicators or counts [k, K], confidence bins' [k, bins], columns' places
    [k, w]; None where there are none."""

    rows: npt.NDArray[np.float32] | None
    classes: npt.NDArray[np.float32] | None
    bins: npt.NDArray[np.float32] | None
    columns: npt.NDArray[np.float32] | None


def _predictive(draws: Draws, unsure: Draws, known: int) -> Draws:
    """Draws whose scale is known from so many independent blocks alone: divided by chi-squared over its degrees of
    freedom, as an F is. A mean of k squares whose coefficient of variation is c has one of c / sqrt(k), as chi-squared
    with 2 k / c^2 degrees has. ``unsure``: uniform [B], the same for all tests, which share the reference."""
    freedom = 2 * known * float(draws.mean() ** 2 / max(draws.var(), 1e-300))
    result: Draws = draws * freedom / stats.chi2.ppf(unsure, freedom)
    return result


def _moments(parts: _Parts, items: Counts) -> Moments:
    """What statistics need of some items: sums, which are what is left of all when others' are taken away."""
    found: Moments = {"m": np.array(len(items))}
    taken = _Parts(*(None if part is None else part[items] for part in parts))
    for name, part in taken._asdict().items():
        if part is not None:
            found[name] = part.sum(axis=0, dtype=np.float64)
    if taken.rows is not None:
        found["second"] = (taken.rows.T @ taken.rows).astype(np.float64)
        if taken.classes is not None:
            found["by_class"] = (taken.classes.T @ taken.rows).astype(np.float64)
    return found


def _statistics(held: Moments, sums: _Parts, tables: Sequence[tuple[int, int]], size: int) -> dict[str, Draws]:
    """Each test's statistics of windows of ``size`` items (their ``sums``) against what is ``held``."""
    m = int(held["m"])
    n_e = effective_n(size, m)
    found: dict[str, Draws] = {}
    if sums.rows is not None:
        metric = Metric.of_moments(m, held["rows"], held["second"])
        means = sums.rows.astype(np.float64) / size
        found["embedding"] = n_e * metric.squared_lengths(means - metric.mean)
        found["mmd"] = mmd.statistics(means - metric.mean, n_e)
        if sums.classes is not None:
            per_class = means_by_class(held["by_class"], held["classes"], metric.mean)
            found["reweighted"] = n_e * metric.squared_lengths(means - sums.classes / size @ per_class)
    if sums.classes is not None:
        found["classes"] = class_test.statistics(sums.classes.astype(np.int64), _counts(held["classes"]))
    if sums.bins is not None:
        found["confidence"] = ks.statistics(sums.bins.astype(np.int64), _counts(held["bins"]), n_e)
    if sums.columns is not None:
        found["columns"] = columns.statistics(sums.columns.astype(np.int64), _counts(held["columns"]), tables, n_e)
    return found


def _counts(sums: Draws) -> Counts:
    return np.rint(sums).astype(np.int64)


def _windows(blocks: Counts, taken: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Which blocks are in which window: 0 or 1, [count, len(blocks)], ``taken`` in each."""
    taken = min(taken, len(blocks))
    each = len(blocks) // taken  # windows of one permutation share no block
    rounds = [rng.permutation(len(blocks))[: each * taken].reshape(each, taken) for _ in range(-(-count // each))]
    chosen = np.zeros((count, len(blocks)), dtype=np.float32)
    np.put_along_axis(chosen, np.concatenate(rounds)[:count], 1, axis=1)
    return chosen
