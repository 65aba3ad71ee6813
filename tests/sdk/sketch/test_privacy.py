"""Noise of differential privacy: exact, on every part that says something of the data, and accounted for."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats
from sketch_builders import EMBEDDING, FEATURES, PROJECTION, SPEC, stream

from edgewise.privacy import discrete_gaussian, epsilon_of, rho_of
from edgewise.sketch import EmbeddingSketch, WindowSketches
from edgewise.sketch.embedding import features
from edgewise.sketch.privacy import add_noise, sensitivity2


@pytest.mark.parametrize("variance", [1, 3, 40])
def test_the_sampler_is_the_discrete_gaussian(variance):
    below = random.Random(variance).randrange
    draws = np.array([discrete_gaussian(variance, below) for _ in range(8000)])
    reach = round(2.5 * math.sqrt(variance))
    places = np.arange(-reach, reach + 1)
    weights = np.exp(-(np.arange(-60 * variance, 60 * variance + 1.0) ** 2) / (2 * variance))
    shares = np.exp(-(places**2) / (2 * variance)) / weights.sum()
    counts = np.array([(draws == place).sum() for place in places])
    expected = np.append(shares, 1 - shares.sum()) * len(draws)
    assert stats.chisquare(np.append(counts, len(draws) - counts.sum()), expected).pvalue > 1e-4


def test_large_variances_have_their_spread():
    below = random.Random(1).randrange
    draws = [discrete_gaussian(10**8, below) for _ in range(2000)]
    assert np.std(draws) == pytest.approx(10**4, rel=0.06) and abs(np.mean(draws)) < 10**3


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-6), (1.0, 1e-5), (8.0, 1e-9)])
def test_epsilon_and_rho_are_each_others_inverse(epsilon, delta):
    assert epsilon_of(rho_of(epsilon, delta), delta) == pytest.approx(epsilon)


def test_one_item_changes_no_more_than_is_accounted_for():
    rng = np.random.default_rng(0)
    a, b = (features(EMBEDDING, PROJECTION, rng.normal(size=(500, 8)) * 5) for _ in range(2))
    unit = EmbeddingSketch(EMBEDDING).fields[-1].unit
    assert np.linalg.norm(a - b, axis=1).max() <= 2 * unit
    #                                                      distances + cells + sums, ..., two columns, one
    found = {name: sensitivity2(part) for name, part in WindowSketches(SPEC).parts.items()}
    assert found == {
        "latency": 2, "embedding": 8, "classes": 2, "confidence": 2, "features": 4, "categories": 2, "labels": 2
    }  # fmt: skip


def noised(seed, rho):
    window = stream(3, 200).sketches(range(200))
    return window, add_noise(window.parts, rho, random.Random(seed).randrange)


def test_noise_is_on_all_that_says_something_and_costs_no_more_than_allowed():
    exact, (window, cost) = stream(3, 200).sketches(range(200)), noised(1, 0.02)
    assert 0.019 < cost <= 0.02
    assert window.latency.encode() == exact.latency.encode()
    variance = window.embedding.noise
    assert cost == pytest.approx((8 + 2 + 2 + 4 + 2 + 2) / (2 * variance))
    for name in set(window.parts) - {"latency"}:
        assert window.parts[name].noise == variance
        assert (window.parts[name].values != exact.parts[name].values).any()
    assert (window.embedding.n, window.embedding.invalid) == (exact.embedding.n, exact.embedding.invalid)
    unit = window.embedding.fields[-1].unit
    gaps = (window.embedding.total - exact.embedding.total) / (unit * math.sqrt(variance))
    assert 0.6 < gaps.std() < 1.4 and len(gaps) == FEATURES


def test_noised_windows_are_decoded_and_merge_with_others():
    (first, _), (second, _) = noised(1, 0.5), noised(2, 0.5)
    plain = stream(4, 50).sketches(range(50))
    merged = WindowSketches(SPEC)
    for window in (first, plain, second):
        merged.merge(WindowSketches.decode(SPEC, window.encode()))
    assert merged.classes.noise == first.classes.noise + second.classes.noise
    assert (merged.classes.values == first.classes.values + second.classes.values + plain.classes.values).all()


def test_a_window_in_which_nothing_was_seen_costs_nothing():
    window = WindowSketches(SPEC)
    window.update(0.1)
    assert add_noise(window.parts, 0.5, random.Random(0).randrange) == 0.0 and window.encode().keys() == {"latency"}
