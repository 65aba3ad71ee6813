"""A p-value is what it says: uniform where nothing changed, and no smaller than the truth far out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edgewise_hub.monitoring.drift.null import Null


def test_a_p_value_is_the_share_of_draws_at_or_above():
    null = Null(np.arange(1000))
    assert null.p_value(500) == pytest.approx(0.5, abs=0.002)
    assert null.p_value(-1) == 1.0
    assert null.p_value(900) == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize("weights", [np.ones(30), 1 / (1 + np.arange(60)), np.r_[1.0, np.full(100, 0.2)]])
def test_the_tail_of_a_quadratic_form_is_not_too_bold_and_not_useless(weights):
    """Statistics of ridge-T2's kind, sum w_i chi2_1: the true quantiles come from two million draws."""
    rng = np.random.default_rng(3)
    many = np.concatenate([rng.standard_normal((50_000, len(weights))) ** 2 @ weights for _ in range(40)])
    nulls = [Null(many[i * 4000 : (i + 1) * 4000]) for i in range(40)]
    for truth in (1e-3, 1e-4, 1e-5):
        at = float(np.quantile(many, 1 - truth))
        found = np.median([null.p_value(at) for null in nulls])
        assert truth / 2 < found < 15 * truth


def test_a_p_value_falls_with_the_statistic_and_never_reaches_zero():
    null = Null(stats.chi2(5).rvs(4000, random_state=1))
    p_values = [null.p_value(statistic) for statistic in np.linspace(0, 1e6, 2000)]
    assert p_values == sorted(p_values, reverse=True)
    assert p_values[-1] > 0


def test_too_few_draws_are_refused():
    with pytest.raises(ValueError, match="at least 400"):
        Null(np.zeros(10))
