"""Champion against challenger: who wins, and why."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise_hub.learning import compare
from edgewise_hub.learning.compare import MIN_NEW, Slice, decide

OLD = Slice("old", 10_000, 0.98, 0.975)
NEW = Slice("new", 90, 0.70, 0.95)


def test_a_gain_beyond_its_error_and_a_small_loss_is_accepted() -> None:
    verdict = decide(OLD, NEW, 0.04, metric="accuracy", max_old_loss=0.01)
    assert verdict.accepted
    assert "0.700 to 0.950" in verdict.reason and "0.980 to 0.975" in verdict.reason


@pytest.mark.parametrize(
    ("old", "new", "error", "why"),
    [
        (OLD, Slice("new", 90, 0.90, 0.93), 0.04, "no gain beyond chance"),
        (Slice("old", 10_000, 0.98, 0.96), NEW, 0.04, "at most 0.010 may be lost"),
        (OLD, Slice("new", MIN_NEW - 1, 0.1, 1.0), 0.01, f"at least {MIN_NEW} new samples"),
        (OLD, Slice("new", 90, 0.70, math.nan), 0.04, "not finite"),
    ],
)
def test_what_is_not_accepted_says_why(old: Slice, new: Slice, error: float, why: str) -> None:
    verdict = decide(old, new, error, metric="accuracy", max_old_loss=0.01)
    assert not verdict.accepted and why in verdict.reason


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_nothing_is_accepted_that_loses_or_gains_nothing(a: float, b: float, c: float, d: float, error: float) -> None:
    verdict = decide(Slice("old", 500, a, b), Slice("new", 50, c, d), error, metric="m", max_old_loss=0.01)
    assert verdict.accepted == (d - c > error and a - b <= 0.01)


def test_held_out_is_a_share_by_key_alone() -> None:
    keys = [f"request/camera-{i % 4}/{i}" for i in range(5000)]
    out = compare.held_out(keys)
    assert abs(out.mean() - (1 - compare.TRAIN_SHARE)) < 0.03
    assert (compare.held_out(keys[1000:2000]) == out[1000:2000]).all()


def test_the_standard_error_is_that_of_a_mean() -> None:
    """For a mean of independent items the jackknife's error is s / sqrt(n), within its own scatter."""
    gains = np.random.default_rng(0).normal(0.1, 1.0, 2000)
    error = compare.standard_error(lambda rows: float(gains[rows].mean()), len(gains))
    assert error == pytest.approx(1 / math.sqrt(2000), rel=0.4)
