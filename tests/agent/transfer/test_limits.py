"""How fast and when a device downloads: the bucket, the quiet hours, and both sides' limits together."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.wire.control import Transfer
from edgewise_agent.limits import QUIET_VARIABLE, RATE_VARIABLE, BadLimit, TokenBucket, is_quiet, of_owner, stricter


def clock(hour: int, minute: int) -> time.struct_time:
    return time.struct_time((2026, 1, 1, hour, minute, 0, 3, 1, 0))


@given(
    rate=st.integers(1024, 10**6),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 200_000)), max_size=50),
)
def test_never_more_than_the_rate_and_one_burst(rate: int, steps: list[tuple[float, int]]) -> None:
    bucket, now, taken = TokenBucket(rate, 100_000, 0.0), 0.0, 0
    for wait, wish in steps:
        now += wait
        got = min(wish, bucket.available(now))
        if got > 0:
            bucket.take(got, now)
            taken += got
        assert taken <= 100_000 + rate * now + 1


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1024, 1024, 10.0)
    bucket.take(1024, 10.0)
    assert bucket.available(5.0) == 0 and bucket.available(10.0) == 0
    assert TokenBucket(None, 4096, 0.0).available(0.0) == 4096


@pytest.mark.parametrize(
    ("spans", "hour", "minute", "quiet"),
    [
        (["22:00-06:00"], 23, 59, True),
        (["22:00-06:00"], 0, 0, True),
        (["22:00-06:00"], 5, 59, True),
        (["22:00-06:00"], 6, 0, False),
        (["08:30-17:00"], 8, 29, False),
        (["08:30-17:00"], 8, 30, True),
        (["08:00-09:00", "12:00-13:00"], 12, 30, True),
        ([], 12, 0, False),
    ],
)
def test_quiet_hours(spans: list[str], hour: int, minute: int, quiet: bool) -> None:
    assert is_quiet(spans, clock(hour, minute)) is quiet


def test_the_stricter_of_both_sides_holds() -> None:
    hub, owner = Transfer(bytes_s=5000, quiet=["08:00-09:00"]), Transfer(bytes_s=4000, quiet=["12:00-13:00"])
    assert stricter(hub, owner) == Transfer(bytes_s=4000, quiet=["08:00-09:00", "12:00-13:00"])
    assert stricter(hub, Transfer()) == hub and stricter(Transfer(), owner) == owner


def test_the_owners_limits_are_read_and_nonsense_is_refused() -> None:
    assert of_owner({}) == Transfer()
    limits = of_owner({RATE_VARIABLE: "2048", QUIET_VARIABLE: "22:00-06:00, 12:00-13:00"})
    assert limits == Transfer(bytes_s=2048, quiet=["22:00-06:00", "12:00-13:00"])
    for bad in ({RATE_VARIABLE: "fast"}, {RATE_VARIABLE: "10"}, {QUIET_VARIABLE: "24:00-25:00"}, {QUIET_VARIABLE: "x"}):
        with pytest.raises(BadLimit):
            of_owner(bad)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"quiet": ["6:00-7:00"]}, Transfer)
