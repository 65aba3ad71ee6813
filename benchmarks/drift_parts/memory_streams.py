"""Edgewise's panel on streams with memory, made here."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist

from drift_parts.ours import ALPHA, SCALE, WIDTH, Array, Items
from edgewise.sketch.histogram import confidence
from edgewise_hub.monitoring.drift import panel
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.monitoring.drift.reference import Reference
from edgewise_hub.monitoring.drift.strata import Stratum
from edgewise_hub.monitoring.drift.summary import Summary


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
