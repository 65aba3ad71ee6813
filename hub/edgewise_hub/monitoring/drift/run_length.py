"""How high a watch's limit must be, so that false alarms are as rare as promised: simulated on the reference itself.

The run length of a chart has no formula where the statistic is a quadratic form over correlated features, so streams of
the reference's blocks, where nothing drifts, are watched until they alarm (Sparks, 2000, for weighted charts; the
threshold is then the one whose average run length is the promise). Rules that hold here:

- **cross-fitted**: the metric comes from one half of the blocks, the streams from the other: a metric tested on its own
  items gave a third of the promise. The halves' means differ by more than a reference's from the truth (variance 4/m
  against 1/m), so the streams' offset is halved;
- run lengths that outlast the simulation count as censored: the rate is alarms over steps (the exponential's estimate),
  and precision falls where the promise is many times ``STEPS``;
- a step is a span: of consecutive items where they are fewer than a block, else of blocks put together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgewise_hub.monitoring.drift.null import Null
from edgewise_hub.monitoring.drift.ridge_t2 import Metric
from edgewise_hub.monitoring.drift.watch import Limits, decays

SPLITS = 4
STREAMS = 96
STEPS = 1200
POOL = 2000
KEPT = 40_000
"""Draws that a horizon's null is made of."""

Array = npt.NDArray[np.float32]


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
    paths = np.concatenate([_paths(rows, n, length, horizons, rng) for _ in range(SPLITS // 2)]) * inflation
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
    low, high = 0.0, float(highest.max()) + 10.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if average_run_length(highest, middle) < promise else (low, middle)
    if promise > 0.5 * highest.size:  # beyond what was simulated: the tail of -ln p is exponential with mean 1
        seen = 0.25 * highest.size
        at = _limit(highest, seen)
        return max(high, at + float(np.log(promise / seen)))
    return high


def _paths(
    rows: npt.NDArray[np.float32], n: int, length: int, horizons: Sequence[int], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Statistics [2 * STREAMS, STEPS, H] of streams from either half, held against the other."""
    blocks = len(rows) // length
    items = (int(rng.integers(len(rows))) + np.arange(blocks * length).reshape(blocks, length)) % len(rows)
    order = rng.permutation(blocks)
    halves = order[: blocks // 2], order[blocks // 2 :]
    found = []
    for kept, drawn in (halves, halves[::-1]):
        fold = rows[items[kept].ravel()]
        second = (fold.T @ fold).astype(np.float64)
        metric = Metric.of_moments(len(fold), fold.sum(axis=0, dtype=np.float64), second)
        other = rows[items[drawn]]  # [blocks, length, D]
        offset = (other.mean(axis=(0, 1), dtype=np.float64) - metric.mean) / 2
        white = metric.whiten(other.reshape(-1, rows.shape[1]) - (metric.mean + offset).astype(np.float32))
        steps, follow = _steps(white.astype(np.float32).reshape(other.shape), n, rng)
        found.append(_watch(steps, follow, n, horizons, len(rows), rng))
    return np.concatenate(found)


def _steps(white: Array, n: int, rng: np.random.Generator) -> tuple[Array, int]:
    """Sums [k, D] of steps of n items, and how many consecutive ones belong to one block."""
    blocks, length, width = white.shape
    if n <= length:
        follow = length // n
        return white[:, : follow * n].reshape(blocks * follow, n, width).sum(axis=1), follow
    sums = white.sum(axis=1)
    taken = max(1, round(n / length))
    each = np.stack([sums[rng.choice(blocks, taken, replace=taken > blocks)].sum(axis=0) for _ in range(POOL)])
    return each * np.float32(n / (taken * length)) ** np.float32(0.5), 1


def _watch(
    steps: Array, follow: int, n: int, horizons: Sequence[int], m: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Statistics [STREAMS, STEPS, H] of streams of these steps."""
    jumps = rng.integers(len(steps) // follow, size=(STREAMS, -(-STEPS // follow) + 1)) * follow
    first = rng.integers(follow, size=(STREAMS, 1))  # streams begin anywhere in a block
    index = (jumps[:, :, None] + np.arange(follow)).reshape(STREAMS, -1)
    index = np.take_along_axis(index, first + np.arange(STEPS), axis=1)
    keep = decays(horizons).astype(np.float32)
    sums = np.zeros((STREAMS, len(horizons), steps.shape[1]), dtype=np.float32)
    weight = square = np.zeros(len(horizons))
    found = np.empty((STREAMS, STEPS, len(horizons)))
    for step in range(STEPS):
        sums *= keep[:, None]
        sums += steps[index[:, step]][:, None, :]
        weight, square = weight * keep + n, square * keep**2 + n
        scale = 1.0 / weight**2 / (square / weight**2 + 1.0 / m)
        found[:, step] = np.einsum("shd,shd->sh", sums, sums) * scale
    return found
