"""When a trigger fires: pure."""

from __future__ import annotations

from edgewise_hub.learning.triggers import Collected, Drift, Past, Rule, should_fire

RULE = Rule(min_samples=200, verdicts=frozenset({"harmful"}))
HARM = Drift("a1", "district-b", "harmful")
ENOUGH = Collected("r1", "district-b", 240)


def test_harm_and_enough_samples_fire_with_a_reason() -> None:
    firing = should_fire(RULE, [HARM], [ENOUGH], [])
    assert firing is not None
    assert (firing.alert, firing.request, firing.group) == ("a1", "r1", "district-b")
    assert "harmful drift in district-b" in firing.reason and "240" in firing.reason


def test_what_is_missing_keeps_it_still() -> None:
    assert should_fire(RULE, [], [ENOUGH], []) is None
    assert should_fire(RULE, [Drift("a1", "district-b", "drift")], [ENOUGH], []) is None
    assert should_fire(RULE, [HARM], [Collected("r1", "district-b", 199)], []) is None
    assert should_fire(RULE, [HARM], [Collected("r1", "district-a", 900)], []) is None


def test_it_answers_an_alert_once_and_the_next_one_again() -> None:
    answered = [Past("a1", busy=False)]
    assert should_fire(RULE, [HARM], [ENOUGH], answered) is None
    firing = should_fire(RULE, [HARM, Drift("a2", "district-b", "harmful")], [ENOUGH], answered)
    assert firing is not None and firing.alert == "a2"


def test_it_waits_while_a_run_or_its_rollout_goes_on() -> None:
    assert should_fire(RULE, [HARM], [ENOUGH], [Past(None, busy=True)]) is None
