"""Drift is seen in the group that drifted, and in no other; and where in the embedding space."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.e2e

GROUPS = ["district-a", "district-b", "district-c"]
UNDRIFTED_RUNS = 5


def test_drift_is_found_in_the_right_group_and_nowhere_in_five_undrifted_runs(new_world, models, good):
    world = new_world(window_s=0.5)
    for group in GROUPS:
        world.join(f"camera-{group[-1]}", group=group)
    world.roll_out(good)

    def judged(group):
        current = world.client.drift.show(model="clusters", group=group)[0].current
        return (current.span_end, current) if current and current.verdict != "wait" else None

    def run(seed, shift_in=None, often_in=None):
        """Feed 400 inputs a group, shifted in one, half of them of class 2 in another; give each group's next
        judgement."""
        before = {group: (judged(group) or (0.0, None))[0] for group in GROUPS}
        for offset, group in enumerate(GROUPS):
            inputs, labels = models.draw(2000, seed=1000 * seed + offset, shift=0.6 if group == shift_in else 0.0)
            if group == often_in:
                inputs = np.stack([inputs[labels == 2][:400], inputs[labels != 2][:400]], axis=1).reshape(800, -1)
            for i in range(0, 400, 8):
                status, _ = world.agents[f"camera-{group[-1]}"].infer("clusters", inputs[i : i + 8].tolist())
                assert status == 200

        def newer(group):
            found = judged(group)
            return found[1] if found and found[0] > before[group] else None

        return {group: world.until(f"{group} is judged", lambda g=group: newer(g)) for group in GROUPS}

    for seed in range(UNDRIFTED_RUNS):
        verdicts = {group: judgement.verdict for group, judgement in run(seed).items()}
        assert set(verdicts.values()) == {"quiet"}, verdicts
    assert world.client.alerts.list(open=True) == []

    judgements = run(99, shift_in="district-b")
    assert judgements["district-b"].verdict in ("drift", "harmful"), judgements["district-b"].words
    assert judgements["district-a"].verdict == judgements["district-c"].verdict == "quiet"
    alert = world.until("an alert opens", lambda: next(iter(world.client.alerts.list(open=True)), None))
    assert alert.group == "district-b"

    grown = run(100, often_in="district-c")["district-c"]
    assert grown.verdict == "label-shift", grown.words
    most = max(grown.clusters, key=lambda cluster: cluster.share - cluster.reference)
    assert most.share > 1.3 * most.reference and most.classes[0][0] == 2, "the place in the embedding space is named"
    assert next(one for one in grown.changed if one.index == 2).share > 0.4
