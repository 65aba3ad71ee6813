"""The class test: chi-squared where it holds, exact where it does not, and no bolder where a stream repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edgewise_hub.monitoring.drift import classes


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_large_counts_give_pearsons_chi_squared(rng):
    a, b = np.array([90, 120, 90]), np.array([1000, 1000, 1000])
    statistic, p_value = classes.test(a, b, rng)
    expected = stats.chi2_contingency(np.array([a, b]), correction=False)
    assert statistic == pytest.approx(expected.statistic)
    assert p_value == pytest.approx(expected.pvalue)


def test_small_counts_give_fishers_exact_test(rng):
    a, b = np.array([3, 7]), np.array([60, 30])
    _, p_value = classes.test(a, b, rng)
    pearson = stats.random_table([10, 90], [63, 37])
    tables = pearson.rvs(40_000, random_state=5)
    expected = np.outer([10, 90], [63, 37]) / 100
    statistics = ((tables - expected) ** 2 / expected).sum(axis=(1, 2))
    observed = float(((np.array([a, b]) - expected) ** 2 / expected).sum())
    assert p_value == pytest.approx((statistics >= observed - 1e-9).mean(), abs=0.01)


def test_a_class_never_seen_before_alarms(rng):
    _, p_value = classes.test(np.array([80, 80, 20]), np.array([2500, 2500, 0]), rng)
    assert p_value < 1e-3


@pytest.mark.parametrize("empty", [(0, 0), (10, 0)])
def test_one_class_or_none_says_nothing(rng, empty):
    assert classes.test(np.array(empty), np.array([500, 0]), rng) == (0.0, 1.0)


def sticky(m: int, stay: float, rng: np.random.Generator) -> np.ndarray:
    """A stream over four classes that stays where it is with chance ``stay``."""
    fresh = rng.integers(0, 4, m)
    for i in np.flatnonzero(rng.random(m) < stay):
        fresh[i] = fresh[i - 1] if i else fresh[i]
    return fresh


def test_a_stream_that_repeats_itself_needs_the_design_effect(rng):
    """Runs of 5 on average: without the correction most undrifted windows alarm, with it about one in twenty."""
    reference = sticky(20_000, 0.8, rng)
    effect = classes.design_effect(reference, 60)
    assert effect == pytest.approx((1 + 0.8) / (1 - 0.8), rel=0.25)
    counts = np.bincount(reference, minlength=4)
    windows = [np.bincount(sticky(400, 0.8, rng), minlength=4) for _ in range(600)]
    corrected = np.mean([classes.test(window, counts, rng, effect)[1] < 0.05 for window in windows])
    naive = np.mean([classes.test(window, counts, rng)[1] < 0.05 for window in windows])
    assert naive > 0.4
    assert 0.02 < corrected < 0.08


def test_independent_items_have_no_design_effect(rng):
    assert classes.design_effect(rng.integers(0, 10, 5000), 1) == 1.0
    assert classes.design_effect(rng.integers(0, 10, 5000), 50) < 1.3
