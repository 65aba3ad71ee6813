"""A window lies where it was, whatever the device's clock says: behind 1970, far ahead, or stepped in the middle."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.sketch import SketchSpec
from edgewise.wire.codec import decode_msgpack
from edgewise.wire.windows import Counters, Window
from edgewise_agent.clock import DRIFT, MAX_WAITING, SYNCHRONIZED, SYNCHRONIZED_S, Clock, Reading, steady_clock
from edgewise_agent.serving.channel import WindowClosed
from edgewise_agent.windows.collector import Collector
from edgewise_agent.windows.message import message_of
from edgewise_agent.windows.times import Mark, placed

HUB = 1.8e9
CLOSED = partial(
    WindowClosed,
    model="m",
    version=1,
    bundle="b" * 64,
    spec="c" * 64,
    start=0.0,
    duration=60.0,
    counters=Counters(errors=1),
    sketches={},
)


class World:
    """True time, and a device whose oscillator and wall clock are off."""

    def __init__(self, root: Path, wall_off: float, rate: float = 1.0) -> None:
        self.true, self.wall_off, self.rate = HUB, wall_off, rate
        self.clock = Clock(lambda: (self.true - HUB) * self.rate + 50.0, lambda: self.true + self.wall_off, root)

    def exchange(self, out_s: float, back_s: float, message: object = "m") -> None:
        """A message goes out, and its ack comes back."""
        self.clock.sent(message)
        self.true += out_s
        at = self.true
        self.true += back_s
        self.clock.acknowledged(message, at)

    def error(self) -> float:
        return abs(self.clock.read().at - self.true)


WRONG = [-HUB - 1e6, -HUB, 0.0, 2.2e9]
"""Before 1970, at 1970, right, and far in the future."""


@pytest.mark.parametrize("off", WRONG)
def test_unknown_until_somebody_said(tmp_path: Path, off: float) -> None:
    world = World(tmp_path, off)
    assert world.clock.read().uncertainty is None
    world.exchange(0.2, 0.4)
    reading = world.clock.read()
    assert reading.uncertainty == pytest.approx(0.3) and world.error() <= 0.3


@given(
    off=st.sampled_from(WRONG),
    rate=st.floats(1 - DRIFT, 1 + DRIFT),
    steps=st.lists(
        st.tuples(st.sampled_from(["exchange", "wait", "step"]), st.floats(0, 5), st.floats(0, 90_000)), max_size=12
    ),
)
def test_true_time_is_always_within_the_uncertainty(
    tmp_path_factory: pytest.TempPathFactory, off: float, rate: float, steps: list[tuple[str, float, float]]
) -> None:
    world = World(tmp_path_factory.getbasetemp(), off, rate)
    for step, short, long in steps:
        if step == "exchange":
            world.exchange(short, long % 7)
        elif step == "wait":
            world.true += long
        else:
            world.wall_off += long - 45_000
        reading = world.clock.read()
        if reading.uncertainty is not None:
            assert world.error() <= reading.uncertainty * (1 + 2 * DRIFT) + 1e-3


def test_a_better_answer_replaces_a_worse_and_not_the_other_way(tmp_path: Path) -> None:
    world = World(tmp_path, 0.0)
    world.exchange(0.1, 0.1)
    world.exchange(5.0, 5.0)
    assert (world.clock.read().uncertainty or 9.0) < 0.2
    world.true += 86_400
    world.exchange(1.0, 1.0)
    assert world.clock.read().uncertainty == pytest.approx(1.0), "after a day of drift, it is the better one"


def test_the_hubs_clock_was_set(tmp_path: Path) -> None:
    world = World(tmp_path, 0.0)
    world.exchange(0.1, 0.1)
    world.clock.sent("m")
    world.clock.acknowledged("m", HUB + 3600.0)
    assert world.clock.read().at == pytest.approx(HUB + 3600.0, abs=1.0)


def test_the_first_sending_counts_and_an_ack_of_nothing_we_sent_does_not(tmp_path: Path) -> None:
    world = World(tmp_path, 5.0)
    world.clock.acknowledged("of the life before", HUB)
    world.clock.sent("old hub")
    world.clock.acknowledged("old hub", 0.0)
    assert world.clock.read().uncertainty is None
    world.clock.sent("m")
    world.true += 10.0
    world.exchange(0.1, 0.1)
    assert (world.clock.read().uncertainty or 0.0) >= 5.0
    for number in range(3 * MAX_WAITING):
        world.clock.sent(number)
    assert len(world.clock._sent) == MAX_WAITING


def test_a_synchronized_system_is_believed_unless_it_is_behind_what_was_signed(tmp_path: Path) -> None:
    (tmp_path / SYNCHRONIZED).parent.mkdir(parents=True)
    (tmp_path / SYNCHRONIZED).touch()
    world = World(tmp_path, 0.25)
    assert world.clock.read() == Reading(HUB + 0.25, SYNCHRONIZED_S)
    world.clock.signed(HUB + 500.0)
    assert world.clock.read() == Reading(HUB + 500.0, None)


def test_the_hub_is_believed_where_the_system_says_something_else(tmp_path: Path) -> None:
    (tmp_path / SYNCHRONIZED).parent.mkdir(parents=True)
    (tmp_path / SYNCHRONIZED).touch()
    world = World(tmp_path, -7000.0)
    world.exchange(2.0, 2.0)
    assert world.error() <= 2.0


def test_the_steady_clock_only_goes_on() -> None:
    readings = [steady_clock() for _ in range(100)]
    assert readings == sorted(readings)


@pytest.mark.parametrize("off", WRONG)
def test_a_window_is_placed_by_its_end_however_the_clock_was_set_meanwhile(tmp_path: Path, off: float) -> None:
    world = World(tmp_path, off)
    collector = Collector(
        model="m",
        version=1,
        bundle="b" * 64,
        spec=SketchSpec(),
        spec_digest="c" * 64,
        projection=None,
        window_s=60.0,
        now=0.0,
        clock=world.true + world.wall_off,
    )
    collector.count("errors")
    world.wall_off -= 1e9
    world.exchange(0.1, 0.1)
    world.true = HUB + 60.0
    closed = collector.poll(60.0, world.true + world.wall_off)
    assert closed is not None
    window = decode_msgpack(message_of("cam-1", closed, world.clock.read())(7, 3), Window)
    assert (window.epoch, window.first, window.last, window.duration) == (7, 3, 3, 60.0)
    assert window.start == pytest.approx(HUB, abs=0.2) and window.uncertainty == pytest.approx(0.1, abs=0.02)


@given(
    off=st.sampled_from(WRONG),
    rate=st.floats(1 - DRIFT, 1 + DRIFT),
    waited=st.floats(0, 90 * 86_400),
    ended_s=st.floats(0, 3600),
    out_s=st.floats(0, 5),
)
def test_a_window_of_unknown_time_is_placed_when_it_goes_out(
    tmp_path_factory: pytest.TempPathFactory, off: float, rate: float, waited: float, ended_s: float, out_s: float
) -> None:
    world = World(tmp_path_factory.getbasetemp(), off, rate)
    closed = CLOSED(duration=60.0 * rate, ended_s=ended_s * rate)
    ended = world.true - ended_s
    kept = message_of("cam-1", closed, world.clock.read(), Mark(1, world.clock.steady()))(7, 3)
    world.true += waited
    world.exchange(out_s, out_s)
    now, reading = Mark(1, world.clock.steady()), world.clock.read()
    sent = decode_msgpack(placed(kept, now, reading), Window)
    assert sent.uncertainty is not None and (sent.epoch, sent.first, sent.last) == (7, 3, 3)
    assert abs(sent.start + sent.duration - ended) <= sent.uncertainty * (1 + 2 * DRIFT) + 1e-3
    assert b"mark" not in placed(kept, now, reading)
    for nobody_knows in (placed(kept, Mark(2, now.steady), reading), placed(kept, now, Reading(5.0, None))):
        assert decode_msgpack(nobody_knows, Window).uncertainty is None and b"mark" not in nobody_knows


def test_what_was_placed_at_its_end_goes_out_as_it_is(tmp_path: Path) -> None:
    world = World(tmp_path, 0.0)
    world.exchange(0.1, 0.1)
    kept = message_of("cam-1", CLOSED(), world.clock.read(), Mark(1, world.clock.steady()))(7, 3)
    assert b"mark" not in kept
    assert placed(kept, Mark(1, world.clock.steady() + 1e6), Reading(5.0, 1.0)) == kept
    late = message_of("cam-1", CLOSED(ended_s=None), Reading(5.0, None), Mark(1, 100.0))(7, 3)
    assert b"mark" not in late, "of a start of the system before this one"
