"""Watching over time: the run length is what was promised, what is abrupt is seen by a short horizon, what is slow by a
long one, and one device alone raises no alarm."""

from __future__ import annotations

import numpy as np
import pytest

from edgewise_hub.monitoring.drift import run_length
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.over_time import OverTime
from edgewise_hub.monitoring.drift.ridge_t2 import Metric
from edgewise_hub.monitoring.drift.versus_rest import Kind
from edgewise_hub.monitoring.drift.watch import Watch

HORIZONS = (1, 4, 16)
N, PROMISE = 50, 200.0


@pytest.fixture(scope="module")
def reference(baseline):
    return baseline.reference


@pytest.fixture(scope="module")
def limits(reference):
    return run_length.simulate(
        reference.rows(), n=N, length=1, horizons=HORIZONS, promise=PROMISE, rng=np.random.default_rng(1)
    )


def whitened(answers, reference):
    rows = answers.features.astype(np.float32) / 256
    return reference.metric.whiten(rows - reference.metric.mean)


@pytest.fixture(scope="module")
def clean(digits, reference):
    return whitened(digits.shuffled[5000:25_000], reference)


@pytest.fixture(scope="module")
def turned(digits, reference, slip):
    rows = slice(5000, 9000)
    return whitened(digits.answer(slip(digits.shuffled_images[rows], 5, 1.0), digits.shuffled_labels[rows]), reference)


def alarm_at(source, limits, reference, rng, most, devices=("a",), watch=None):
    """(step, reading) of the first alarm, or None within ``most`` steps."""
    watch = watch or Watch(256, HORIZONS)
    each = N // len(devices)
    for step in range(1, most + 1):
        watch.step({device: (each, source[rng.integers(len(source), size=each)].sum(axis=0)) for device in devices})
        reading = watch.read(limits, reference.m)
        if reading.alarm:
            return step, reading
    return None


@pytest.mark.parametrize(("source", "m", "n"), [("digits", 1000, 100), ("digits", 4000, 128), ("gauss", 2000, 200)])
def test_false_alarms_are_as_rare_as_promised_also_where_a_span_is_a_tenth_of_the_reference(digits, source, m, n):
    """Steps drawn from the reference without putting back gave a tenth of it. Over references drawn from a truth: one
    alone may be unlucky."""
    rng = np.random.default_rng(5)
    pool = digits.shuffled[:30_000].reference().rows()
    if source == "gauss":
        pool = (rng.normal(size=(30_000, 128)) * np.arange(1, 129) ** -0.7).astype(np.float32)
    horizons, total, alarms = run_length.allowed(HORIZONS, n, m), 0, 0
    for _ in range(5):
        rows = pool[rng.integers(len(pool), size=m)]
        limits = run_length.simulate(rows, n=n, length=1, horizons=horizons, promise=60.0, rng=rng)
        metric = Metric.of_moments(m, rows.sum(axis=0, dtype=float), (rows.T @ rows).astype(float))
        white = metric.whiten(pool - metric.mean.astype(np.float32))
        for _ in range(12):
            watch = Watch(white.shape[1], HORIZONS)
            for _ in range(200):
                total += 1
                watch.step({"a": (n, white[rng.integers(len(white), size=n)].sum(axis=0))})
                if watch.read(limits, m).alarm:
                    alarms += 1
                    break
    assert 0.6 * 60 < total / alarms < 1.7 * 60


def test_no_horizon_looks_back_over_more_than_half_of_the_reference(digits):
    assert run_length.allowed(HORIZONS, 150, 9300) == (1, 4, 16)
    assert run_length.allowed(HORIZONS, 151, 9300) == (1, 4)
    assert run_length.allowed(HORIZONS, 930, 9300) == (1,)
    assert run_length.needed(16, 150) == 9300
    baseline = Baseline(digits.shuffled[:4000].reference(), seed=1)
    kinds, over_time, rng = {"b": Kind(1, baseline)}, OverTime(), np.random.default_rng(6)
    for n in (200, 60, 60, 60):
        rows = rng.integers(4000, 50_000, size=n)
        over_time.step({"a": {"b": digits.shuffled[rows].summary()}}, kinds)
        assert over_time.read(kinds).group.horizon in (1, 4), "one large span is still in a long horizon"
    assert baseline.limits(1.0, 64).horizons == (1, 4, 16)
    assert baseline.limits(1.0, 200).horizons == (1, 4)


def test_a_slight_turn_is_seen_soon_and_a_large_one_by_the_shortest_horizon(
    clean, turned, limits, reference, digits, slip
):
    rng = np.random.default_rng(3)
    rows = slice(5000, 6000)
    upside = whitened(
        digits.answer(slip(digits.shuffled_images[rows], 40, 0.5), digits.shuffled_labels[rows]), reference
    )
    slow, fast = [], []
    for source, found in ((turned, slow), (upside, fast)):
        for _ in range(10):
            watch = Watch(256, HORIZONS)
            for _ in range(30):
                watch.step({"a": (N, clean[rng.integers(len(clean), size=N)].sum(axis=0))})
            found.append(alarm_at(source, limits, reference, rng, 60, watch=watch))
    assert all(slow) and np.median([step for step, _ in slow]) <= 6
    assert all(step == 1 for step, _ in fast)
    assert np.median([reading.horizon for _, reading in slow]) > 1


def test_a_group_is_its_devices_and_survives_leaving_one_out(clean, turned, limits, reference):
    rng = np.random.default_rng(4)
    devices = [f"d{i}" for i in range(5)]
    watch = Watch(256, HORIZONS)
    for _ in range(40):
        seen = {device: (10, clean[rng.integers(len(clean), size=10)].sum(axis=0)) for device in devices}
        seen["d4"] = (10, 10 * turned[:400].sum(axis=0))
        watch.step(seen)
        assert not watch.read(limits, reference.m).alarm
    assert watch.read_devices(limits, reference.m)["d4"].alarm
    assert not watch.read_devices(limits, reference.m)["d0"].alarm
    assert alarm_at(turned, limits, reference, rng, 60, devices, Watch(256, HORIZONS))


def test_the_same_seed_gives_the_same_limits_and_a_longer_promise_a_higher_one(reference):
    def simulate(promise):
        return run_length.simulate(
            reference.rows()[:1500], n=20, length=5, horizons=(1, 4), promise=promise, rng=np.random.default_rng(7)
        ).score

    assert simulate(100.0) == simulate(100.0)
    assert simulate(20.0) < simulate(100.0) < simulate(1000.0) < simulate(1e6) < 25


@pytest.mark.parametrize(("n", "total"), [(0, np.zeros(256)), (5, np.full(256, np.nan)), (5, np.zeros(3))])
def test_sums_that_cannot_be_are_refused(n, total):
    with pytest.raises(ValueError, match="expected a finite sum of 256"):
        Watch(256, HORIZONS).step({"a": (n, total)})


def test_nothing_seen_says_nothing(limits, reference):
    assert Watch(256, HORIZONS).read(limits, reference.m) is None
