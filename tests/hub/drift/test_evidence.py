"""Evidence: what e-values, e-detectors and joint p-values promise holds, and change points lie where the change is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate

from edgewise_hub.monitoring.drift import concept, evalues, quality
from edgewise_hub.monitoring.drift.joint import Joint
from edgewise_hub.monitoring.drift.since import change_point


def test_a_calibrated_p_value_is_an_e_value():
    """Its mean over uniform p-values is 1; the part below 1e-12 is 1 / 27.6."""
    found, _ = integrate.quad(lambda u: evalues.calibrate(np.exp(-u)) * np.exp(-u), 0, 27.6, limit=200)
    assert 0.95 < found <= 1.0
    assert evalues.calibrate(1e-6) > 1000 and evalues.calibrate(1.0) == 0.5
    assert evalues.calibrate(0.0) == evalues.MOST


def test_e_bh_names_wrongly_no_more_than_its_rate_also_where_tests_depend_on_each_other():
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(400):
        shared = rng.normal()
        p = np.exp(-rng.exponential(size=20)) if rng.random() < 0.5 else np.full(20, float(rng.random()))
        e = {f"g{i}": evalues.calibrate(float(p[i])) for i in range(20)} | {"bad": evalues.calibrate(1e-9)}
        named = evalues.e_bh(e, 0.1)
        assert "bad" in named, shared
        shares.append((len(named) - 1) / len(named))
    assert np.mean(shares) <= 0.1


def test_e_bh_names_nobody_where_nobody_stands_out():
    assert evalues.e_bh({}, 0.1) == evalues.e_bh({"a": 1.0, "b": 2.0}, 0.1) == frozenset()


def test_an_e_detector_reaches_its_level_no_sooner_than_it_promises():
    rng = np.random.default_rng(2)
    lengths = []
    for _ in range(200):
        total, step = 0.0, 0
        while total < 20 and step < 2000:
            total, step = evalues.detector_step(total, evalues.calibrate(float(rng.random()))), step + 1
        lengths.append(step)
    assert np.mean(lengths) >= 20


@pytest.mark.parametrize("alpha", [0.05, 0.02])
def test_a_joint_decision_holds_its_level_where_bonferroni_gives_most_of_it_away(alpha):
    rng = np.random.default_rng(3)

    def draw(count):
        common = rng.normal(size=count)
        return [np.exp(-((0.95 * common + 0.3 * rng.normal(size=count)) ** 2)) for _ in range(4)]

    null = Joint([np.argsort(np.argsort(p)) / 4000 + 1 / 8000 for p in draw(4000)])
    assert null.limit(alpha) > 1.3 * alpha / 4
    assert null.p_value(null.limit(alpha)) == pytest.approx(alpha, abs=0.002)


def test_below_what_draws_can_tell_a_joint_p_value_is_bonferronis():
    null = Joint([np.random.default_rng(4).random(4000) for _ in range(3)])
    assert null.p_value(1e-6) == pytest.approx(3e-6)
    assert null.limit(1e-4) == pytest.approx(1e-4 / 3)
    with pytest.raises(ValueError, match="at least one test"):
        Joint([])


def labels(rng, n, rate):
    return {"a": (n, n - int(rng.binomial(n, rate)))}


def test_concept_drift_is_seen_in_few_labels_and_not_without_it():
    """.027 of errors: quiet over 2,000 spans of 20 labels; .216: seen within five spans (the median)."""
    rng = np.random.default_rng(5)
    found = concept.NOTHING
    for _ in range(2000):
        found = concept.step(found, labels(rng, 20, 0.027), 0.027)
        assert found.e < 1e5
    after = []
    for _ in range(30):
        state, spans = concept.NOTHING, 0
        while state.e < 1000 and spans < 200:
            state, spans = concept.step(state, labels(rng, 20, 0.216), 0.027), spans + 1
        after.append(spans)
    assert np.median(after) <= 5


def test_no_label_is_no_evidence():
    assert concept.step(concept.NOTHING, {"a": (0, 0)}, 0.1) == concept.NOTHING
    assert concept.step(concept.NOTHING, {"a": (5, 0)}, 1.0).e >= 0


def test_broken_inputs_are_named_worst_first_and_drift_out_of_range_is_not_broken():
    good = {"inferences": 300, "out_of_bounds": 100, "refused": 1}
    assert quality.judge({"a": good, "b": good}, 0.001) == []
    bad = {"inferences": 100, "refused": 200, "nonfinite_inputs": 20}
    first, second = quality.judge({"a": bad, "b": bad}, 0.001)
    assert (first.problem, first.count, second.problem) == ("refused", 400, "nonfinite_inputs")
    assert first.words.startswith("400 of 640 inputs did not fit the model's signature")
    assert quality.judge({}, 0.001) == quality.judge({"a": {}}, 0.001) == []


def test_a_change_point_lies_where_the_change_is():
    rng = np.random.default_rng(6)
    inside = 0
    for _ in range(60):
        p_values = [*rng.random(20), *(rng.random(6) * 1e-3)]
        found = change_point(p_values)
        assert abs(found.index - 20) <= 3
        inside += found.earliest <= 20 <= found.latest
    assert inside >= 51  # 95% of 60 less three standard errors


def test_without_a_change_or_after_its_end_there_is_no_change_point():
    rng = np.random.default_rng(7)
    found = [change_point(rng.random(25)) for _ in range(100)]
    assert sum(each is not None for each in found) <= 15
    assert change_point([1e-9] * 10 + [0.5] * 10) is None
    assert change_point([]) is change_point([0.1]) is None
