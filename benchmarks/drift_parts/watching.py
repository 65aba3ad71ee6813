"""Edgewise's watch on streams of MNIST's embeddings: run length, delay, cost."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from drift_parts.ours import SCALE, WIDTH, Array, Items, as_peers, items, split
from edgewise_hub.monitoring.drift import run_length
from edgewise_hub.monitoring.drift.baseline import HORIZONS as SPANS
from edgewise_hub.monitoring.drift.reference import Reference
from edgewise_hub.monitoring.drift.watch import Limits, Watch, decays

HORIZONS = (24, 96, 384)
"""In items, where each is a step."""
PROMISE = 1000.0
"""Items between two false alarms."""


class Online(NamedTuple):
    """A watch whose steps are ``n`` items: its limits and reference, and clean items, whitened."""

    limits: Limits
    clean: Array
    held: Reference
    n: int


def online(n: int = 1, *, as_the_peers: bool = False) -> Online:
    """On a reference of 10,000 of MNIST, or on the peers'. Steps of one item have HORIZONS, others the hub's own; a
    small reference has fewer of them."""
    baseline, rest = as_peers() if as_the_peers else split("mnist", 0, 1, chunk=1)[:2]
    held = baseline.reference
    horizons = run_length.allowed(HORIZONS if n == 1 else SPANS, n, held.m)
    limits = run_length.simulate(
        held.rows(),
        n=n,
        length=1,
        horizons=horizons,
        promise=PROMISE / n,
        rng=np.random.default_rng(3),
    )
    return Online(limits, whiten(held, rest), held, n)


def whiten(held: Reference, part: Items) -> Array:
    """Items in the reference's metric [n, 256]."""
    rows = part.features.astype(np.float32) / SCALE
    return held.metric.whiten(rows - held.metric.mean.astype(np.float32)).astype(np.float32)


def run(watch: Online, sources: list[tuple[Array, int]], streams: int, seed: int) -> Array:
    """Scores [streams, steps] of streams that draw from each source for so many steps, one after another."""
    rng = np.random.default_rng(seed)
    n, horizons = watch.n, watch.limits.horizons
    keep = decays(horizons).astype(np.float32)
    sums = np.zeros((streams, len(horizons), WIDTH), dtype=np.float32)
    weight = square = np.zeros(len(horizons))
    scores = []
    for source, steps in sources:
        for _ in range(steps):
            seen = source[rng.integers(len(source), size=(streams, n))].sum(axis=1)
            sums = sums * keep[:, None] + seen[:, None]
            weight, square = weight * keep + n, square * keep**2 + n
            scale = 1 / weight**2 / (square / weight**2 + 1 / watch.held.m)
            statistics = np.einsum("shd,shd->sh", sums, sums) * scale
            p = [null.p_values(statistics[:, i]) for i, null in enumerate(watch.limits.nulls)]
            scores.append(-np.log(np.min(p, axis=0)))
    return np.array(scores).T


def realised(watch: Online, streams: int = 120, most: int = 2000) -> float:
    """The average run length, in items, on items that made no limit."""
    scores = np.maximum.accumulate(run(watch, [(watch.clean, most // watch.n)], streams, 9), axis=1)
    return watch.n * run_length.average_run_length(scores, watch.limits.score)


def delay(watch: Online, shift: str, streams: int = 120, before: int = 200, most: int = 1000) -> float:
    """Median items from the change to the alarm, of streams that were quiet before; ``most`` where it is later."""
    shifted = whiten(watch.held, items("mnist", shift))
    first = before // watch.n
    scores = run(watch, [(watch.clean, first), (shifted, most // watch.n)], streams, 10) >= watch.limits.score
    kept = scores[~scores[:, :first].any(axis=1), first:]
    return float(np.median(np.where(kept.any(axis=1), (kept.argmax(axis=1) + 1) * watch.n, most)))


def measured(watch: Online, shifts: tuple[str, ...]) -> dict[str, object]:
    """Run length, and delay by shift."""
    return {"run_length": realised(watch), "delay": {shift: delay(watch, shift) for shift in shifts}}


def cost(n: int, steps: int = 600) -> float:
    """Microseconds of CPU an item of the hub's own watch of one device that sends ``n`` items a step: whitened, added
    and read."""
    watch = online(n)
    held, part = watch.held, items("mnist")[:6000].features.astype(np.int64)
    watched = Watch(WIDTH, watch.limits.horizons)
    sums = [part[(i * n) % 5000 : (i * n) % 5000 + n].sum(axis=0) for i in range(steps)]
    start = time.process_time()
    for total in sums:
        white = held.metric.whiten((total / SCALE - n * held.metric.mean)[None, :])[0]
        watched.step({"device": (n, white)})
        watched.read(watch.limits, held.m)
    return (time.process_time() - start) / steps / n * 1e6


def cost_of_many(streams: int = 120, steps: int = 300) -> float:
    """Microseconds of CPU an item of ``run``, item by item, so many streams at once."""
    watch = online()
    start = time.process_time()
    whiten(watch.held, items("mnist")[:20_000])
    white = (time.process_time() - start) / 20_000
    start = time.process_time()
    run(watch, [(watch.clean, steps)], streams, 5)
    return ((time.process_time() - start) / steps / streams + white) * 1e6
