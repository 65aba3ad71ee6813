"""Interleaving against simulated users: equal rankers are even, a better one wins, by the agent's own drafts."""

from __future__ import annotations

import math
import random

import pytest
from fleets import plan, run

from edgewise.wire.experiment import Arm, Sums
from edgewise_agent.serving.routing.interleave import Draft, team_draft, winner

ITEMS = 8


def clicks(draft: Draft, relevant: set[int], rng: random.Random) -> list[int]:
    """A user who looks less the lower an item stands, and clicks what is relevant more often."""
    return [
        place
        for place, item in enumerate(draft.items)
        if rng.random() < 0.9**place and rng.random() < (0.6 if item in relevant else 0.1)
    ]


def window(rng: random.Random, lift: float) -> Sums:
    """Thirty rankings; with probability ``lift`` the candidate knows what is relevant."""
    won = {"active": 0, "candidate": 0, None: 0}
    for _ in range(30):
        relevant = set(rng.sample(range(ITEMS), 2))
        active, candidate = rng.sample(range(ITEMS), ITEMS), rng.sample(range(ITEMS), ITEMS)
        if rng.random() < lift:
            candidate.sort(key=lambda item: item not in relevant)
        draft = team_draft(active, candidate, lambda: rng.random() < 0.5)
        teams = [draft.teams[place] for place in clicks(draft, relevant, rng)]
        if teams:
            won[winner(teams.count("active"), teams.count("candidate"))] += 1
    arms = {
        role: Arm(requests=30, wins=won[role], clicks=won[role], latency={20: 30}) for role in ("active", "candidate")
    }
    return Sums(arms=arms, ties=won[None])  # type: ignore[arg-type]


def test_equal_rankers_are_even_and_seldom_named() -> None:
    found, wrong, runs = [], 0, 30
    for seed in range(runs):
        rng = random.Random(seed)
        made = plan({"kind": "interleave", "output": "scores"}, min_samples=50, margin=1e-6)
        last = run(made, 5, 12, lambda _device, rng=rng: window(rng, 0.0))[-1]
        wrong += last.verdict == "candidate-wins" or last.verdict == "control-wins"
        assert last.effect is not None
        found.append(last.effect)
    mean = sum(found) / runs
    error = math.sqrt(sum((each - mean) ** 2 for each in found)) / runs
    assert abs(mean) < 5 * error and error < 0.02
    assert wrong <= runs * 0.05 + 5 * math.sqrt(runs * 0.05 * 0.95)


def test_a_better_ranker_wins() -> None:
    rng = random.Random(5)
    last = run(plan({"kind": "interleave", "output": "scores"}), 5, 60, lambda _device: window(rng, 0.7))[-1]
    assert last.verdict == "candidate-wins", last.reason
    assert last.effect is not None and last.effect > 0.1 and "wins a request" in last.reason
    assert last.items["credited"] == pytest.approx(last.n * 20, rel=0.6)
