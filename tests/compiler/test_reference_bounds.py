"""Bounds of features: wide enough for chance, narrow enough for another unit or another column."""

from __future__ import annotations

import numpy as np

from edgewise_compiler.reference import _bounds


def test_features_have_ranges_of_their_own_with_a_margin() -> None:
    rng = np.random.default_rng(0)
    items = rng.normal([0, 100], [1, 5], size=(1000, 2)).astype(np.float32)
    bounds = _bounds(items)
    fresh = rng.normal([0, 100], [1, 5], size=(1000, 2))
    low, high = np.array(bounds.features).T
    assert ((fresh >= low) & (fresh <= high)).all(), "chance stays inside"
    swapped = fresh[:, ::-1]
    assert ((swapped < low) | (swapped > high)).any(axis=1).all(), "columns that are swapped do not"


def test_a_feature_that_never_changed_may_a_little() -> None:
    items = np.stack([np.linspace(0, 10, 50), np.full(50, 3.0)], axis=1).astype(np.float32)
    (_, constant) = _bounds(items).features
    assert constant[0] < 3 < constant[1] and constant[1] - constant[0] < 1


def test_only_floats_of_few_features_have_them() -> None:
    for items in (np.zeros((9, 3), np.int64), np.zeros((9, 3, 3), np.float32), np.zeros((9, 257), np.float32)):
        assert _bounds(items).features == []
