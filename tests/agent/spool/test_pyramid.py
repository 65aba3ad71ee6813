"""What is merged: as little as makes room, the oldest most, one key at a time, one file at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgewise_agent.windows.pyramid import GRAINS, Item, plan

ITEMS = st.lists(
    st.lists(st.builds(Item, st.sampled_from(["a", "b", None]), st.integers(1, 50)), min_size=1, max_size=30),
    max_size=8,
)


@given(ITEMS, st.integers(0, 200))
def test_each_item_is_in_one_group_of_its_key_and_file(files: list[list[Item]], target: int) -> None:
    planned = plan(files, target)
    if planned is None:
        return
    assert sum(map(len, planned)) < sum(map(len, files))
    newer = sum(item.width for items in files for item in items)
    for items, groups in zip(files, planned, strict=True):
        assert sorted(index for group in groups for index in group) == list(range(len(items)))
        assert groups == sorted(groups) and all(group == sorted(group) for group in groups)
        ages = []
        for item in items:
            newer -= item.width
            ages.append(newer)
        for group in groups:
            keys = {items[index].key for index in group}
            assert len(keys) == 1
            if len(group) > 1:
                assert keys != {None}
                assert sum(items[index].width for index in group) <= GRAINS[-1] * ages[group[-1]]


@given(ITEMS, st.integers(0, 200), st.integers(0, 200))
def test_more_room_never_merges_less(files: list[list[Item]], a: int, b: int) -> None:
    low, high = sorted((a, b))
    few, many = plan(files, low), plan(files, high)
    count = sum(map(len, files))
    assert sum(map(len, few or files)) <= sum(map(len, many or files)) <= count


def test_the_target_is_met_where_it_can_be_and_hardly_more_is_merged() -> None:
    files = [[Item("a", 1)] * 100 for _ in range(10)]
    planned = plan(files, 700)
    assert planned is not None and 350 <= sum(map(len, planned)) <= 700
    assert len(planned[0]) < len(planned[-1]), "the oldest lose more"
    assert plan([[Item(None, 1)] * 50], 10) is None
    assert plan([], 0) is None
