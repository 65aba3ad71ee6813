"""The panel on real pictures: its false alarms are as rare as it says, it sees what it should, and says what it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edgewise_hub.monitoring.drift import panel, strata
from edgewise_hub.monitoring.drift.baseline import Baseline
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.monitoring.drift.strata import Stratum
from edgewise_hub.monitoring.drift.words import say

WINDOWS = 500


def p_values(answers, baseline, n, windows, seed, run=1.0):
    """p-values [windows, 4] of embedding, reweighted, classes, confidence over windows of n items drawn at random."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(windows):
        drawn = answers[rng.choice(len(answers), n, replace=False)]
        stratum = Stratum("b", 1, baseline, drawn.summary(), run)
        results = (
            strata.embedding(stratum),
            strata.reweighted(stratum),
            strata.classes(stratum, rng),
            strata.confidence(stratum),
        )
        found.append([result.p_value for result in results])
    return np.array(found)


@pytest.mark.parametrize("n", [50, 200, 500])
def test_undrifted_windows_alarm_as_often_as_alpha_says(digits, baseline, n):
    """At .05 over 500 windows. Binomial, widened by what one reference adds: at m = 10 n it is 1/11 of the variance."""
    found = (p_values(digits.shuffled[5000:], baseline, n, WINDOWS, seed=n) < 0.05).mean(axis=0)
    most = stats.binom.isf(1e-4, WINDOWS, 0.05) / WINDOWS
    assert (found <= most + 0.02).all(), found
    assert (found > 0.003).all(), found


@pytest.mark.parametrize(
    ("degrees", "light", "n", "power"),
    [(10, 1.0, 200, 0.95), (5, 1.0, 200, 0.9), (0, 0.7, 50, 0.95), (20, 0.8, 50, 0.99)],
)
def test_rotation_and_dimming_are_seen(digits, baseline, slip, degrees, light, n, power):
    rows = slice(5000, 8000)
    drifted = digits.answer(slip(digits.shuffled_images[rows], degrees, light), digits.shuffled_labels[rows])
    found = p_values(drifted, baseline, n, 60, seed=n)
    assert (found[:, 0] < 0.05).mean() >= power


@pytest.fixture(scope="module")
def in_order(digits):
    """Writers follow each other in MNIST's own file, so neighbours are alike: a stream with memory."""
    rows = slice(10_000, 60_000)
    return digits.answer(digits.images[rows], digits.labels[rows])


def test_a_stream_with_memory_needs_blocks(in_order):
    """Windows of 200 pictures that follow each other. Items drawn one by one call most of them drift; blocks do not."""
    baseline = Baseline(in_order[:5000].reference(), seed=3)
    assert baseline.reference.block > 40
    rest = in_order[5000:]
    starts = np.random.default_rng(4).choice(len(rest) - 200, 200, replace=False)

    def alarms(run):
        results = [strata.embedding(Stratum("b", 1, baseline, rest[s : s + 200].summary(), run)) for s in starts]
        return np.mean([result.p_value < 0.05 for result in results if result])

    assert alarms(run=1.0) > 0.5
    assert alarms(run=200.0) < 0.13


def test_windows_of_many_devices_are_held_against_shorter_blocks(in_order):
    """Ten devices with 20 pictures each know more than one with 200: their null is narrower."""
    baseline = Baseline(in_order[:5000].reference(), seed=3)
    one, ten = baseline.nulls(200, 200.0)["embedding"], baseline.nulls(200, 20.0)["embedding"]
    assert ten.mean < one.mean


def test_evidence_of_two_bundles_is_combined_and_its_false_alarms_hold(digits):
    """Both bundles have the same reference items, as bundles of one version do, and n = m / 10: the worst case."""
    items = digits.shuffled[:2000]
    bundles = [Baseline(items.reference(), seed=seed) for seed in (1, 2)]
    rng = np.random.default_rng(5)
    rest = digits.shuffled[5000:]

    def combined():
        parts = []
        for held in bundles:
            drawn = rest[rng.choice(len(rest), 200, replace=False)]
            parts.append(strata.embedding(Stratum("b", 1, held, drawn.summary(), 1.0)).p_value)
        return strata.combine(parts)[1]

    assert np.mean([combined() < 0.05 for _ in range(WINDOWS)]) < 0.09


def judge(digits, baseline, images, labels, *, labelled=False, policy=None):
    seen = digits.answer(images, labels).summary(labelled=labelled)
    stratum = Stratum("b", 1, baseline, seen, 1.0)
    return panel.judge([stratum], None, policy or Policy(), np.random.default_rng(0))


def test_judgements_of_undrifted_spans_are_quiet(digits, baseline):
    """1,000 in all over the panel's tests at alpha .05: at most alpha, since Bonferroni gives away a little."""
    policy = Policy(alpha=0.05)
    rng = np.random.default_rng(8)
    alarms = 0
    for _ in range(WINDOWS):
        rows = rng.choice(np.arange(5000, 50_000), 200, replace=False)
        stratum = Stratum("b", 1, baseline, digits.shuffled[rows].summary(), 1.0)
        alarms += panel.judge([stratum], None, policy, rng).alarm
    assert alarms <= stats.binom.isf(1e-4, WINDOWS, 0.05)


def test_a_slipped_camera_is_harmful_and_said_so(digits, baseline, slip):
    rows = slice(5000, 5400)
    judged = judge(digits, baseline, slip(digits.shuffled_images[rows], 25, 0.6), digits.shuffled_labels[rows])
    assert judged.verdict == "harmful"
    assert judged.p_value < 1e-6 and judged.effect > 1
    assert judged.estimate.high < judged.estimate.reference - 0.02
    words = say(judged, "district-b")
    assert words.startswith("Harmful drift in district-b: its inputs differ from the reference (distance 2.")
    assert "p < 1e-6" in words and "false at most once in 1,000 judgements" in words
    assert "Accuracy is estimated at" in words and "79% on the reference" in words


def test_labels_overrule_an_estimate_that_is_too_low(digits, baseline, slip):
    """As after a retraining: unsure of what looks odd, and right about it."""
    rows = slice(5000, 5400)
    images = slip(digits.shuffled_images[rows], 25, 0.6)
    right = digits.answer(images, digits.shuffled_labels[rows]).scores.argmax(axis=1)
    assert judge(digits, baseline, images, right).verdict == "harmful"
    judged = judge(digits, baseline, images, right, labelled=True)
    assert judged.verdict == "drift"
    assert "this estimate is too low" in say(judged, "district-b")


def test_a_slight_turn_is_drift_that_is_not_estimated_to_harm(digits, baseline, slip):
    rows = slice(5000, 5500)
    judged = judge(digits, baseline, slip(digits.shuffled_images[rows], 5, 1.0), digits.shuffled_labels[rows])
    assert judged.verdict == "drift"
    assert 0.2 < judged.effect < 1
    assert judged.estimate.low < judged.estimate.reference < judged.estimate.high


def test_another_mix_of_classes_is_label_shift(digits, baseline):
    """Half of all pictures are zeros and ones, each as it ever looked."""
    labels = digits.shuffled_labels[5000:9000]
    some = np.r_[np.flatnonzero(labels < 2)[:250], np.flatnonzero(labels >= 2)[:250]] + 5000
    judged = judge(digits, baseline, digits.shuffled_images[some], digits.shuffled_labels[some])
    assert judged.verdict == "label-shift"
    assert "how often each class comes" in say(judged, "a")


def test_labels_that_are_wrong_too_often_are_harmful_where_inputs_look_the_same(digits, baseline):
    """Concept drift: what was a 3 is now called an 8; no picture changed."""
    rows = slice(5000, 5400)
    labels = digits.shuffled_labels[rows].copy()
    labels[labels == 3], labels[labels == 7] = 8, 9
    quiet = judge(digits, baseline, digits.shuffled_images[rows], labels)
    labelled = judge(digits, baseline, digits.shuffled_images[rows], labels, labelled=True)
    assert quiet.verdict == "quiet"
    assert labelled.verdict == "harmful"
    assert "labels show fewer correct answers" in say(labelled, "a")


def test_labels_that_are_right_as_often_as_ever_are_quiet(digits, baseline):
    rows = slice(5000, 5400)
    judged = judge(digits, baseline, digits.shuffled_images[rows], digits.shuffled_labels[rows], labelled=True)
    assert judged.verdict == "quiet"
    assert judged.labelled == 400


def test_a_span_over_the_limit_is_judged_as_if_it_were_as_large_as_the_limit(digits, baseline):
    """Any fixed reference is wrong by a little, and enough windows would show it."""
    stratum = Stratum("b", 1, baseline, digits.shuffled[5000:].summary(), 1.0)
    judged = panel.judge([stratum], None, Policy(), np.random.default_rng(0))
    assert judged.n == 45_000 and judged.verdict == "quiet"


def test_nothing_to_judge_waits(digits, baseline):
    few = Stratum("b", 1, baseline, digits.shuffled[5000:5010].summary(), 1.0)
    for seen in ([], [few]):
        judged = panel.judge(seen, None, Policy(), np.random.default_rng(0))
        assert judged.verdict == "wait" and not judged.alarm
        assert "nothing that can be judged" in say(judged, "a")


def test_the_same_seed_gives_the_same_judgement(digits, baseline):
    rows = slice(6000, 6100)
    first, second = (judge(digits, baseline, digits.shuffled_images[rows], digits.shuffled_labels[rows]) for _ in "ab")
    assert first == second


def test_the_estimated_accuracy_comes_with_an_interval_that_holds_the_truth(digits, baseline, slip):
    """Over slips from none to strong, the interval holds the truth."""
    rows = slice(5000, 7000)
    for degrees, light in [(0, 1.0), (5, 1.0), (10, 1.0), (0, 0.9), (20, 0.8)]:
        answers = digits.answer(slip(digits.shuffled_images[rows], degrees, light), digits.shuffled_labels[rows])
        truth = (answers.scores.argmax(axis=1) == answers.labels).mean()
        stratum = Stratum("b", 1, baseline, answers.summary(), 1.0)
        estimate = panel.judge([stratum], None, Policy(), np.random.default_rng(0)).estimate
        assert estimate.low <= truth <= estimate.high, (degrees, light, truth, estimate)
