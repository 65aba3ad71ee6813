"""Vectors of integers as bytes: one encoding of each, short where it is mostly zero, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import SketchError
from edgewise.sketch.vector import LIMIT, decode, encode

integers = st.one_of(st.just(0), st.integers(-70, 70), st.integers(-LIMIT, LIMIT))


@given(st.lists(integers, max_size=60))
def test_vectors_come_back(values):
    assert decode(encode(values), len(values)).tolist() == values


@given(st.binary(max_size=60), st.integers(0, 20))
def test_any_bytes_are_the_encoding_of_so_many_integers_or_an_error(data, count):
    try:
        values = decode(data, count).tolist()
    except SketchError:
        return
    assert len(values) == count and encode(values) == data


def test_small_numbers_take_a_byte_and_zeros_two_in_all():
    assert encode([1, 63, -64]) == b"\x02\x7e\x7f"
    assert encode([0] * 60) == b"\x00\x3b"
    assert encode([0, 5, 0, 0]) == b"\x00\x00\x0a\x00\x01"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff" * 9, "cut-off"),
        (b"\xff" * 8 + b"\x01", "more than 8 bytes"),
        (b"\x82\x00", "idle bytes"),
        (b"\x00", "cut or too long"),
        (b"\x00\x05", "cut or too long"),
        (b"\x00\x00\x00\x00", "cut or too long"),
        (b"\x02", "expected 2 integers, got 1"),
        (b"\x02" * 3, "expected 2 integers, got 3"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f\x02", "within"),
        (b"\x02" * 100, "100 bytes"),
    ],
)
def test_what_is_no_encoding_of_two_integers_is_refused(data, says):
    with pytest.raises(SketchError, match=says):
        decode(data, 2)
