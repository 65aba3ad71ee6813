"""Routing's pure part: shares hold, choices are sticky, interleaving is fair, comparisons are right."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.wire.experiment import AB, DISTANCE_BINS, CanaryRequests, Escalate, Interleave, Policy, Shadow, draw
from edgewise_agent.serving.routing.choose import choose, mirrored
from edgewise_agent.serving.routing.compare import compare, distance_bin
from edgewise_agent.serving.routing.interleave import Draft, Team, ranked_scores, ranking, team_draft, winner

N = 20_000
BOUND = 5.5
"""Standard errors that a share may be off: a false failure at p < 4e-8; seeds and names are fixed besides."""


def within(count: int, share: float) -> bool:
    return abs(count - N * share) <= BOUND * math.sqrt(N * share * (1 - share))


@pytest.mark.parametrize("weight", [0.05, 0.5, 0.8])
def test_ab_by_key_holds_its_weight_and_sticks(weight: float) -> None:
    policy = AB(experiment="ab", weight=weight)
    first = [choose(policy, request=f"r{i}", key=f"user{i}", device="d") for i in range(N)]
    again = [choose(policy, request=f"other{i}", key=f"user{i}", device="e") for i in range(N)]
    assert first == again, "neither request nor device matters"
    assert within(first.count("candidate"), weight)


def test_the_difference_of_the_arms_is_unbiased_over_draws() -> None:
    """Users differ, and each asks often: the draw of users alone decides how far an estimate is off."""
    rng = np.random.default_rng(3)
    accuracy, gain, estimates = rng.uniform(0.3, 0.8, 200), 0.1, []
    for salt in range(400):
        policy = AB(experiment="ab", weight=0.3, salt=str(salt))
        arms = [choose(policy, request="r", key=f"user{i}", device="d") for i in range(len(accuracy))]
        theirs = np.array([arm == "candidate" for arm in arms])
        estimates.append(accuracy[theirs].mean() + gain - accuracy[~theirs].mean())
    error = np.std(estimates) / math.sqrt(len(estimates))
    assert abs(np.mean(estimates) - gain) <= BOUND * error


def test_experiments_draw_apart() -> None:
    """Who was a candidate in one experiment is as often one in the next."""
    first, second = AB(experiment="a"), AB(experiment="b")
    both = sum(
        choose(first, request="r", key=f"u{i}", device="d") == choose(second, request="r", key=f"u{i}", device="d")
        for i in range(N)
    )
    assert within(both, 0.5)


def test_ab_by_device_gives_one_device_one_arm() -> None:
    policy = AB(experiment="ab", by="device")
    assert len({choose(policy, request=f"r{i}", key=f"u{i}", device="cam-1") for i in range(100)}) == 1
    arms = [choose(policy, request="r", key=None, device=f"cam-{i}") for i in range(N)]
    assert within(arms.count("candidate"), 0.5)
    by_key = AB(experiment="ab", by="key")
    assert arms == [choose(by_key, request="r", key=None, device=f"cam-{i}") for i in range(N)]


def test_canary_and_shadow_hold_their_share_of_requests() -> None:
    canary, shadow = CanaryRequests(experiment="c", share=0.1), Shadow(experiment="s", share=0.3)
    assert within(sum(choose(canary, request=f"r{i}", key="k", device="d") == "candidate" for i in range(N)), 0.1)
    assert within(sum(mirrored(shadow, request=f"r{i}") for i in range(N)), 0.3)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all_are_exact(share: float) -> None:
    policy = CanaryRequests(experiment="c", share=share)
    chosen = {choose(policy, request=f"r{i}", key=None, device="d") for i in range(1000)}
    assert chosen == {"candidate" if share else "active"}
    assert {mirrored(Shadow(experiment="s", share=share), request=f"r{i}") for i in range(1000)} == {bool(share)}


@pytest.mark.parametrize(
    "policy",
    [
        None,
        Shadow(experiment="s"),
        Interleave(experiment="i", output="scores"),
        Escalate(experiment="e", threshold=0.5, url="https://server.example", model="big"),
    ],
)
def test_without_arms_active_answers(policy: Policy | None) -> None:
    assert {choose(policy, request=f"r{i}", key=f"k{i}", device="d") for i in range(100)} == {"active"}
    if not isinstance(policy, Shadow):
        assert not mirrored(policy, request="r")


ITEMS = st.lists(st.integers(0, 30), unique=True, max_size=20)


@given(ITEMS, ITEMS, st.integers(0, 2**32))
def test_a_draft_shows_each_item_once_and_balances_the_teams(a: list[int], b: list[int], seed: int) -> None:
    rng = random.Random(seed)
    draft = team_draft(a, b, lambda: rng.random() < 0.5)
    assert sorted(draft.items) == sorted({*a, *b}) and len(draft.items) == len(draft.teams)
    for team, own in (("active", a), ("candidate", b)):
        picked = [item for item, of in zip(draft.items, draft.teams, strict=True) if of == team]
        assert picked == [item for item in own if item in picked], "a team keeps its ranker's order"
    if set(a) == set(b):
        for n in range(len(draft.teams) + 1):
            assert abs(2 * draft.teams[:n].count("active") - n) <= 1


def clicks_of(draft: Draft, relevant: set[int], rng: random.Random) -> list[int]:
    """A user who looks less the lower an item stands, and clicks what is relevant more often."""
    return [
        place
        for place, item in enumerate(draft.items)
        if rng.random() < 0.9**place and rng.random() < (0.6 if item in relevant else 0.1)
    ]


def credited(draft: Draft, places: list[int]) -> Team | None:
    teams = [draft.teams[place] for place in places]
    return winner(teams.count("active"), teams.count("candidate"))


def wins(better: bool) -> tuple[int, int]:
    rng, won = random.Random(7), {"active": 0, "candidate": 0, None: 0}
    for _ in range(N):
        relevant = set(rng.sample(range(10), 3))
        a, b = rng.sample(range(10), 10), rng.sample(range(10), 10)
        if better:
            b.sort(key=lambda item: item not in relevant)
        draft = team_draft(a, b, lambda: rng.random() < 0.5)
        won[credited(draft, clicks_of(draft, relevant, rng))] += 1
    return won["active"], won["candidate"]


def test_equal_rankers_win_equally_often_and_a_better_one_more() -> None:
    active, candidate = wins(better=False)
    decided = active + candidate
    assert decided > N / 2
    assert abs(active - decided / 2) <= BOUND * math.sqrt(decided) / 2
    active, candidate = wins(better=True)
    assert candidate > 1.2 * active


def test_more_clicks_win_and_as_many_tie() -> None:
    assert (winner(2, 1), winner(0, 1), winner(1, 1), winner(0, 0)) == ("active", "candidate", None, None)


def test_interleaving_is_unbiased_with_the_coins_of_requests() -> None:
    """Equal rankers, a user who looks at the top first, and coins as the agent draws them."""
    policy, rng = Interleave(experiment="i", output="scores"), random.Random(11)
    won: dict[Team | None, int] = {"active": 0, "candidate": 0, None: 0}
    for i in range(N // 4):
        ranks = [rng.sample(range(8), 8) for _ in range(2)]
        rounds = iter(range(8))
        draft = team_draft(*ranks, lambda i=i, rounds=rounds: draw(policy, f"r{i}\0{next(rounds)}") < 0.5)
        won[credited(draft, clicks_of(draft, set(rng.sample(range(8), 3)), rng))] += 1
    decided = won["active"] + won["candidate"]
    assert decided > 1000 and abs(won["active"] - decided / 2) <= BOUND * math.sqrt(decided) / 2


def test_rankings_of_scores() -> None:
    assert ranking(np.array([[0.1, 0.9, 0.5, 0.9]], np.float32)) == [1, 3, 2, 0]
    assert ranking(np.array([3.0, 1, 2])) == [0, 2, 1]
    for scores in (np.zeros((2, 3)), np.zeros(2000), np.array([3, 1, 2])):
        with pytest.raises(ValueError, match="expected scores"):
            ranking(scores)


@given(st.lists(st.sampled_from([0.0, 0.25, 1.0, -3.5]), min_size=1, max_size=12), st.integers(0, 2**32))
def test_whoever_sorts_the_answer_gets_the_draft(values: list[float], seed: int) -> None:
    rng = random.Random(seed)
    for dtype in (np.float16, np.float32, np.float64):
        scores = np.array([values], dtype)
        items = list(range(len(values)))
        draft = team_draft(ranking(scores), rng.sample(items, len(items)), lambda: rng.random() < 0.5)
        dealt = ranked_scores(scores, draft)
        assert dealt.dtype == dtype and dealt.shape == scores.shape
        assert ranking(dealt) == list(draft.items)
        assert len(np.unique(dealt)) == len(values), "no two are equal: any sort will do"


def test_comparison_counts_agreement_and_distance() -> None:
    a = np.array([[3.0, 0.0], [0.0, 4.0]])
    found = compare(a, np.array([[3.0, 0.0], [4.0, 0.0]], np.float32))
    assert found is not None and (found.items, found.agreed, found.max_abs) == (2, 1, 4.0)
    assert found.relative == pytest.approx(math.sqrt(32) / 5)
    assert compare(a, a[:1]) is None and compare(a, np.full((2, 2), np.nan)) is None
    zero = compare(np.zeros((1, 2)), np.ones((1, 2)))
    assert zero is not None and zero.relative == math.inf


def test_distance_bins_rise_with_the_distance() -> None:
    octaves = [2.0**e for e in range(-24, 7)]
    assert [distance_bin(x) for x in octaves] == [min(DISTANCE_BINS - 1, 1 + i) for i in range(len(octaves))]
    assert distance_bin(0.0) == 0 and distance_bin(2.0**-25) == 0
    assert distance_bin(1e30) == distance_bin(math.inf) == DISTANCE_BINS - 1
