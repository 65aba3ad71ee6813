"""What is said at every look: the error holds under continuous peeking, and real effects are found.

Seeded; each bound is one that a right implementation breaks with a probability below 1e-6.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgewise_hub.experiments.statistics import GRID, Capital, shares_evidence

ALPHA = 0.05
SURE = math.log(1 / ALPHA)


def ever_rejects(values: np.ndarray, mean: float, alpha: float = ALPHA) -> bool:
    """Looking after every value."""
    capital = Capital.against([mean], alpha)
    for value in values:
        capital.add([float(value)])
        if capital.evidence() >= math.log(1 / alpha):
            return True
    return False


@pytest.mark.parametrize(("name", "mean"), [("coins", 0.5), ("rare coins", 0.05), ("narrow", 0.5), ("skewed", 0.1)])
def test_the_error_holds_although_one_looks_after_every_value(name: str, mean: float) -> None:
    rng = np.random.default_rng(11)
    runs, length = 150, 250
    draws = {
        "coins": lambda: rng.integers(0, 2, length).astype(float),
        "rare coins": lambda: (rng.random(length) < 0.05).astype(float),
        "narrow": lambda: rng.uniform(0.45, 0.55, length),
        "skewed": lambda: rng.beta(0.2, 1.8, length),
    }
    wrong = sum(ever_rejects(draws[name](), mean) for _ in range(runs))
    assert wrong <= runs * ALPHA + 5 * math.sqrt(runs * ALPHA * (1 - ALPHA)), f"{wrong} of {runs}"


def test_a_test_that_is_right_once_would_not_hold() -> None:
    """What the above protects from: the same looks by a z-test."""
    rng = np.random.default_rng(12)
    runs, length, wrong = 150, 250, 0
    for _ in range(runs):
        values = rng.integers(0, 2, length).astype(float)
        n = np.arange(10, length + 1)
        z = np.abs(np.cumsum(values)[9:] - n / 2) / np.sqrt(n / 4)
        wrong += bool((z > 1.96).any())
    assert wrong > 0.15 * runs


def test_devices_that_gain_and_devices_that_lose_cancel() -> None:
    """The mean over devices is what is tested, although no single device has it."""
    rng = np.random.default_rng(13)
    wrong = 0
    for _ in range(100):
        gains = np.tile(np.repeat([0.55, 0.45], 5), 30)
        wrong += ever_rejects(np.clip(gains + rng.normal(0, 0.05, len(gains)), 0, 1), 0.5)
    assert wrong <= 100 * ALPHA + 5 * math.sqrt(100 * ALPHA * (1 - ALPHA))


@pytest.mark.parametrize(("mean", "within"), [(0.6, 200), (0.55, 600), (0.7, 80)])
def test_an_effect_is_found_soon(mean: float, within: int) -> None:
    rng = np.random.default_rng(14)
    found = sum(ever_rejects(np.clip(rng.normal(mean, 0.15, within), 0, 1), 0.5) for _ in range(20))
    assert found >= 18


def test_the_interval_covers_the_mean_at_every_look_and_narrows() -> None:
    rng = np.random.default_rng(15)
    missed, widths = 0, []
    for _ in range(40):
        capital, covered = Capital.grid(ALPHA), True
        for _ in range(40):
            capital.add(rng.beta(3, 7, 5).tolist())
            low, high = capital.interval()
            covered &= low <= 0.3 <= high
        missed += not covered
        widths.append(high - low)
    assert missed <= 40 * ALPHA + 5 * math.sqrt(40 * ALPHA * (1 - ALPHA))
    assert max(widths) < 0.25


def test_adding_at_once_or_one_by_one_is_the_same_and_nothing_known_is_everything() -> None:
    values = np.random.default_rng(16).random(50).tolist()
    one, other = Capital.grid(ALPHA), Capital.grid(ALPHA)
    assert one.interval() == (0.0, 1.0) and len(one.means) == GRID
    one.add(values)
    for value in values:
        other.add([value])
    assert one == other
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        one.add([1.1])


def test_evidence_above_a_limit_is_one_sided() -> None:
    low, high = Capital.against([0.02], 0.01), Capital.against([0.02], 0.01)
    low.add([0.0] * 500)
    high.add([1.0] * 5)
    assert low.evidence_above() < 0 < math.log(100) <= high.evidence_above()


def test_a_split_as_drawn_is_let_pass_and_another_is_found() -> None:
    rng = np.random.default_rng(17)
    for shares in ([0.5, 0.5], [0.05, 0.95]):
        wrong = 0
        for _ in range(300):
            arms = np.cumsum(rng.random(3000) < shares[0])[29::30]
            n = np.arange(30, 3001, 30)
            wrong += any(shares_evidence([int(a), int(m - a)], shares) >= SURE for a, m in zip(arms, n, strict=True))
        assert wrong <= 300 * ALPHA + 5 * math.sqrt(300 * ALPHA * (1 - ALPHA))
    assert shares_evidence([5400, 4600], [0.5, 0.5]) > math.log(1000)
    assert shares_evidence([800, 9200], [0.05, 0.95]) > math.log(1000)
    assert shares_evidence([0, 0], [0.5, 0.5]) == 0
