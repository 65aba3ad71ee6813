"""Differential privacy of a window: discrete Gaussian noise on its integers (``edgewise.privacy``).

Neighbours are two windows that differ in one item (one inference replaced by another); how many there were, how many
were not finite, and latencies are taken as public. Protected are embeddings, classes, confidences, columns and labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edgewise.privacy import Below, discrete_gaussian
from edgewise.sketch.base import MAX_COUNT, Sketch


def sensitivity2(sketch: Sketch) -> int:
    """Squared L2 norm of what replacing one item changes, each field in its unit: in each histogram two counts by one;
    in sums twice what an item may add."""
    return 2 * sketch.histograms + 4 * sum(field.unit > 1 for field in sketch.fields)


def add_noise(sketches: Mapping[str, Sketch], rho: float, below: Below) -> float:
    """Noise on every sketch of a window (by name) that counted something, for at most ``rho`` in all; what it cost.
    Once a window.

    Labels, whose number is public, have noise where there are any.
    """
    parts = [part for name, part in sketches.items() if name != "latency" and not part.empty]
    total = sum(map(sensitivity2, parts))
    if not total:
        return 0.0
    variance = min(math.ceil(total / (2.0 * rho)), MAX_COUNT)
    for part in parts:
        for field in part.fields:
            if field.unit:
                draws = [discrete_gaussian(variance * field.unit**2, below) for _ in range(field.size)]
                part.part(field.name)[:] += np.array(draws, dtype=np.int64)
        part.noise += variance
    return total / (2.0 * variance)
