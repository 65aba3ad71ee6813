"""The right group is named, and one drifted group accuses nobody else."""

from __future__ import annotations

import numpy as np
import pytest

from edgewise_hub.monitoring.drift import panel, versus_rest
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.monitoring.drift.versus_rest import Kind

GROUPS = {f"district-{name}": frozenset(f"{name}{i}" for i in range(4)) for name in "abc"}
ITEMS = 60


@pytest.fixture(scope="module")
def kinds(baseline):
    return {"b": Kind(1, baseline)}


@pytest.fixture(scope="module")
def drifted(digits, slip):
    rows = slice(5000, 12_000)
    return digits.answer(slip(digits.shuffled_images[rows], 15, 0.8), digits.shuffled_labels[rows])


def send(digits, drifted, rng, slipped=frozenset(), groups=GROUPS):
    """Each device's pictures of one span; those of ``slipped`` groups through a slipped camera."""
    fleet = {}
    for group, devices in groups.items():
        source = drifted if group in slipped else digits.shuffled[12_000:]
        for device in devices:
            fleet[device] = {"b": source[rng.choice(len(source), ITEMS, replace=False)].summary()}
    return fleet


def judge_all(fleet, kinds, rng, groups=GROUPS):
    versus = versus_rest.compare_all(fleet, groups, kinds, Policy().alpha, rng)
    return {
        group: panel.judge(
            list(versus_rest.stratify(fleet, devices, kinds).values()), versus[group], Policy(), rng
        ).verdict
        for group, devices in groups.items()
    }


def test_over_repeated_runs_the_drifted_group_is_named_and_no_other(digits, drifted, kinds):
    rng = np.random.default_rng(1)
    for _ in range(40):
        verdicts = judge_all(send(digits, drifted, rng, {"district-b"}), kinds, rng)
        assert verdicts.pop("district-b") in ("drift", "harmful")
        assert set(verdicts.values()) == {"quiet"}, verdicts


def test_over_repeated_runs_an_undrifted_fleet_is_quiet(digits, drifted, kinds):
    rng = np.random.default_rng(2)
    found = [verdict for _ in range(60) for verdict in judge_all(send(digits, drifted, rng), kinds, rng).values()]
    assert found.count("quiet") >= len(found) - 2  # 180 judgements at 1 in 1,000: three or more has chance 0.001


def test_a_group_differs_from_the_rest_as_often_as_alpha_says(digits, drifted, kinds):
    rng = np.random.default_rng(3)
    alarms = []
    for _ in range(170):
        fleet = send(digits, drifted, rng)
        found = versus_rest.compare_all(fleet, GROUPS, kinds, 0.0, rng)
        alarms += [versus.p_value < 0.05 for versus in found.values()]
    assert np.mean(alarms) < 0.08


def test_the_worst_group_leaves_the_rest_before_the_others_are_tested_again(digits, drifted, kinds):
    rng = np.random.default_rng(4)
    fleet = send(digits, drifted, rng, {"district-b"})
    kept = versus_rest.compare_all(fleet, GROUPS, kinds, 0.0, rng)  # at alpha 0 no group ever leaves
    left = versus_rest.compare_all(fleet, GROUPS, kinds, 1e-3, rng)
    assert kept["district-a"].p_value < 1e-3, "a drifted group in the rest accuses the others"
    assert left["district-a"].p_value > 1e-3 and left["district-c"].p_value > 1e-3
    assert left["district-a"].without == left["district-c"].without == ("district-b",)
    assert left["district-b"].without == ()


def test_of_two_groups_alone_the_one_that_left_the_reference_is_named(digits, drifted, kinds):
    """They differ from each other by the same: only the reference can tell who moved."""
    groups = {name: GROUPS[name] for name in ("district-a", "district-b")}
    rng = np.random.default_rng(5)
    for _ in range(10):
        verdicts = judge_all(send(digits, drifted, rng, {"district-b"}, groups), kinds, rng, groups)
        assert verdicts == {"district-a": "quiet", "district-b": verdicts["district-b"]}
        assert verdicts["district-b"] != "quiet"


def test_a_fleet_that_drifts_as_a_whole_has_no_group_that_stands_out(digits, drifted, kinds):
    rng = np.random.default_rng(6)
    fleet = send(digits, drifted, rng, set(GROUPS))
    versus = versus_rest.compare_all(fleet, GROUPS, kinds, 1e-3, rng)
    assert all(found.p_value > 1e-3 for found in versus.values())
    assert set(judge_all(fleet, kinds, rng).values()) <= {"drift", "harmful"}


def test_devices_are_compared_within_their_own_bundle_only(digits, drifted, baseline):
    """A group that is alone with its bundle has no rest: nothing is said, and nothing is mixed."""
    rng = np.random.default_rng(7)
    fleet = send(digits, drifted, rng)
    for device in GROUPS["district-b"]:
        fleet[device] = {"other": fleet[device]["b"]}
    kinds = {"b": Kind(1, baseline), "other": Kind(2, baseline)}
    versus = versus_rest.compare_all(fleet, GROUPS, kinds, 1e-3, rng)
    assert versus["district-b"].embedding == versus["district-b"].classes == ()
    assert [result.n for result in versus["district-a"].embedding] == [4 * ITEMS]
