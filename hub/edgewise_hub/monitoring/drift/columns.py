"""Which inputs changed: the columns of a table (or any binned counts), ranked, with the false discovery rate held.

Each column's counts over its reference-quantile bins, and over "missing" and "invalid", are held against the
reference's by a two-sample chi-squared test divided by the design effect of time (Rao and Scott, 1981), and the columns
that changed are those that Benjamini and Hochberg (1995) name. The size shown is Cramer's V of the two samples, which
does not grow with n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewise_hub.monitoring.drift import classes
from edgewise_hub.monitoring.drift.summary import Counts


@dataclass(frozen=True)
class Column:
    """One column: its p-value, whether it is named, how large the change is (0 to 1), and the bin that changed most,
    with its share now and in the reference."""

    name: str
    p_value: float
    named: bool
    size: float
    bin: int
    share: float
    reference: float


def statistics(
    counts: npt.NDArray[np.integer], reference: Counts, tables: Sequence[tuple[int, int]], n_e: float
) -> npt.NDArray[np.float64]:
    """The panel's test: the largest n_e * D^2 over all columns, D being the largest gap between two cumulative
    distributions over a column's places (Kolmogorov-Smirnov on bins; its null is drawn, so that ties and the number of
    columns are in it). ``counts`` [k, w] and ``reference`` [w]: the ``tables`` of (columns, places), one after
    another."""
    largest = np.zeros(len(counts))
    start = 0
    for columns, places in tables:
        stop = start + columns * places
        both = [
            part[:, start:stop].reshape(-1, columns, places).cumsum(axis=2) for part in (counts, reference[None, :])
        ]
        shares = [part / np.maximum(part[:, :, -1:], 1) for part in both]
        largest = np.maximum(largest, np.abs(shares[0] - shares[1]).max(axis=(1, 2)))
        start = stop
    found: npt.NDArray[np.float64] = n_e * largest**2
    return found


def rank(
    seen: Mapping[str, Counts],
    reference: Mapping[str, Counts],
    rate: float,
    rng: np.random.Generator,
    design_effect: float = 1.0,
) -> list[Column]:
    """Columns by p-value, smallest first. ``seen``, ``reference``: counts [bins] by name, of the same length."""
    found: list[tuple[float, float, str]] = []
    for name in sorted(seen.keys() & reference.keys()):
        a, b = seen[name], reference[name]
        if not a.sum() or not b.sum():
            continue
        statistic, p_value = classes.test(a, b, rng, design_effect)
        total = (a.sum() + b.sum()) / design_effect
        found.append((p_value, math.sqrt(statistic / max(total, 1.0)), name))
    found.sort(key=lambda each: (each[0], -each[1], each[2]))
    named = max((i + 1 for i, each in enumerate(found) if each[0] * len(found) <= rate * (i + 1)), default=0)
    return [_column(name, p, size, i < named, seen[name], reference[name]) for i, (p, size, name) in enumerate(found)]


def _column(name: str, p_value: float, size: float, named: bool, seen: Counts, reference: Counts) -> Column:
    shares, usual = seen / seen.sum(), reference / reference.sum()
    most = int(np.abs(shares - usual).argmax())
    return Column(name, p_value, named, size, most, float(shares[most]), float(usual[most]))
