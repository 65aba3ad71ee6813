"""Experiments on the wire: draws are sticky and uniform, sums merge exactly, and a window's message keeps its bound."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import WireError
from edgewise.wire.codec import decode_json, decode_msgpack, encode_json, encode_msgpack
from edgewise.wire.control import Desired, DesiredModel, Duty
from edgewise.wire.experiment import (
    AB,
    CALIBRATION_BINS,
    CLASSES,
    DISTANCE_BINS,
    Arm,
    CanaryRequests,
    Compared,
    Escalate,
    Escalated,
    Experiment,
    Interleave,
    Policy,
    Shadow,
    Sums,
    draw,
    merge,
)

COUNT = st.integers(0, 2**32 - 1)
LATENCY_BINS = 64


def bins(number: int) -> st.SearchStrategy[dict[int, int]]:
    return st.dictionaries(st.integers(0, number - 1), st.integers(1, 2**32 - 1), max_size=8)


ARMS = st.builds(
    Arm,
    requests=COUNT,
    errors=COUNT,
    latency=bins(LATENCY_BINS),
    labelled=COUNT,
    correct=COUNT,
    confusion=bins(CLASSES**2),
    confident=bins(CALIBRATION_BINS),
    right=bins(CALIBRATION_BINS),
    clicks=COUNT,
    wins=COUNT,
)
SUMS = st.builds(
    Sums,
    arms=st.dictionaries(st.sampled_from(["active", "shadow", "candidate"]), ARMS),
    compared=st.builds(Compared, compared=COUNT, agreed=COUNT, distance=bins(DISTANCE_BINS), dropped=COUNT),
    escalated=st.builds(Escalated, asked=COUNT, answered=COUNT, fallbacks=COUNT, changed=COUNT, bytes=COUNT),
    ties=COUNT,
)
POLICIES: list[Policy] = [
    Shadow(experiment="s", share=0.5),
    AB(experiment="ab", weight=0.2, by="device"),
    CanaryRequests(experiment="c", share=0.1),
    Interleave(experiment="i", output="scores"),
    Escalate(experiment="e", threshold=0.5, url="https://server.example/v2", model="big"),
]


@given(SUMS, SUMS, SUMS)
def test_merge_is_associative_and_commutative_and_has_a_neutral_element(a: Sums, b: Sums, c: Sums) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, b) == merge(b, a)
    assert merge(a, Sums()) == a


def message(sums: Sums) -> Experiment:
    return Experiment(
        device="d" * 64,
        epoch=2**52,
        first=2**52,
        last=2**52,
        start=1.0,
        duration=1.0,
        model="m" * 64,
        experiment="e" * 64,
        kind="canary-requests",
        versions={"active": 2**52, "candidate": 2**52},
        sums=sums,
    )


@given(SUMS)
def test_message_comes_back_as_it_was(sums: Sums) -> None:
    sent = message(sums)
    assert decode_msgpack(encode_msgpack(sent), Experiment) == sent


def test_fullest_message_of_two_arms_keeps_the_bound() -> None:
    """Every bin of every histogram filled, with counts as of 65,535 requests a bin."""
    many = 2**16 - 1

    def full(number: int) -> dict[int, int]:
        return dict.fromkeys(range(number), many)

    arm = Arm(
        requests=many * 64,
        errors=many,
        latency=full(LATENCY_BINS),
        labelled=many,
        correct=many,
        confusion=full(CLASSES**2),
        confident=full(CALIBRATION_BINS),
        right=full(CALIBRATION_BINS),
        clicks=many,
        wins=many,
    )
    sums = Sums(arms={"active": arm, "candidate": arm}, compared=Compared(distance=full(DISTANCE_BINS)), ties=many)
    assert len(encode_msgpack(message(sums))) <= Experiment.bound


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.experiment)
def test_policy_travels_in_the_desired_state(policy: Policy) -> None:
    duty = Duty(bundle="0" * 64, size=1, version=1, release=1)
    desired = Desired(
        tenant="t",
        device="d",
        profile="p",
        generation=1,
        models={"m": DesiredModel(duties={"active": duty, "candidate": duty}, policy=policy)},
        issued_at=0,
        not_before=0,
        not_after=1,
    )
    assert decode_json(encode_json(desired), Desired) == desired


@pytest.mark.parametrize("bad", [{"share": 1.1}, {"share": -0.1}, {"experiment": "a/b"}, {"salt": "x" * 65}])
def test_policy_out_of_bounds_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": "shadow", "experiment": "s", **bad}, Policy)


def test_message_over_its_bound_is_refused() -> None:
    with pytest.raises(WireError, match="at most 4096"):
        decode_msgpack(b"x" * 5000, Experiment)


def test_draw_is_sticky_uniform_and_independent_between_experiments() -> None:
    """20,000 units: each decile's share differs from 1/10 by more than 0.012 with p < 1e-7 (5.6 standard errors)."""
    one, other = AB(experiment="one"), AB(experiment="two")
    units = [f"user-{i}" for i in range(20_000)]
    draws = [draw(one, unit) for unit in units]
    assert draws == [draw(one, unit) for unit in units]
    for decile in range(10):
        share = sum(decile / 10 <= x < (decile + 1) / 10 for x in draws) / len(draws)
        assert abs(share - 0.1) < 0.012
    both = sum(x < 0.5 and draw(other, unit) < 0.5 for x, unit in zip(draws, units, strict=True)) / len(units)
    assert abs(both - 0.25) < 0.018
    assert draw(AB(experiment="one", salt="again"), "user-1") != draws[1]
