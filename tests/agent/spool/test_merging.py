"""Windows that a full spool merged say what the hub would have said of them, had they come one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import SketchError
from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.wire import sums
from edgewise.wire.codec import decode_msgpack, encode_msgpack
from edgewise.wire.experiment import Arm, Experiment, Sums
from edgewise.wire.windows import MAX_FEATURES, Counters, Window
from edgewise_agent.clock import Reading
from edgewise_agent.windows import merging
from edgewise_agent.windows.merging import Times, union
from edgewise_agent.windows.times import Mark, marked, placed

SPEC = SketchSpec(classes=6, confidence_edges=[0.4, 0.6, 0.9])
DIGEST = "a" * 64


def sketches(rng: np.random.Generator, n: int) -> WindowSketches:
    """What ``n`` requests of one item leave."""
    found = WindowSketches(SPEC)
    for _ in range(n):
        found.update(float(rng.exponential(0.01)), scores=rng.normal(size=(1, 6)).astype(np.float32) * 3)
    return found


def window(**changes: object) -> Window:
    values: dict[str, object] = {
        "device": "cam-1", "epoch": 7, "first": 1, "last": 1, "start": 100.0, "duration": 60.0, "uncertainty": 0.5,
        "model": "digits", "version": 1, "bundle": DIGEST, "spec": DIGEST, "counters": Counters(), "sketches": {},
    }  # fmt: skip
    return Window(**{**values, **changes})  # type: ignore[arg-type]


def merged(a: Window, b: Window) -> Window | None:
    data = merging.WINDOWS.merge(encode_msgpack(a), encode_msgpack(b))
    return None if data is None else decode_msgpack(data, Window)


@pytest.mark.parametrize("sizes", [(0, 0), (1, 0), (0, 5), (40, 3), (200, 300)])
def test_sketches_add_up_as_the_library_merges_them(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(sizes))
    a, b = (sketches(rng, n) for n in sizes)
    added = sums.add(a.encode(), b.encode())
    a.merge(b)
    assert added == a.encode()


def test_sketches_that_do_not_fit_one_another_are_refused() -> None:
    for a, b in (
        (b"\x01\x02\x00\x03", b"\x01\x03\x00\x03"),
        (b"\x01\x02\x02", b"\x01\x02\x02\x02"),
        (b"\x01\x02\xff", b"\x01\x02\x02"),
    ):
        with pytest.raises(SketchError):
            sums.add_encoded(a, b)
    with pytest.raises(SketchError, match="more than"):
        sums.add_encoded(b"\x01\x02\x00\xff\xff\xff\x7f", b"\x01\x02\x02")


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_whatever_comes_is_added_or_refused(a: bytes, b: bytes) -> None:
    try:
        both = sums.add_encoded(a, b)
    except SketchError:
        return
    assert sums.add_encoded(b, a) == both


def test_counters_and_quality_add_up() -> None:
    a = window(counters=Counters(inferences=5, correct=1, labelled=2), quality={"missing": {"age": 3, "x[1]": 1}})
    b = window(counters=Counters(inferences=2, errors=9), quality={"missing": {"age": 1}, "not_finite": {"x": 4}})
    both = merged(a, b)
    assert both is not None
    assert both.counters == Counters(inferences=7, errors=9, correct=1, labelled=2)
    assert both.quality == {"missing": {"age": 4, "x[1]": 1}, "not_finite": {"x": 4}}
    many = [window(quality={"missing": {f"{name}{i}": i + 1 for i in range(MAX_FEATURES)}}) for name in "ab"]
    both = merged(*many)
    assert both is not None and len(both.quality["missing"]) == MAX_FEATURES
    assert min(both.quality["missing"].values()) > MAX_FEATURES // 2 - 1, "those with the most items"


def test_only_what_is_of_one_install_and_of_known_or_unknown_time_merges() -> None:
    changes: list[dict[str, object]] = [
        {}, {"model": "other"}, {"version": 2}, {"bundle": "b" * 64}, {"spec": "b" * 64}, {"uncertainty": None},
    ]  # fmt: skip
    keys = [merging.WINDOWS.key(encode_msgpack(window(**change))) for change in changes]
    assert len(set(keys)) == len(keys)
    assert merging.WINDOWS.key(encode_msgpack(window(first=5, last=9, start=-1.0, uncertainty=2.0))) == keys[0]
    assert merging.WINDOWS.key(b"\xc1") is None


def test_times_are_as_wide_and_as_uncertain_as_both() -> None:
    assert union(Times(100.0, 60.0, 0.5), Times(300.0, 60.0, 2.0)) == Times(100.0, 260.0, 2.0)
    assert union(Times(100.0, 60.0, 0.5), Times(90.0, 60.0, 0.1)) == Times(90.0, 70.0, 0.5), "a clock that stepped back"
    assert union(Times(0.0, 60.0, None), Times(2e9, 60.0, None)) == Times(0.0, 120.0, None), "a wrong clock"
    marks = Mark(1, 160.0), Mark(1, 300.0)
    assert union(Times(0.0, 60.0, None, marks[0]), Times(2e9, 60.0, None, marks[1])) == (0.0, 200.0, None, marks[1])


def test_what_will_be_placed_merges_with_its_like_alone_and_is_placed_as_a_whole() -> None:
    unknown = encode_msgpack(window(uncertainty=None))
    older, newer = marked(unknown, Mark(1, 160.0)), marked(unknown, Mark(1, 300.0))
    keys = [merging.WINDOWS.key(data) for data in (unknown, older, marked(unknown, Mark(2, 160.0)))]
    assert len(set(keys)) == 3 and merging.WINDOWS.key(newer) == keys[1]
    both = merging.WINDOWS.merge(older, newer)
    assert both is not None
    found = decode_msgpack(placed(both, Mark(1, 400.0), Reading(1e9, 2.0)), Window)
    assert (found.start, found.duration) == (1e9 - 300.0, 200.0)


def test_what_is_too_much_for_one_message_stays_apart() -> None:
    large = {f"s{i}": bytes(5000) for i in range(3)}
    assert (
        merged(
            window(sketches={"a": large["s0"], "b": large["s1"]}), window(sketches={"c": large["s2"], "d": bytes(5000)})
        )
        is None
    )
    many = Counters(inferences=2**53 - 1)
    assert merged(window(counters=many), window(counters=many)) is None, "past what a count may be"


def test_experiments_merge_within_one() -> None:
    def encoded(**changes: object) -> bytes:
        values: dict[str, object] = {
            "device": "cam-1", "epoch": 7, "first": 1, "last": 1, "start": 0.0, "duration": 60.0, "model": "digits",
            "experiment": "e", "kind": "ab", "versions": {"active": 1}, "sums": Sums(arms={"active": Arm(requests=3)}),
        }  # fmt: skip
        return encode_msgpack(Experiment(**{**values, **changes}))  # type: ignore[arg-type]

    data = merging.EXPERIMENTS.merge(encoded(), encoded())
    assert data is not None
    both = decode_msgpack(data, Experiment)
    assert both.sums.arms["active"].requests == 6 and both.duration == 120.0
    others = [encoded(versions={"active": 2}), encoded(experiment="f"), encoded(kind="shadow"), encoded(model="m")]
    assert len({merging.EXPERIMENTS.key(data) for data in [encoded(), *others]}) == 5
