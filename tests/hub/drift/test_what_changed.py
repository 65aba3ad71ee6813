"""What changed: which clusters, which columns, and how often each class comes now."""

from __future__ import annotations

import numpy as np
import pytest

from edgewise_hub.monitoring.drift import columns, finding, label_shift, localise, panel
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.over_time import OverTime
from edgewise_hub.monitoring.drift.reference import Reference
from edgewise_hub.monitoring.drift.strata import Stratum
from edgewise_hub.monitoring.drift.summary import Summary
from edgewise_hub.monitoring.drift.versus_rest import Kind


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def test_the_cluster_that_grew_is_named_and_described_by_the_references_classes(rng):
    reference = np.full(16, 500)
    composition = np.zeros((16, 4), dtype=np.int64)
    composition[np.arange(16), np.arange(16) % 4] = 400
    composition[:, 0] += 100
    share = np.full(16, 1.0)
    share[6] = 3.0
    seen = rng.multinomial(1000, share / share.sum())
    first, *others = localise.clusters(seen, reference, composition, 0.05)
    assert first.index == 6 and first.ratio > 1.8
    assert first.classes == ((2, 0.8), (0, 0.2))
    assert len(others) <= 2


def test_a_cluster_that_the_reference_never_saw_is_named(rng):
    found = localise.clusters(np.array([400, 100]), np.array([5000, 0]), np.array([[5000], [0]]), 0.05)
    assert {cluster.index for cluster in found} == {0, 1}
    assert next(c for c in found if c.index == 1).classes == ()
    assert next(c for c in found if c.index == 1).ratio == float("inf")


def test_where_nothing_changed_clusters_are_named_as_rarely_as_the_rate_says(rng):
    reference = rng.multinomial(5000, np.ones(32) / 32)
    windows = [rng.multinomial(300, np.ones(32) / 32) for _ in range(300)]
    named = [localise.clusters(w, reference, np.ones((32, 2), dtype=np.int64), 0.05) for w in windows]
    assert np.mean([bool(each) for each in named]) < 0.12
    assert localise.clusters(np.zeros(3, int), np.ones(3, int), np.ones((3, 2), int), 0.05) == []


def test_the_columns_that_changed_are_named_in_order(rng):
    usual = {f"x{i}": np.full(16, 300) for i in range(12)}
    seen = {name: rng.multinomial(400, np.ones(16) / 16) for name in usual}
    tilted = np.linspace(0.5, 1.5, 16)
    seen["x3"] = rng.multinomial(400, tilted / tilted.sum())
    broken = np.r_[np.full(15, 0.03), 1 - 0.45]
    seen["x7"] = rng.multinomial(400, broken)
    found = columns.rank(seen, usual, 0.05, rng)
    assert [each.name for each in found[:2]] == ["x7", "x3"]
    assert [each.named for each in found[:2]] == [True, True]
    assert sum(each.named for each in found) <= 3
    assert found[0].bin == 15 and found[0].share > 0.5 and found[0].size > found[1].size


PLACES, COLUMNS = 12, 6


def table(rng, n, tilt=0.0):
    """Where n items are counted in each of six columns; ``tilt`` moves the last column."""
    places = rng.integers(3, PLACES, size=(n, COLUMNS))
    moved = rng.random(n) < tilt
    places[moved, -1] = rng.integers(3, 6, size=int(moved.sum()))
    return places.astype(np.int8)


def counted(places):
    counts = np.stack([np.bincount(column, minlength=PLACES) for column in places.T])
    return Summary(n=len(places), features=counts)


def test_a_model_of_columns_alone_is_judged_by_them_at_the_stated_level(rng):
    reference = Reference(m=4000, feature_places=table(rng, 4000), sizes={"feature_places": PLACES})
    held, policy = Baseline(reference, seed=1), panel.Policy(alpha=0.05)

    def alarms(tilt, count):
        spans = [Stratum("b", 1, held, counted(table(rng, 300, tilt)), 1.0) for _ in range(count)]
        return np.mean([panel.judge([span], None, policy, rng).alarm for span in spans])

    assert 0.01 < alarms(0.0, 300) < 0.1
    assert alarms(0.4, 20) == 1.0
    span = Stratum("b", 1, held, counted(table(rng, 300, 0.4)), 1.0)
    judged = panel.judge([span], None, policy, rng)
    names = {"b": finding.Columns(tuple(f"x{i}" for i in range(COLUMNS)))}
    found = finding.find(judged, [span], None, [], names)
    assert found.columns[0].name == "x5" and found.columns[0].named
    assert found.kinds == ("covariate",) and found.judged.verdict == "drift"
    state, kinds = OverTime(), {"b": Kind(1, held)}
    for _ in range(30):
        state.step({"a": {"b": counted(table(rng, 150))}}, kinds)
        assert not state.read(kinds).group.alarm
    for _ in range(10):
        state.step({"a": {"b": counted(table(rng, 150, 0.25))}}, kinds)
    assert state.read(kinds).group.alarm


@pytest.fixture(scope="module")
def reference(digits):
    found = digits.shuffled[:5000].arrays()
    return found["labels"].astype(np.int64), found["classes"].astype(np.int64)


def test_the_prior_is_corrected_for_the_models_confusions(digits, reference):
    """Fives, which are often taken for others, five times as often: the estimate is nearer to the truth than the
    predictions' own shares."""
    labels, predicted = reference
    matrix = label_shift.confusion(labels, predicted, 10)
    usual = np.bincount(labels, minlength=10) / len(labels)
    wanted = usual * np.array([1, 1, 1, 1, 1, 5, 1, 1, 1, 1])
    wanted /= wanted.sum()
    rng = np.random.default_rng(3)
    errors, naive, inside = [], [], []
    rest = digits.shuffled[5000:]
    weights = (wanted / usual)[rest.labels]
    for _ in range(20):
        rows = rng.choice(len(rest), 2000, p=weights / weights.sum())
        counts = np.bincount(rest.scores[rows].argmax(axis=1), minlength=10)
        prior = label_shift.estimate(matrix, usual, counts)
        errors.append(np.abs(prior.now - wanted).sum())
        naive.append(np.abs(counts / 2000 - wanted).sum())
        inside.append(np.mean((prior.low <= wanted) & (wanted <= prior.high)))
        assert prior.now.sum() == pytest.approx(1) and (prior.now >= 0).all()
        assert prior.weights[5] > 2 and prior.weights[1] < 1
    assert np.mean(errors) < np.mean(naive)
    assert np.mean(inside) > 0.85


def test_a_class_never_seen_and_nothing_predicted_give_no_crash(reference):
    labels, predicted = reference
    matrix = label_shift.confusion(labels, predicted, 12)
    usual = np.bincount(labels, minlength=12) / len(labels)
    assert label_shift.estimate(matrix, usual, np.zeros(12, int)) is None
    prior = label_shift.estimate(matrix, usual, np.array([*[0] * 11, 50]))
    assert np.isfinite(prior.now).all() and prior.now[11] > 0.9
