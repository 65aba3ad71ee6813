"""A whole fleet: mixed profiles do not look drifted, and streams with memory raise no more false alarms than others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgewise_hub.monitoring.drift import evalues, group, panel
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.monitoring.drift.reference import Reference
from edgewise_hub.monitoring.drift.strata import Stratum
from edgewise_hub.monitoring.drift.summary import Summary
from edgewise_hub.monitoring.drift.versus_rest import Kind, compare_all

GROUPS = {f"district-{name}": frozenset(f"{name}{i}" for i in range(6)) for name in "abc"}


def as_on_another_profile(answers):
    """A compiled variant's embeddings are its own: here, the features in another order."""
    return replace(answers, features=answers.features[:, ::-1])


@pytest.fixture(scope="module")
def kinds(digits, baseline):
    other = as_on_another_profile(digits.shuffled[:5000])
    return {"int8": Kind(1, baseline), "fp32": Kind(1, Baseline(other.reference(), seed=8))}


def send(digits, source, rng):
    """Devices of district-a have one profile, those of district-b the other, those of district-c either."""
    fleet = {}
    for name, devices in GROUPS.items():
        for i, device in enumerate(sorted(devices)):
            drawn = source[name][rng.choice(len(source[name]), 50, replace=False)]
            fp32 = name == "district-b" or (name == "district-c" and i % 2)
            fleet[device] = {"fp32": as_on_another_profile(drawn).summary()} if fp32 else {"int8": drawn.summary()}
    return fleet


def test_a_fleet_of_mixed_profiles_is_quiet_and_its_drifted_group_is_found(digits, kinds, slip):
    rng = np.random.default_rng(1)
    rows = slice(5000, 8000)
    slipped = digits.answer(slip(digits.shuffled_images[rows], 15, 0.8), digits.shuffled_labels[rows])
    clean = dict.fromkeys(GROUPS, digits.shuffled[8000:])
    verdicts = []
    for seed in range(20):
        fleet = send(digits, clean, rng)
        verdicts += [group.judge(fleet, GROUPS, name, kinds, Policy(), seed)[0].verdict for name in GROUPS]
    assert set(verdicts) == {"quiet"}
    fleet = send(digits, clean | {"district-c": slipped}, rng)
    found = {name: group.judge(fleet, GROUPS, name, kinds, Policy(), 99)[0] for name in GROUPS}
    assert found["district-c"].verdict in ("drift", "harmful")
    assert found["district-a"].verdict == found["district-b"].verdict == "quiet"
    assert set(found["district-c"].bundles) == {"int8", "fp32"}


def test_e_values_over_groups_name_the_drifted_one_alone(digits, baseline, slip):
    """40 groups of 5 devices with 40 items each, one of them drifted."""
    rng = np.random.default_rng(2)
    slipped = digits.answer(slip(digits.shuffled_images[5000:7000], 10, 1.0), digits.shuffled_labels[5000:7000])
    groups = {f"g{g}": frozenset(f"g{g}-{i}" for i in range(5)) for g in range(40)}
    wrong = 0
    for _ in range(5):
        fleet = {}
        for name, devices in groups.items():
            source = slipped if name == "g7" else digits.shuffled[8000:]
            for device in devices:
                fleet[device] = {"b": source[rng.choice(len(source), 40)].summary()}
        versus = compare_all(fleet, groups, {"b": Kind(1, baseline)}, 1e-3, rng)
        named = evalues.e_bh({name: evalues.calibrate(found.p_value) for name, found in versus.items()}, 0.1)
        assert "g7" in named
        wrong += len(named - {"g7"})
    assert wrong <= 1


def sticky(digits, m, rng):
    """Pictures whose class stays as it was for ten on average, as a camera's scene does."""
    labels = np.repeat(rng.integers(0, 10, m), rng.geometric(0.1, m))[:m]
    rows = np.empty(m, dtype=int)
    for label in range(10):
        where = np.flatnonzero(labels == label)
        rows[where] = rng.choice(np.flatnonzero(digits.shuffled.labels == label), len(where))
    return digits.shuffled[rows]


def test_a_stream_with_memory_alarms_as_often_as_alpha_says(digits):
    """Of 400 windows on 8 references. Without blocks most would: ten alike in a row know as much as one."""
    rng = np.random.default_rng(3)
    policy, alarms, naive = Policy(alpha=0.05), [], []
    for seed in range(8):
        held = Baseline(sticky(digits, 5000, rng).reference(), seed=seed)
        assert held.reference.block > 5
        for i in range(50):
            seen = sticky(digits, 200, rng).summary()
            runs = [(200.0, alarms), (1.0, naive)] if i < 10 else [(200.0, alarms)]
            for run, found in runs:
                judged = panel.judge([Stratum("b", 1, held, seen, run)], None, policy, np.random.default_rng(i))
                found.append(judged.alarm)
    assert 0.01 <= np.mean(alarms) <= 0.1, np.mean(alarms)
    assert np.mean(naive) > 0.5


@pytest.mark.parametrize("bad", ["constant", "empty", "one", "class never seen"])
def test_windows_that_say_little_neither_crash_nor_alarm(digits, baseline, bad):
    usual = digits.shuffled[6000:6200].summary()
    seen = {
        "constant": digits.shuffled[np.full(5, 6000)].summary(),
        "empty": Summary.nothing(),
        "one": digits.shuffled[6000:6001].summary(),
        "class never seen": usual,
    }[bad]
    held = baseline
    if bad == "class never seen":  # one item of a class that the reference lacks is no news
        lacking = digits.shuffled[:5000][digits.shuffled[:5000].scores.argmax(axis=1) != 9].reference()
        held = Baseline(lacking, seed=1)
        kept = digits.shuffled[6000:6400]
        kept = kept[kept.scores.argmax(axis=1) != 9][:199]
        extra = digits.shuffled[6000:6400]
        seen = kept.summary() + extra[extra.scores.argmax(axis=1) == 9][:1].summary()
    judged = panel.judge([Stratum("b", 1, held, seen, 1.0)], None, Policy(), np.random.default_rng(0))
    assert judged.verdict in ("wait", "quiet")


def test_a_reference_of_one_constant_item_is_no_crash():
    held = Baseline(Reference(m=400, scale=256, features=np.full((400, 8), 3, np.int8)), seed=1)
    seen = Summary(n=40, n_embedding=40, total=np.full(8, 120), classes=np.zeros(0, int), confidence=np.zeros(0, int))
    judged = panel.judge([Stratum("b", 1, held, seen, 1.0)], None, Policy(), np.random.default_rng(0))
    assert judged.verdict in ("wait", "quiet")


@pytest.mark.parametrize("deviation", [20, 60])
def test_noise_that_devices_add_for_privacy_is_no_drift(digits, baseline, deviation):
    """Discrete noise of so many items on every count, and so many units on every sum: four devices in a span of 480."""
    rng = np.random.default_rng(4)
    policy, alarms = Policy(alpha=0.05), []
    for seed in range(60):
        parts = []
        for _ in range(4):
            seen = digits.shuffled[rng.choice(np.arange(5000, 50_000), 120)].summary()

            def noisy(counts, unit=1):
                return counts + np.rint(rng.normal(0, deviation * unit, len(counts))).astype(np.int64)

            parts.append(
                replace(
                    seen,
                    total=noisy(seen.total, 264),
                    classes=noisy(seen.classes),
                    confidence=noisy(seen.confidence),
                    noise=dict.fromkeys(("embedding", "classes", "confidence"), deviation**2),
                )
            )
        stratum = Stratum("b", 1, baseline, Summary.sum(parts), 1.0)
        alarms.append(panel.judge([stratum], None, policy, np.random.default_rng(seed)).alarm)
    assert np.mean(alarms) <= 0.15
    loud = [Stratum("b", 1, baseline, replace(Summary.sum(parts), noise={}), 1.0)]
    assert panel.judge(loud, None, policy, np.random.default_rng(0)).alarm, "unless it is known, noise looks like drift"
