"""How high a watch's limit must be, so that false alarms are as rare as promised: simulated on the reference itself.

The run length of a chart has no formula where the statistic is a quadratic form over correlated features, so streams of
the reference's blocks, where nothing drifts, are watched until they alarm (Sparks, 2000, for weighted charts; the
threshold is then the one whose average run length is the promise). Rules that hold here:

- **cross-fitted**: each item is whitened by the metric of the other folds, as an item of a stream is by a metric that
  never saw it: on its own items a metric gave a third of the promise;
- **the bootstrap's world** (Efron, 1979): the reference stands for the truth it was drawn from. Each stream has a truth
  of its own, the reference's blocks drawn anew with replacement, whose mean and covariance err by as much as the
  reference's do, and draws from it with replacement, since a stream does not run out of items. Steps drawn without
  replacement vary too little, by the share of blocks taken: a tenth of the items gave a tenth of the promise;
- run lengths that outlast the simulation count as censored: the rate is alarms over steps (the exponential's estimate),
  and precision falls where the promise is many times ``STEPS``;
- a step is a span: of consecutive items where they are fewer than a block, else of blocks put together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgewise_hub.monitoring.drift.null import Null
from edgewise_hub.monitoring.drift.ridge_t2 import Metric
from edgewise_hub.monitoring.drift.watch import Limits, decays

FOLDS = 10
STREAMS = 384
STEPS = 1200
POOL = 16_000
"""Steps that streams draw from, where one is more than a block."""
RARELY = 0.1
"""Share of all simulated steps up to which a run length is read off them: ten alarms."""
SHARE = 2
"""A reference has at least SHARE times the items that a horizon looks back over."""
KEPT = 40_000
"""Draws that a horizon's null is made of."""

Array = npt.NDArray[np.float32]


def allowed(horizons: Sequence[int], n: float, m: int) -> tuple[int, ...]:
    """Those that look back over at most half as many items as the reference has, at ``n`` items a step, and the
    shortest. What a longer one sees is above all the reference's own error, which is the same at every step: run
    lengths then keep the promise on average over references and miss it on most by a factor of 2."""
    return tuple(horizon for horizon in horizons if horizon == horizons[0] or needed(horizon, n) <= m)


def needed(horizon: int, n: float) -> int:
    """Items of a reference that a horizon h asks for: it looks back over n (2 h - 1)."""
    return math.ceil(SHARE * n * (2 * horizon - 1))


def simulate(
    rows: npt.NDArray[np.float32],
    *,
    n: int,
    length: int,
    horizons: Sequence[int],
    promise: float,
    rng: np.random.Generator,
    inflation: float = 1.0,
) -> Limits:
    """Limits for steps of ``n`` items in blocks of ``length``, from the reference's features [m, D] in order of time.

    ``promise``: steps between false alarms; ``inflation`` >= 1: variance of a run over that of its blocks (``memory``).
    Seconds at m = 10,000 and D = 256.
    """
    white = _cross_fitted(rows, length, rng)
    steps, follow = _steps(white, n, rng)
    paths = _watch(steps, follow, n, horizons, len(white), length, rng) * inflation
    flat = paths.reshape(-1, len(horizons))
    chosen = flat[rng.choice(len(flat), min(KEPT, len(flat)), replace=False)]
    nulls = tuple(Null(chosen[:, i]) for i in range(len(horizons)))
    p_values = np.min([null.p_values(paths[:, :, i]) for i, null in enumerate(nulls)], axis=0)
    scores = np.maximum.accumulate(-np.log(p_values), axis=1)
    return Limits(tuple(horizons), nulls, _limit(scores, promise), promise)


def average_run_length(highest: npt.NDArray[np.floating], limit: float) -> float:
    """Steps an alarm, from running maxima [streams, steps] of scores, censored at their end."""
    crossed = highest >= limit
    before = np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1, highest.shape[1])
    return float(before.sum() / max(int(crossed.any(axis=1).sum()), 0.5))


def _limit(highest: npt.NDArray[np.floating], promise: float) -> float:
    """The lowest score whose average run length is the promise, by bisection."""
    beyond = promise / (RARELY * highest.size)
    if beyond > 1:  # too few alarms were simulated: the tail of -ln p is exponential with mean 1
        return _limit(highest, RARELY * highest.size) + math.log(beyond)
    low, high = 0.0, float(highest.max()) + 10.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if average_run_length(highest, middle) < promise else (low, middle)
    return high


def _cross_fitted(rows: Array, length: int, rng: np.random.Generator) -> Array:
    """The reference's blocks [k, length, D], beginning anywhere, less its mean: each whitened by the other folds'
    metric."""
    k, width = len(rows) // length, rows.shape[1]
    items = (int(rng.integers(len(rows))) + np.arange(k * length).reshape(k, length)) % len(rows)
    total, second = rows[items.ravel()].sum(axis=0, dtype=np.float64), _second(rows[items.ravel()])
    mean = (total / (k * length)).astype(np.float32)
    white = np.empty((k, length, width), dtype=np.float32)
    for fold in np.array_split(rng.permutation(k), min(FOLDS, k)):
        own = rows[items[fold].ravel()]
        others = k * length - len(own)
        metric = Metric.of_moments(others, total - own.sum(axis=0, dtype=np.float64), second - _second(own))
        white[fold] = metric.whiten(own - mean).reshape(len(fold), length, width)
    return white


def _second(rows: Array) -> npt.NDArray[np.float64]:
    return (rows.T @ rows).astype(np.float64)


def _steps(white: Array, n: int, rng: np.random.Generator) -> tuple[Array, int]:
    """Sums [k, D] of steps of n items, on average 0, and how many consecutive ones belong to one block."""
    blocks, length, width = white.shape
    if n <= length:
        follow = length // n
        steps = white[:, : follow * n].reshape(blocks * follow, n, width).sum(axis=1)
    else:
        follow, sums, taken = 1, white.sum(axis=1), max(1, round(n / length))
        steps = np.stack([sums[rng.integers(blocks, size=taken)].sum(axis=0) for _ in range(POOL)])
        steps *= np.float32(math.sqrt(n / (taken * length)))
    return steps - steps.mean(axis=0), follow


def _watch(
    steps: Array, follow: int, n: int, horizons: Sequence[int], blocks: int, length: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Statistics [STREAMS, STEPS, H] of streams of these steps, each out of a truth of as many draws as the reference
    has ``blocks``."""
    units, unit, m = len(steps) // follow, follow * n, blocks * length
    truths = rng.integers(units, size=(STREAMS, blocks))
    counts = np.stack([np.bincount(truth, minlength=units) for truth in truths]).astype(np.float32)
    errors = counts @ steps.reshape(units, follow, -1).sum(axis=1) / np.float32(blocks * unit)
    errors *= np.float32(math.sqrt(max(unit / length, 1.0)) - 1.0)  # units of many blocks: their mean errs less
    drawn = rng.integers(blocks, size=(STREAMS, -(-STEPS // follow) + 1))
    jumps = np.take_along_axis(truths, drawn, axis=1) * follow
    first = rng.integers(follow, size=(STREAMS, 1))  # streams begin anywhere in a block
    index = (jumps[:, :, None] + np.arange(follow)).reshape(STREAMS, -1)
    index = np.take_along_axis(index, first + np.arange(STEPS), axis=1)
    keep = decays(horizons).astype(np.float32)
    sums = np.zeros((STREAMS, len(horizons), steps.shape[1]), dtype=np.float32)
    weight = square = np.zeros(len(horizons))
    found = np.empty((STREAMS, STEPS, len(horizons)))
    for step in range(STEPS):
        sums *= keep[:, None]
        sums += (steps[index[:, step]] + n * errors)[:, None, :]
        weight, square = weight * keep + n, square * keep**2 + n
        scale = 1.0 / weight**2 / (square / weight**2 + 1.0 / m)
        found[:, step] = np.einsum("shd,shd->sh", sums, sums) * scale
    return found
