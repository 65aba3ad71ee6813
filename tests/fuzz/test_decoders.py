"""Whatever bytes come, a decoder answers or refuses by name: examples that were changed here and there, and noise.

A short, fixed set of inputs; ``scripts/fuzz`` looks further, guided by coverage.
"""

from __future__ import annotations

import pytest
from decoders import DECODERS, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@st.composite
def changed(draw: st.DrawFn, example: bytes) -> bytes:
    """An example with bytes replaced, cut out, doubled, or put in."""
    data = bytearray(example)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 1, 1, 2, 8]))
        what = draw(st.sampled_from(["replace", "cut", "double", "insert", "number"]))
        if what == "replace":
            data[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif what == "cut":
            del data[at : at + length]
        elif what == "double":
            data[at:at] = data[at : at + 8 * length]
        elif what == "insert":
            data[at:at] = draw(st.binary(max_size=12))
        else:
            data[at : at + 8] = draw(st.sampled_from([0, 1, 2**31, 2**53, 2**63, 2**64 - 1])).to_bytes(8, "little")
    return bytes(data)


@pytest.mark.parametrize("name", DECODERS)
def test_examples_are_taken(name: str) -> None:
    for example in DECODERS[name].examples:
        DECODERS[name].decode(example)


@pytest.mark.parametrize("name", DECODERS)
def test_whatever_comes_is_answered_or_refused(name: str) -> None:
    @settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(*(changed(example) for example in DECODERS[name].examples), st.binary(max_size=200)))
    def check(data: bytes) -> None:
        run(name, data)

    check()
