"""Stages are drawn by a hash: nobody's choice, the same for ever, and only growing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgewise_hub.rollouts.draw import assign, next_stage, place, sizes, stage_of_late
from edgewise_hub.rollouts.plan import Stage

STAGES = st.lists(
    st.one_of(
        st.builds(Stage, count=st.integers(1, 60)),
        st.builds(Stage, percent=st.floats(0.01, 100)),
    ),
    min_size=1,
    max_size=6,
)
DEVICES = st.integers(1, 80).map(lambda n: [f"cam-{i}" for i in range(n)])


@given(STAGES, DEVICES)
def test_stages_grow_and_the_last_reaches_every_device(stages: list[Stage], devices: list[str]) -> None:
    reached = sizes(stages, len(devices))
    assert reached == sorted(reached)
    assert reached[0] >= 1
    assert reached[-1] == len(devices)
    for stage, size in zip(stages[:-1], reached[:-1], strict=True):
        if stage.count is not None:
            assert size >= min(stage.count, len(devices))
        else:
            assert size * 100 >= (stage.percent or 0) * len(devices)


@given(STAGES, DEVICES, st.text(max_size=8))
def test_every_device_has_a_stage_and_they_fill_in_the_order_of_the_draw(
    stages: list[Stage], devices: list[str], rollout: str
) -> None:
    places = {device: place(rollout, device) for device in devices}
    assigned = assign(stages, places)
    assert set(assigned) == set(devices)
    reached = sizes(stages, len(devices))
    for index, size in enumerate(reached):
        assert sum(stage <= index for stage in assigned.values()) == size
    ordered = sorted(devices, key=lambda device: (places[device], device))
    assert [assigned[device] for device in ordered] == sorted(assigned.values())


def test_one_then_a_quarter_then_all() -> None:
    assert sizes([Stage(count=1), Stage(percent=25), Stage(percent=100)], 12) == [1, 3, 12]
    assert sizes([Stage(count=1), Stage(percent=25), Stage(percent=100)], 1) == [1, 1, 1]


def test_places_are_uniform_over_devices_and_over_rollouts() -> None:
    over_devices = [place("rollout", f"cam-{i}") for i in range(2000)]
    over_rollouts = [place(f"rollout-{i}", "cam") for i in range(2000)]
    for drawn in (over_devices, over_rollouts):
        assert all(0 <= value < 1 for value in drawn)
        assert stats.kstest(drawn, "uniform").pvalue > 1e-3


def test_the_canary_changes_from_rollout_to_rollout() -> None:
    devices = [f"cam-{i}" for i in range(10)]
    canaries = {min(devices, key=lambda device: place(f"r{i}", device)) for i in range(100)}
    assert canaries == set(devices)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4)), max_size=20), st.floats(0, 1), st.integers(0, 4))
def test_who_joins_later_waits_for_a_stage_that_has_not_begun(
    drawn: list[tuple[float, int]], own: float, current: int
) -> None:
    stage = stage_of_late(own, drawn, current, 4)
    if current == 4:
        assert stage is None
    else:
        assert stage is not None and current < stage <= 4
        reached = [s for other, s in drawn if other >= own and s > current]
        assert stage <= min(reached, default=4)


def test_a_stage_that_reaches_nobody_new_is_passed_over() -> None:
    assert next_stage({0, 2}, 0, 2) == 2
    assert next_stage({0}, 0, 2) is None
