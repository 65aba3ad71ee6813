"""Watching over time: the run length is what was promised, what is abrupt is seen by a short horizon, what is slow by a
long one, and one device alone raises no alarm."""

from __future__ import annotations

import numpy as np
import pytest

from edgewise_hub.monitoring.drift import run_length
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


def test_false_alarms_are_as_rare_as_promised(clean, limits, reference):
    """The average run length over 40 streams, known to within about a sixth, is within a half of the promise."""
    rng = np.random.default_rng(2)
    total = alarms = 0
    for _ in range(40):
        found = alarm_at(clean, limits, reference, rng, 400)
        total += found[0] if found else 400
        alarms += found is not None
    assert 0.5 * PROMISE < total / alarms < 1.5 * PROMISE


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
