"""Edgewise's panel on the benchmark's embeddings: false alarms, power, cost, estimated accuracy."""

from __future__ import annotations

import time
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist

from drift_parts import embeddings, others
from edgewise.sketch.histogram import confidence
from edgewise_hub.monitoring.drift import accuracy, panel
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.monitoring.drift.reference import Reference
from edgewise_hub.monitoring.drift.strata import Stratum
from edgewise_hub.monitoring.drift.summary import Summary

Array = npt.NDArray[Any]
ALPHA = 0.05
WIDTH = 256
SCALE = 256


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


@cache
def as_peers() -> tuple[Baseline, Items]:
    """The reference and the undrifted rest that peers have, of MNIST."""
    clean = items("mnist")
    rows = others.rows(len(clean.features))
    return Baseline(reference("mnist", clean[rows[0]]), seed=0), clean[rows[1]]


def power(name: str, shift: str, n: int, *, windows: int = 60) -> float:
    """Share of drifted windows that alarm."""
    held, _, _ = split(name, 0, n, chunk=1)
    return float(alarms(name, items(name, shift), held, n, windows, run=1.0, seed=11).mean())


def beside_peers(shifts: tuple[str, ...], n: int = 50) -> dict[str, Any]:
    """False alarms and power of what peers have: their reference, their rest."""
    held, rest = as_peers()
    return {
        "false_alarms": float(alarms("mnist", rest, held, n, 300, run=1.0, seed=1).mean()),
        "power": {s: float(alarms("mnist", items("mnist", s), held, n, 60, run=1.0, seed=11).mean()) for s in shifts},
    }


def panel_cost() -> float:
    """Microseconds of CPU an item, of windows of 50."""
    held, rest, _ = split("mnist", 0, 50, chunk=1)
    alarms("mnist", rest, held, 50, 5, run=1.0, seed=1)
    start = time.process_time()
    alarms("mnist", rest, held, 50, 100, run=1.0, seed=1)
    return (time.process_time() - start) / 100 / 50 * 1e6


def accuracy_errors(shifts: tuple[str, ...], chunk: int = 500) -> dict[str, float]:
    """Mean |estimated - true accuracy| of chunks in order, by shift, with the peers' reference; ``rest``: no drift."""
    with np.load(embeddings.make("mnist")) as raw:
        answers = {shift: (raw[f"{shift}_s"], raw[f"{shift}_y"]) for shift in ("clean", *shifts)}
    first, rest = others.rows(len(answers["clean"][0]))
    scores, labels = answers["clean"]
    correct = scores.argmax(axis=1) == labels
    held = Reference(
        m=others.REFERENCE, confidence=confidence(scores[first]), edges=edges("mnist"), correct=correct[first]
    )
    answers = {"rest": (scores[rest], labels[rest])} | {shift: answers[shift] for shift in shifts}
    found = {}
    for shift, (given, true) in answers.items():
        errors = []
        for start in range(0, min(len(given), 2000 if shift != "rest" else len(given)) - chunk + 1, chunk):
            part, of = given[start : start + chunk], true[start : start + chunk]
            bins = np.searchsorted(held.edges, confidence(part), side="right")
            estimated = accuracy.estimate([(held, np.bincount(bins, minlength=len(held.edges) + 1))])
            assert estimated is not None
            errors.append(abs(estimated.accuracy - float((part.argmax(axis=1) == of).mean())))
        found[shift] = float(np.mean(errors))
    return found
