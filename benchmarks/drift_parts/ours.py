"""Edgewise's own tests on the benchmark's embeddings: false alarms, power, run length and delay, a fleet, cost."""

from __future__ import annotations

import time
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist

from drift_parts import embeddings
from edgewise.sketch.histogram import confidence
from edgewise_hub.monitoring.drift import evalues, panel, run_length, versus_rest
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.monitoring.drift.reference import Reference
from edgewise_hub.monitoring.drift.strata import Stratum
from edgewise_hub.monitoring.drift.summary import Summary
from edgewise_hub.monitoring.drift.versus_rest import Kind
from edgewise_hub.monitoring.drift.watch import Limits, decays

Array = npt.NDArray[Any]
ALPHA = 0.05
WIDTH = 256
SCALE = 256
HORIZONS = (24, 96, 384)
PROMISE = 1000.0


class Items(NamedTuple):
    """Fixed-point features int8 [n, 256], predicted classes [n] and confidences [n] (None without scores)."""

    features: Array
    classes: Array | None
    confidence: Array | None

    def __getitem__(self, rows: Any) -> Items:  # type: ignore[override]
        return Items(*(None if part is None else part[rows] for part in self))  # type: ignore[arg-type]


@cache
def items(name: str, shift: str = "clean") -> Items:
    """A set's items under a shift, through one projection a set."""
    with np.load(embeddings.make(name)) as raw:
        clean, found = raw["clean_e"], raw[f"{shift}_e"]
        scores = raw.get(f"{shift}_s")
    rng = np.random.default_rng(1)
    sigma = float(np.median(pdist(clean[rng.permutation(len(clean))[:1000]].astype(np.float64))))
    projection = (rng.normal(size=(WIDTH // 2, clean.shape[1])) / sigma).astype(np.float32)
    angles = found @ projection.T
    z = np.rint(SCALE * np.sqrt(2.0 / WIDTH) * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)).astype(np.int8)
    if scores is None:
        return Items(z, None, None)
    return Items(z, scores.argmax(axis=1), confidence(scores))


@cache
def edges(name: str) -> tuple[float, ...]:
    """The confidence bins of a set."""
    found = items(name).confidence
    return () if found is None else tuple(np.unique(np.quantile(found, np.arange(1, 10) / 10)))


def reference(name: str, part: Items) -> Reference:
    """Some clean items, in this order, as a reference."""
    count = 0 if part.classes is None else int(items(name).classes.max()) + 1  # type: ignore[union-attr]
    return Reference(
        m=len(part.features),
        scale=SCALE,
        features=part.features,
        classes=part.classes,
        class_count=count,
        confidence=part.confidence,
        edges=edges(name),
    )


def summary(name: str, part: Items) -> Summary:
    """What a device's window would hold of them."""
    found: dict[str, Array] = {}
    if part.classes is not None and part.confidence is not None:
        count = int(items(name).classes.max()) + 1  # type: ignore[union-attr]
        bins = np.searchsorted(edges(name), part.confidence, side="right")
        found["classes"] = np.bincount(part.classes, minlength=count)
        found["confidence"] = np.bincount(bins, minlength=len(edges(name)) + 1)
    n = len(part.features)
    return Summary(n=n, n_embedding=n, total=part.features.sum(axis=0, dtype=np.int64), **found)


@cache
def split(name: str, seed: int, n: int, chunk: int) -> tuple[Baseline, Items, int]:
    """A random split into reference and rest, in chunks of ``chunk`` items in order: (baseline, rest, m)."""
    clean = items(name)
    chunks = len(clean.features) // chunk
    order = np.random.default_rng([seed, n]).permutation(chunks)
    rows = (order[:, None] * chunk + np.arange(chunk)).ravel()
    m = min(10_000, len(rows) * 3 // 4)
    m -= m % chunk
    return Baseline(reference(name, clean[np.sort(rows[:m])]), seed=seed), clean[rows[m:]], m


def alarms(name: str, source: Items, held: Baseline, n: int, windows: int, *, run: float, seed: int) -> Array:
    """Whether the panel alarms at ALPHA, window by window: items drawn at random, or, ``run`` > 1, consecutive ones."""
    rng = np.random.default_rng([seed, n, 7])
    found = []
    for _ in range(windows):
        if run > 1:
            start = int(rng.integers(len(source.features) // n)) * n
            rows = np.arange(start, start + n)
        else:
            rows = rng.choice(len(source.features), n, replace=False)
        stratum = Stratum("b", 1, held, summary(name, source[rows]), run)
        found.append(panel.judge([stratum], None, Policy(alpha=ALPHA), rng).alarm)
    return np.array(found)


def false_alarms(name: str, n: int, *, splits: int, windows: int, consecutive: bool = False) -> tuple[float, int]:
    """(share, windows) over random splits of the clean items. ``consecutive``: windows are runs of one stream."""
    found = []
    for seed in range(splits):
        held, rest, _ = split(name, seed, n, chunk=n if consecutive else 1)
        found.append(alarms(name, rest, held, n, windows, run=float(n) if consecutive else 1.0, seed=seed))
    return float(np.mean(found)), splits * windows


def power(name: str, shift: str, n: int, *, windows: int = 60) -> float:
    """Share of drifted windows that alarm."""
    held, _, _ = split(name, 0, n, chunk=1)
    return float(alarms(name, items(name, shift), held, n, windows, run=1.0, seed=11).mean())


class Online(NamedTuple):
    """The watch, item by item: limits, whitened clean items and its reference's size."""

    limits: Limits
    clean: Array
    held: Reference


def online(name: str) -> Online:
    """Limits of HORIZONS at the run length PROMISE, on a reference of 10,000."""
    held, rest, _ = split(name, 0, 1, chunk=1)
    limits = run_length.simulate(
        held.reference.rows(), n=1, length=1, horizons=HORIZONS, promise=PROMISE, rng=np.random.default_rng(3)
    )
    return Online(limits, whiten(held.reference, rest), held.reference)


def whiten(held: Reference, part: Items) -> Array:
    """Items in the reference's metric [n, 256]."""
    rows = part.features.astype(np.float32) / SCALE
    return held.metric.whiten(rows - held.metric.mean.astype(np.float32)).astype(np.float32)


def run(watch: Online, sources: list[tuple[Array, int]], streams: int, seed: int) -> Array:
    """Scores [streams, steps] of streams that draw from each source for so many steps, one after another."""
    rng = np.random.default_rng(seed)
    keep = decays(HORIZONS).astype(np.float32)
    sums = np.zeros((streams, len(HORIZONS), WIDTH), dtype=np.float32)
    weight = square = np.zeros(len(HORIZONS))
    scores = []
    for source, steps in sources:
        for _ in range(steps):
            sums = sums * keep[:, None] + source[rng.integers(len(source), size=streams)][:, None]
            weight, square = weight * keep + 1, square * keep**2 + 1
            scale = 1 / weight**2 / (square / weight**2 + 1 / watch.held.m)
            statistics = np.einsum("shd,shd->sh", sums, sums) * scale
            p = [null.p_values(statistics[:, i]) for i, null in enumerate(watch.limits.nulls)]
            scores.append(-np.log(np.min(p, axis=0)))
    return np.array(scores).T


def realised(watch: Online, streams: int = 120, steps: int = 2000) -> float:
    """The average run length on items that made no limit."""
    scores = np.maximum.accumulate(run(watch, [(watch.clean, steps)], streams, 9), axis=1)
    return run_length.average_run_length(scores, watch.limits.score)


def delay(watch: Online, shifted: Array, streams: int = 120, before: int = 200, most: int = 1000) -> float:
    """Median items from the change to the alarm, of streams that were quiet before; ``most`` where it is later."""
    scores = run(watch, [(watch.clean, before), (shifted, most)], streams, 10) >= watch.limits.score
    kept = scores[~scores[:, :before].any(axis=1), before:]
    return float(np.median(np.where(kept.any(axis=1), kept.argmax(axis=1) + 1, most)))


def fleet(trials: int, shift: str = "rotation 10") -> dict[str, float]:
    """1,000 devices with 50 items each, in 20 groups of 50, one of them drifted."""
    held, rest, _ = split("mnist", 0, 50, chunk=1)
    drifted, rng = items("mnist", shift), np.random.default_rng(12)
    groups = {f"g{g:02}": frozenset(f"g{g:02}-{i}" for i in range(50)) for g in range(20)}
    found = right = 0
    wrong = []
    for trial in range(trials):
        bad = f"g{trial % 20:02}"
        sent = {
            device: {"b": summary("mnist", source[rng.choice(len(source.features), 50, replace=False)])}
            for group, devices in groups.items()
            for device in devices
            for source in [drifted if group == bad else rest]
        }
        versus = versus_rest.compare_all(sent, groups, {"b": Kind(1, held)}, 1e-3, rng)
        named = {group for group, result in versus.items() if result.stands_out}
        worst = max(versus, key=lambda group: (evalues.calibrate(versus[group].p_value), versus[group].size))
        found += bad in named
        right += worst == bad
        wrong.append(len(named - {bad}) / max(len(named), 1))
    return {"found": found / trials, "right": right / trials, "fdr": float(np.mean(wrong)), "trials": trials}


def memory(phi: float, *, references: int = 16, windows: int = 40, m: int = 5000, n: int = 200) -> tuple[float, int]:
    """False alarms on streams with memory: 8 latent numbers, each autoregressive with coefficient ``phi``, through 64
    random ReLUs; a window is n consecutive items of a stream of its own. (share, windows)."""
    rng = np.random.default_rng(0)
    weights, head = rng.normal(size=(8, 64)) / np.sqrt(8), 2 * rng.normal(size=(8, 10))

    def stream(length: int, seed: np.random.Generator) -> tuple[Array, Array]:
        noise = seed.normal(size=(length + 400, 8)) * np.sqrt(1 - phi**2)
        for i in range(1, len(noise)):
            noise[i] += phi * noise[i - 1]
        latent = noise[400:]
        embedded = np.maximum(latent @ weights + 0.5 * seed.normal(size=(length, 64)), 0)
        return embedded, latent @ head + seed.gumbel(size=(length, 10))

    first, scores = stream(4000, rng)
    sigma = float(np.median(pdist(first[::4])))
    projection = rng.normal(size=(WIDTH // 2, 64)) / sigma
    inner = tuple(np.quantile(confidence(scores), np.arange(1, 10) / 10))

    def sketch(made: tuple[Array, Array]) -> Items:
        angles = made[0] @ projection.T
        z = np.rint(SCALE * np.sqrt(2.0 / WIDTH) * np.concatenate([np.cos(angles), np.sin(angles)], axis=1))
        return Items(z.astype(np.int8), made[1].argmax(axis=1), confidence(made[1]))

    found = []
    for seed in range(references):
        own = np.random.default_rng([seed, int(1000 * phi)])
        z, classes, sure = sketch(stream(m, own))
        held = Baseline(
            Reference(m=m, scale=SCALE, features=z, classes=classes, class_count=10, confidence=sure, edges=inner),
            seed=seed,
        )
        for _ in range(windows):
            z, classes, sure = sketch(stream(n, own))
            assert classes is not None and sure is not None
            seen = Summary(
                n=n,
                n_embedding=n,
                total=z.sum(axis=0, dtype=np.int64),
                classes=np.bincount(classes, minlength=10),
                confidence=np.bincount(np.searchsorted(inner, sure, side="right"), minlength=10),
            )
            stratum = Stratum("b", 1, held, seen, float(n))
            found.append(panel.judge([stratum], None, Policy(alpha=ALPHA), own).alarm)
    return float(np.mean(found)), len(found)


def watch_cost(name: str = "mnist") -> float:
    """Microseconds of CPU an item of the watch, item by item over 120 streams at once, whitening included."""
    watch = online(name)
    start = time.process_time()
    whiten(watch.held, items(name)[:20_000])
    white = (time.process_time() - start) / 20_000
    start = time.process_time()
    run(watch, [(watch.clean, 300)], 120, 5)
    return ((time.process_time() - start) / 300 / 120 + white) * 1e6


def cost(watch: Online) -> dict[str, float]:
    """Microseconds of CPU an item on the device (features, batches of 32) and on the hub (a window of 50 judged)."""
    raw = np.load(embeddings.make("mnist"))["clean_e"][:3200]
    projection = np.random.default_rng(0).normal(size=(WIDTH // 2, raw.shape[1])).astype(np.float32)
    start = time.process_time()
    for batch in np.split(raw, 100):
        angles = batch @ projection.T
        np.rint(23 * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)).astype(np.int32).sum(axis=0)
    device = (time.process_time() - start) / len(raw)
    held, rest, _ = split("mnist", 0, 50, chunk=1)
    alarms("mnist", rest, held, 50, 5, run=1.0, seed=1)
    start = time.process_time()
    alarms("mnist", rest, held, 50, 100, run=1.0, seed=1)
    hub = (time.process_time() - start) / 100 / 50
    return {"device_us": device * 1e6, "hub_us": hub * 1e6}
