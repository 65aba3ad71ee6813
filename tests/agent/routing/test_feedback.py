"""Labels and clicks find whom they speak of: after a restart, when another version answers, once each."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.privacy import rho_of
from edgewise.sketch.labels import LabelSketch
from edgewise.wire.codec import decode_msgpack
from edgewise.wire.experiment import Sums, merge
from edgewise.wire.windows import Window
from edgewise_agent.clock import DRIFT, Reading
from edgewise_agent.serving.answers import Answers, forget
from edgewise_agent.serving.channel import ExperimentClosed, WindowClosed
from edgewise_agent.serving.feedback import APART, Feedback, Inputs, Labelled
from edgewise_agent.serving.options import Privacy
from edgewise_agent.serving.routing.interleave import Draft
from edgewise_agent.serving.routing.record import Experiment
from edgewise_agent.serving.sources import MAX_SOURCES, Source, Sources
from edgewise_agent.windows.message import message_of

AB = Experiment(name="ab-1", kind="ab", versions={"active": 1, "candidate": 2})
DRAFT = Draft((4, 2, 0, 1, 3), ("active", "candidate", "active", "candidate", "active"))


def source(version: int, **more: object) -> Source:
    return Source(bundle=f"{version:064x}", version=version, spec="5" * 64, classes=3, **more)  # type: ignore[arg-type]


LONG = 1e9
"""Seconds that the present window has been open: every answer is of it."""


def reported(feedback: Feedback) -> tuple[dict[str, Sums], list[WindowClosed]]:
    """Everything that is to be told now: experiment -> sums, and windows of late labels."""
    sums: dict[str, Sums] = {}
    windows = []
    for closed in feedback.poll(None, time.monotonic(), time.time(), 3600, last=True):
        if isinstance(closed, ExperimentClosed):
            sums[closed.experiment] = merge(sums.get(closed.experiment, Sums()), closed.sums)
        else:
            windows.append(closed)
    return sums, windows


@given(st.lists(st.tuples(st.text(max_size=20), st.binary(min_size=5, max_size=5)), max_size=60))
@settings(max_examples=50)
def test_the_map_gives_what_was_put_last_while_there_is_room(puts: list[tuple[str, bytes]]) -> None:
    answers = Answers(None, 4096, 5)
    for name, payload in puts:
        answers.put(name, payload)
    assert all(answers.get(name) == payload for name, payload in dict(puts).items())
    assert answers.get("never" * 5) is None
    assert len(list(answers)) == len(dict(puts))


def test_the_map_is_bounded_and_forgets_the_oldest_of_a_set(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "map", 8, 4)  # one set
    size = (tmp_path / "map").stat().st_size
    for i in range(100):
        answers.put(f"n{i}", i.to_bytes(4, "big"))
    assert [answers.get(f"n{i}") is not None for i in range(100)] == [False] * 92 + [True] * 8
    assert (tmp_path / "map").stat().st_size == size and (tmp_path / "map").stat().st_blocks * 512 >= size


def test_a_torn_record_is_forgotten_and_another_format_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "map"
    answers = Answers(path, 8, 4)
    for i in range(8):
        answers.put(f"n{i}", i.to_bytes(4, "big"))
    data = bytearray(path.read_bytes())
    at = data.index((3).to_bytes(4, "big"), 32 + 8)
    data[at] ^= 0xFF
    path.write_bytes(data)
    again = Answers(path, 8, 4)
    there = [again.get(f"n{i}") for i in range(8)]
    assert there.count(None) == 1 and all(p in (None, i.to_bytes(4, "big")) for i, p in enumerate(there))
    assert Answers(path, 8, 6).get("n0") is None
    assert Answers(tmp_path / "map" / "no-folder", 8, 4).get("n0") is None, "in memory where there is no disk"


def test_a_label_counts_once_after_a_restart_too(tmp_path: Path) -> None:
    first = Feedback("m", tmp_path)
    key = first.sources.add(source(1, experiment=AB))
    first.answered(key, "a", 2, 0.75)
    second = Feedback("m", tmp_path)  # as after kill -9: nothing was closed
    active = source(1).bundle
    assert second.label("a", 2, active, LONG) == Labelled("counted", fresh=True, prediction=2)
    assert second.label("a", 1, active, LONG).counted == "repeated"
    assert first.label("a", 1, active, LONG).counted == "repeated", "the one before sees it too"
    assert second.label("b", 1, active, LONG).counted == "unknown"
    arm = reported(second)[0]["ab-1"].arms["active"]
    assert (arm.labelled, arm.correct, arm.confusion, arm.right) == (1, 1, {2 * 11 + 2: 1}, {7: 1})


def test_a_late_label_counts_for_the_version_that_answered(tmp_path: Path) -> None:
    first = Feedback("m", tmp_path)
    key = first.sources.add(source(1))
    for name in ("a", "b"):
        first.answered(key, name, 1, 0.0)
    second = Feedback("m", tmp_path)
    second.sources.add(source(2))
    assert second.label("a", 1, source(2).bundle, LONG) == Labelled("counted", fresh=False, prediction=1)
    second.label("b", 0, source(2).bundle, LONG)
    sums, (window,) = reported(second)
    assert not sums and (window.version, window.bundle, window.duty) == (1, source(1).bundle, "active")
    assert (window.counters.labelled, window.counters.correct, window.counters.late) == (2, 1, 2)
    confusion = LabelSketch.decode(window.sketches["labels"], 3).confusion
    assert confusion is not None and confusion.tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert reported(second) == ({}, [])


class Steady:
    """A clock that nobody sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_late_labels_lie_where_the_answers_were_given(tmp_path: Path) -> None:
    steady, bundle = Steady(), source(1).bundle
    feedback = Feedback("m", tmp_path, steady=steady, boot=1)
    key = feedback.sources.add(source(1))
    for steady.now, name in ((100.0, "a"), (130.0, "b"), (500.0, "c")):
        feedback.answered(key, name, 1, 0.0)
    steady.now = 520.0
    assert feedback.label("c", 1, bundle, 60.0).fresh, "the window of its answer is open"
    assert not any(feedback.label(name, 1, bundle, 60.0).fresh for name in ("a", "b")), "theirs is over"
    _, (window,) = reported(feedback)
    assert (window.counters.labelled, window.duration, window.ended_s) == (2, 30.0, 390.0)
    message = decode_msgpack(message_of("cam-1", window, Reading(10_000.0, 0.5))(1, 1), Window)
    assert message.start == 10_000.0 - 390.0 - 30.0 and message.uncertainty == pytest.approx(0.5 + 390 * DRIFT)
    unsure = decode_msgpack(message_of("cam-1", window, Reading(10_000.0, None))(1, 1), Window)
    assert unsure.uncertainty is None


def test_after_a_restart_of_the_board_nobody_knows_when_an_answer_was_given(tmp_path: Path) -> None:
    before = Feedback("m", tmp_path, steady=Steady(), boot=1)
    before.answered(before.sources.add(source(1)), "a", 1, 0.0)
    after = Feedback("m", tmp_path, steady=Steady(), boot=2)
    assert not after.label("a", 1, source(1).bundle, LONG).fresh
    _, (window,) = reported(after)
    assert (window.counters.late, window.duration, window.ended_s) == (1, 0.0, None)
    message = decode_msgpack(message_of("cam-1", window, Reading(10_000.0, 0.5))(1, 1), Window)
    assert (message.start, message.uncertainty) == (10_000.0, None)


def test_late_labels_have_the_noise_of_a_window() -> None:
    feedback = Feedback("m", privacy=Privacy(epsilon=0.5), steady=Steady(), boot=1)
    key = feedback.sources.add(source(1))
    for number in range(40):
        feedback.answered(key, str(number), 1, 0.0)
        feedback.label(str(number), 1, source(2).bundle, LONG)
    _, (window,) = reported(feedback)
    assert 0 < window.rho <= rho_of(0.5, Privacy().delta) * (1 + 1e-9)
    assert LabelSketch.decode(window.sketches["labels"], 3).noise > 0
    assert window.counters.labelled == 40


def test_arms_and_shadows_are_told_apart() -> None:
    feedback = Feedback("m")
    candidate = feedback.sources.add(source(2, role="candidate", experiment=AB))
    shadow = feedback.sources.add(source(3, role="shadow", experiment=AB))
    feedback.answered(candidate, "a", 1, 0.5)
    feedback.answered(shadow, APART + "a", 0, 0.5)
    assert feedback.label("a", 1, source(1).bundle, LONG).fresh is False
    sums, windows = reported(feedback)
    assert not windows, "what is no active install's is in no window"
    assert {role: (arm.labelled, arm.correct) for role, arm in sums["ab-1"].arms.items()} == {
        "candidate": (1, 1),
        "shadow": (1, 0),
    }


def test_a_label_that_comes_before_the_shadow_ran_waits_for_it() -> None:
    feedback, active = Feedback("m"), source(1).bundle
    ours = feedback.sources.add(source(1, experiment=AB))
    shadow = feedback.sources.add(source(2, role="shadow", experiment=AB))
    for request in ("a", "b", "c", "d"):
        feedback.answered(ours, request, 1, 0.5)
    for request in ("a", "b/7", "c"):  # d is not among those that it will see
        feedback.expect(request)
    feedback.answered(ours, "b/7/0", 1, 0.5)
    for name in ("a", "a", "b/7/0", "c", "d", "b/7/1"):
        feedback.label(name, 1, active, LONG)
    feedback.answered(shadow, APART + "a", 1, 0.5)
    feedback.answered(shadow, APART + "b/7/0", 0, 0.5)
    for request in ("a", "b/7", "c"):  # of c it gave no answer
        feedback.seen(request)
    assert feedback.label("a", 0, active, LONG).counted == "repeated"
    arms = reported(feedback)[0]["ab-1"].arms
    assert (arms["active"].labelled, arms["shadow"].labelled, arms["shadow"].correct) == (4, 2, 1)
    feedback.expect("e")
    feedback.expect_none()
    assert not feedback._expected, "nothing is kept of it"


def test_clicks_credit_the_team_that_picked_and_settle_once(tmp_path: Path) -> None:
    feedback = Feedback("m", tmp_path)
    key = feedback.sources.add(source(1, experiment=AB))
    for name in ("won", "tied", "quiet"):
        feedback.drafted(key, name, DRAFT)
    assert feedback.clicked("won", [2]) == "counted"
    assert feedback.clicked("won", [2]) == "repeated"
    assert feedback.clicked("won", [1, 4]) == "counted"
    assert feedback.clicked("tied", [0, 1]) == "counted"
    assert feedback.clicked("nobody", [0]) == "unknown"
    with pytest.raises(ValueError, match=r"items 0\.\.4"):
        feedback.clicked("won", [5])
    clicked = reported_early(feedback)
    assert {role: arm.clicks for role, arm in clicked.arms.items()} == {"active": 2, "candidate": 3}
    assert clicked.ties == 0 and not any(arm.wins for arm in clicked.arms.values()), "more clicks may come"
    after = Feedback("m", tmp_path)
    sums = reported(after)[0]["ab-1"]
    assert sums.ties == 1 and sums.arms["candidate"].wins == 1 and "active" not in sums.arms
    assert after.clicked("won", [0]) == "repeated", "it is settled"


def reported_early(feedback: Feedback) -> Sums:
    """What a window holds whose clicks are not settled yet."""
    (closed,) = feedback.poll(None, time.monotonic() + 7200, time.time(), 3600)
    assert isinstance(closed, ExperimentClosed)
    return closed.sums


def test_sources_are_bounded_and_two_processes_lose_none(tmp_path: Path) -> None:
    ours, theirs = Sources(tmp_path / "m.json"), Sources(tmp_path / "m.json")
    a, b = ours.add(source(1)), theirs.add(source(2))
    assert ours.get(b) == source(2) and theirs.get(a) == source(1)
    assert Sources(tmp_path / "m.json").get(a) == source(1)
    for version in range(3, 3 + MAX_SOURCES):
        ours.add(source(version))
    assert Sources(tmp_path / "m.json").get(a) is None
    (tmp_path / "m.json").write_text("rot")
    assert Sources(tmp_path / "m.json").get(a) is None


def test_inputs_are_bounded_by_bytes_and_given_once() -> None:
    inputs = Inputs(max_bytes=10)
    for i in range(5):
        inputs.keep(f"r{i}", float(i), bytes(4))
    assert inputs.take("r2") is None and inputs.take("r4") == (4.0, bytes(4)) and inputs.take("r4") is None
    inputs.forget()
    assert inputs.take("r3") is None


def test_what_is_remembered_goes_with_its_model(tmp_path: Path) -> None:
    for model in ("digits", "digits.v2"):
        feedback = Feedback(model, tmp_path)
        feedback.drafted(feedback.sources.add(source(1)), "a", DRAFT)
    forget(tmp_path, {"digits.v2"})
    assert {path.name for path in tmp_path.iterdir()} == {
        "digits.v2.answers",
        "digits.v2.drafts",
        "digits.v2.json",
        "lock",
    }
    forget(tmp_path / "none", ())
