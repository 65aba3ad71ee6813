"""Spans: every window is in exactly one, and none is larger than its reference allows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise_hub.monitoring.drift.span import Seen, cut
from edgewise_hub.monitoring.drift.summary import Summary

LIMITS = {"x": 500, "y": 200}


def window(at, bundle, n):
    return Seen(float(at), "device", bundle, replace(Summary.nothing(), n=n))


streams = st.lists(
    st.builds(window, st.integers(0, 30), st.sampled_from(["x", "y", "unknown"]), st.integers(0, 180)), max_size=60
).map(lambda windows: sorted(windows, key=lambda seen: seen.at))


@given(streams)
def test_spans_never_overlap_and_leave_only_what_is_too_little(stream):
    rest = stream
    while count := cut(rest, LIMITS, 150):
        span, rest = rest[:count], rest[count:]
        assert not rest or rest[0].at > span[-1].at, "a span ends at an instant"
        sizes = {bundle: sum(seen.summary.n for seen in span if seen.bundle == bundle) for bundle in LIMITS}
        one_instant = span[0].at == span[-1].at
        assert one_instant or all(sizes[bundle] <= LIMITS[bundle] for bundle in LIMITS)
    assert sum(seen.summary.n for seen in rest if seen.bundle in LIMITS) < 150


def test_a_span_waits_for_enough_items():
    assert cut([window(1, "x", 100)], LIMITS, 150) == 0
    assert cut([window(1, "x", 100), window(2, "x", 50)], LIMITS, 150) == 2


def test_a_full_span_ends_before_its_limit():
    stream = [window(at, "y", 90) for at in range(5)]
    assert cut(stream, LIMITS, 150) == 2


def test_windows_of_one_instant_stay_together_even_over_the_limit():
    assert cut([window(1, "y", 150), window(1, "y", 150), window(2, "y", 10)], LIMITS, 150) == 2


@pytest.mark.parametrize("n", [0, 10_000])
def test_a_bundle_that_cannot_be_judged_neither_fills_nor_ends_a_span(n):
    assert cut([window(1, "unknown", n), window(2, "x", 150)], LIMITS, 150) == 2
    assert cut([window(1, "unknown", n)], LIMITS, 150) == 0
