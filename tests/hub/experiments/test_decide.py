"""From what devices report to a decision: unbiased, right under peeking, and withheld where the split is broken.

Seeded; each bound is one that a right implementation breaks with a probability below 1e-6.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from fleets import ab, arm, canary, plan, run

from edgewise.wire.experiment import Arm, Compared, Escalated, Sums
from edgewise_hub.experiments.decide import Devices, decide
from edgewise_hub.experiments.errors import ExperimentError
from edgewise_hub.experiments.evidence import Evidence
from edgewise_hub.experiments.observe import Measured, observe

CANARY = {"kind": "canary-requests", "share": 0.3}
AB_KEY = {"kind": "ab", "weight": 0.4}
AB_DEVICE = {"kind": "ab", "weight": 0.4, "by": "device"}
SHADOW = {"kind": "shadow"}
INTERLEAVE = {"kind": "interleave", "output": "scores"}
ESCALATE = {"kind": "escalate", "threshold": 0.6, "url": "https://server.example", "model": "big"}
METRIC = {"metric": "accuracy", "guardrails": {"errors": None, "latency_ratio": None}}


def levels(rng: np.random.Generator, devices: int) -> np.ndarray:
    """How often each device is right: a fleet of easy and hard places."""
    return np.clip(rng.normal(0.8, 0.1, devices), 0.4, 0.95)


@pytest.mark.parametrize(("policy", "users"), [(CANARY, None), (AB_KEY, 3), (AB_KEY, 1), (AB_DEVICE, 0)])
def test_estimates_are_unbiased(policy: dict[str, object], users: int | None) -> None:
    """Over many draws, whoever is in which arm: also where a device has one user, and where places differ."""
    rng, effect, found = np.random.default_rng(21), -0.08, []
    for i in range(60):
        made = plan(policy, alpha=0.01, min_samples=10**6, cap=5, **METRIC)
        where = levels(rng, 25)
        name = f"e{i}"
        window = (
            canary(rng, 0.3, where, effect) if users is None else ab(rng, made, where, effect, users, experiment=name)
        )
        last = run(made, 25, 5, window, name)[-1]
        assert last.effect is not None
        found.append(last.effect)
    error = float(np.std(found) / math.sqrt(len(found)))
    assert error < 0.02
    assert abs(np.mean(found) - effect) < 5 * error


@pytest.mark.parametrize(("policy", "users"), [(CANARY, None), (AB_KEY, 2), (AB_DEVICE, 0)])
def test_where_there_is_no_difference_a_winner_is_seldom_named(policy: dict[str, object], users: int | None) -> None:
    rng, alpha, runs, wrong, broken = np.random.default_rng(22), 0.1, 40, 0, 0
    for i in range(runs):
        made = plan(policy, alpha=alpha, min_samples=1, margin=1e-6, **METRIC)
        where, name = levels(rng, 20), f"n{i}"
        window = canary(rng, 0.3, where, 0) if users is None else ab(rng, made, where, 0, users, experiment=name)
        verdict = run(made, 20, 12, window, name)[-1].verdict
        wrong += verdict in ("candidate-wins", "control-wins")
        broken += verdict == "broken"
    assert wrong <= runs * alpha + 5 * math.sqrt(runs * alpha * (1 - alpha))
    assert broken <= 1, "a split as drawn is let pass"


def test_a_better_and_a_worse_candidate_are_found() -> None:
    rng = np.random.default_rng(23)
    for effect, verdict in ((0.1, "candidate-wins"), (-0.1, "control-wins")):
        made = plan(CANARY, **METRIC)
        last = run(made, 10, 100, canary(rng, 0.3, np.full(10, 0.8), effect))[-1]
        assert last.verdict == verdict, last.reason
        assert last.low is not None and last.high is not None and last.low <= effect <= last.high
    made = plan(AB_DEVICE, block=30, **METRIC)
    last = run(made, 600, 3, ab(rng, made, np.full(600, 0.6), 0.2, 0))[-1]
    assert last.verdict == "candidate-wins", last.reason


def test_no_difference_beyond_the_margin_is_said() -> None:
    made = plan(CANARY, margin=0.05, cap=10_000, **METRIC)
    last = run(made, 10, 300, canary(np.random.default_rng(24), 0.3, np.full(10, 0.9), 0.0, n=80))[-1]
    assert last.verdict == "no-difference" and "margin" in last.reason


def test_one_busy_device_has_no_more_to_say_than_its_cap() -> None:
    made = plan(CANARY, cap=3, min_samples=10**6, **METRIC)
    evidence, measured, rng = Evidence.start(made), Measured(), np.random.default_rng(25)
    for _ in range(50):
        measured, values = observe(made, measured, canary(rng, 0.3, np.array([0.9]), 0.05, n=5000)(0), evidence.level)
        evidence.take(made, values)
    assert evidence.effect.n == 3 == measured.metric_blocks


@pytest.mark.parametrize("lost", ["requests", "labels"])
def test_a_split_that_is_not_as_drawn_withholds_the_result(lost: str) -> None:
    """The candidate's slowest requests never come back, or nobody labels what it got wrong: it would look better."""
    rng = np.random.default_rng(26)

    def window(_device: int) -> Sums:
        given = int(rng.binomial(40, 0.3 * (0.6 if lost == "requests" else 1)))
        labelled = 0.5 if lost == "labels" else 1.0
        return Sums(arms={"active": arm(rng, 40 - given, 0.8), "candidate": arm(rng, given, 0.95, labelled=labelled)})

    last = run(plan(CANARY, min_samples=10**6, **METRIC), 5, 400, window)[-1]
    assert last.verdict == "broken" and last.effect is None and last.low is None
    assert "not filled as they were drawn" in last.reason


def test_devices_in_the_wrong_numbers_withhold_the_result() -> None:
    made = plan({**AB_DEVICE, "weight": 0.5}, **METRIC)
    told = Devices(told=400, failed=0, arms={"candidate": 120, "active": 280})
    assert decide(made, Evidence.start(made), told).verdict == "broken"


def guarded(window: Sums, **guardrails: object) -> str:
    made = plan(CANARY, metric="latency", guardrails=guardrails)
    last = run(made, 3, 60, lambda _device: window)[-1]
    assert last.verdict == "guardrail", last
    return last.reason


def test_errors_and_latency_beyond_their_limits_stop_it() -> None:
    fine = Arm(requests=70, latency={20: 70})
    reason = guarded(Sums(arms={"active": fine, "candidate": Arm(requests=30, errors=9, latency={20: 21})}))
    assert "fails 30.0% of its requests, at most 2.0%" in reason
    slow = Arm(requests=30, latency={20: 15, 50: 15})
    reason = guarded(Sums(arms={"active": fine, "candidate": slow}), latency_ratio=2)
    assert "50% of the candidate's requests take more than 2 times" in reason
    made = plan(CANARY)
    failed = decide(made, Evidence.start(made), Devices(told=10, failed=2))
    assert failed.verdict == "guardrail" and "2 of 10 devices" in failed.reason


def test_latencies_are_compared_within_a_device() -> None:
    rng = np.random.default_rng(27)

    def window(device: int, faster: int) -> Sums:
        base = 10 + 10 * device  # boards of very different speed

        def latency(shift: int) -> dict[int, int]:
            found = (base - shift + rng.integers(-1, 2, 35)).tolist()
            return {bin: found.count(bin) for bin in set(found)}

        return Sums(
            arms={
                "active": Arm(requests=35, latency=latency(0)),
                "candidate": Arm(requests=35, latency=latency(faster)),
            },
        )

    made = plan({**CANARY, "share": 0.5}, metric="latency")
    last = run(made, 3, 60, lambda device: window(device, 4))[-1]
    assert last.verdict == "candidate-wins" and last.effect == pytest.approx(1.0, abs=0.15), "an octave: twice as fast"
    assert "speed" in last.reason


def test_agreement_of_a_shadow_and_of_a_server() -> None:
    def shadow(agreed: int) -> Sums:
        return Sums(
            arms={"active": Arm(requests=40), "shadow": Arm(requests=40)},
            compared=Compared(compared=40, agreed=agreed),
        )

    made = plan(SHADOW, margin=0.05)
    assert run(made, 4, 60, lambda _device: shadow(40))[-1].verdict == "no-difference"
    worse = run(made, 4, 60, lambda _device: shadow(30))[-1]
    assert worse.verdict == "control-wins" and worse.effect == pytest.approx(-0.25)
    for changed, verdict in ((0, "no-difference"), (20, "candidate-wins")):
        sums = Sums(
            arms={"active": Arm(requests=100)}, escalated=Escalated(asked=45, answered=40, fallbacks=5, changed=changed)
        )
        assert run(plan(ESCALATE, margin=0.05), 4, 60, lambda _device, sums=sums: sums)[-1].verdict == verdict


def test_a_shadow_that_sees_another_share_than_it_was_drawn_is_found() -> None:
    sums = Sums(
        arms={"active": Arm(requests=100), "shadow": Arm(requests=30)}, compared=Compared(compared=30, agreed=30)
    )
    assert run(plan({**SHADOW, "share": 0.5}), 4, 60, lambda _device: sums)[-1].verdict == "broken"
    made = plan({**SHADOW, "share": 0.3}, min_samples=100, margin=0.05)
    assert run(made, 4, 60, lambda _device: sums)[-1].verdict == "no-difference"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "reward"}, "metric reward of canary-requests: expected accuracy or latency"),
        ({"policy": SHADOW, "metric": "latency"}, "metric latency of shadow: expected agreement or accuracy"),
        ({"candidate": None}, "expected a candidate version"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ExperimentError, match=words):
        plan(changes.pop("policy", CANARY), **changes)  # type: ignore[arg-type]
