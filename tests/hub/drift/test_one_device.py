"""A device that lies makes no group's alarm, and hides none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgewise_hub.monitoring.drift import concept, group, one_device, quality
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.monitoring.drift.summary import Summary
from edgewise_hub.monitoring.drift.versus_rest import Kind
from edgewise_hub.monitoring.drift.words import say

GROUPS = {f"district-{name}": frozenset(f"{name}{i}" for i in range(5)) for name in "abc"}
POLICY = Policy(alpha=0.01)


@pytest.fixture(scope="module")
def kinds(baseline):
    return {"b": Kind(1, baseline)}


@pytest.fixture(scope="module")
def slipped(digits, slip):
    return digits.answer(slip(digits.shuffled_images[5000:8000], 20, 0.8), digits.shuffled_labels[5000:8000])


@pytest.fixture
def fleet(digits):
    rng = np.random.default_rng(1)
    devices = sorted(frozenset().union(*GROUPS.values()))
    return {d: {"b": digits.shuffled[rng.choice(np.arange(9000, 40_000), 60)].summary(labelled=True)} for d in devices}


def verdicts(fleet, kinds):
    return {name: group.judge(fleet, GROUPS, name, kinds, POLICY, seed=3)[0] for name in GROUPS}


def largest(summary, n):
    """The most that a decoder lets through of n items: every sum at its bound."""
    return Summary(
        n=n, n_embedding=n, total=np.full(256, 22 * n), classes=np.eye(10, dtype=np.int64)[3] * n,
        confidence=np.eye(len(summary.confidence), dtype=np.int64)[0] * n, labelled=n, correct=0,
    )  # fmt: skip


@pytest.mark.parametrize("n", [60, 10_000_000])
def test_a_lying_device_makes_no_alarm_in_its_group_or_in_another(fleet, kinds, n):
    fleet["b2"] = {"b": largest(fleet["b2"]["b"], n)}
    found = verdicts(fleet, kinds)
    assert {judged.verdict for judged in found.values()} == {"quiet"}
    assert found["district-b"].one_device == "b2"
    assert "b2 alone" in say(found["district-b"], "district-b")


def test_a_lying_device_does_not_hide_its_groups_drift(fleet, kinds, slipped, digits):
    rng = np.random.default_rng(2)
    for device in sorted(GROUPS["district-b"] - {"b2"}):
        fleet[device] = {"b": slipped[rng.choice(len(slipped), 60)].summary()}
    loud = digits.shuffled[20_000:30_000].summary()
    fleet["b2"] = {"b": loud}
    found = verdicts(fleet, kinds)
    assert found["district-b"].verdict in ("drift", "harmful") and found["district-b"].one_device is None
    assert found["district-a"].verdict == found["district-c"].verdict == "quiet"


def test_a_group_of_one_device_is_judged_by_it(fleet, kinds, slipped):
    fleet = {device: sent for device, sent in fleet.items() if device not in GROUPS["district-b"] - {"b0"}}
    fleet["b0"] = {"b": slipped[:300].summary()}
    judged, _ = group.judge(fleet, GROUPS, "district-b", kinds, POLICY, seed=3)
    assert judged.alarm


def test_a_devices_items_are_capped_at_four_times_the_median(fleet):
    sent = {device: sums["b"] for device, sums in fleet.items()}
    sent["a0"] = replace(largest(sent["a0"], 10_000), n=10_000)
    capped = one_device.cap(sent)
    assert capped["a0"].n == capped["a0"].classes.sum() == 240
    assert all(capped[device] is sent[device] for device in sent if device != "a0")


def test_one_devices_labels_and_one_devices_broken_inputs_are_not_its_groups():
    honest = {f"d{i}": (40, 39) for i in range(5)}
    liar = honest | {"d5": (5000, 0)}
    assert concept.run([liar] * 20, error_rate=0.03).e < 100
    assert concept.run([dict.fromkeys(liar, (40, 30))] * 20, error_rate=0.03).e > 1e6
    counts = {f"d{i}": {"inferences": 100} for i in range(5)} | {"d5": {"inferences": 0, "nonfinite_inputs": 900}}
    assert quality.judge(counts, 0.001) == []
    counts["d4"] = {"inferences": 50, "nonfinite_inputs": 50}
    assert [broken.problem for broken in quality.judge(counts, 0.001)] == ["nonfinite_inputs"]
