"""A stream's numbers count once, and the ack stops at the first gap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import WireError
from edgewise_hub.monitoring.positions import MAX_BEYOND, MAX_SPAN, Position, extend, is_new


@st.composite
def cut_streams(draw: st.DrawFn) -> list[tuple[int, int]]:
    """1..n cut into ranges, in any order, some of them twice."""
    widths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=25))
    ranges, first = [], 1
    for width in widths:
        ranges.append((first, first + width - 1))
        first += width
    again = draw(st.lists(st.sampled_from(ranges), max_size=10))
    return list(draw(st.permutations(ranges + again)))


@given(cut_streams())
def test_each_range_is_new_once_and_the_position_is_the_first_gap(arrivals: list[tuple[int, int]]) -> None:
    position, handled = Position(), set()
    for first, last in arrivals:
        numbers = set(range(first, last + 1))
        assert is_new(position, first, last) == (not numbers <= handled)
        before = position
        position = extend(position, first, last)
        handled |= numbers
        gap = min(set(range(1, max(handled) + 2)) - handled)
        assert position.sequence == gap - 1
        assert position.sequence >= before.sequence
        assert {n for low, high in position.beyond for n in range(low, high + 1)} == {n for n in handled if n > gap}
    assert position == Position(max(handled))


@given(st.integers(1, 50), st.integers(1, 60), st.integers(1, 60))
def test_a_range_that_is_handled_in_part_is_refused(sequence: int, first: int, width: int) -> None:
    last = first + width - 1
    position = Position(sequence)
    if first <= sequence < last:
        with pytest.raises(WireError) as caught:
            is_new(position, first, last)
        assert caught.value.code == "overlap"
    else:
        assert is_new(position, first, last) == (first > sequence)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 3), (3, 2), (1, MAX_SPAN + 1)])
def test_numbers_that_cannot_be_are_refused(first: int, last: int) -> None:
    with pytest.raises(WireError) as caught:
        is_new(Position(), first, last)
    assert caught.value.code == "bad-range"


def test_gaps_are_bounded_and_the_next_number_always_fits() -> None:
    position = Position(0, tuple((n, n) for n in range(3, 3 + 2 * MAX_BEYOND, 2)))
    with pytest.raises(WireError) as caught:
        is_new(position, 10 * MAX_BEYOND, 10 * MAX_BEYOND)
    assert caught.value.code == "too-far-ahead"
    assert is_new(position, 1, 1)
