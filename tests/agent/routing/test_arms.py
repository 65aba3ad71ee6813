"""Two installs of one model in this process: who runs when, and what is counted where one of them fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_builders import SIDE, HubKey, make_bundle, wait_for
from oip_builders import opened, served

from edgewise.wire.experiment import Arm, Interleave, Shadow
from edgewise.wire.quality import Quality
from edgewise_agent.runtimes import Arrays, Runtime
from edgewise_agent.serving.inference import InferenceFailed, Request, ServedModel
from edgewise_agent.serving.quality import InputRefused
from edgewise_agent.serving.routing.arms import Arms, arms_of
from edgewise_agent.serving.routing.interleaving import Interleaving
from edgewise_agent.serving.routing.shadowing import Shadowing

GOOD = np.full((1, 1, SIDE, SIDE), 0.5, np.float32)
MIX = Interleave(experiment="mix", output="scores")


class Noting:
    """A runtime that notes when it is used, and waits for ``gate`` where there is one."""

    def __init__(self, inside: Runtime, name: str, notes: list[str], gate: threading.Event | None = None) -> None:
        self._inside, self._name, self._notes, self._gate = inside, name, notes, gate
        self.version, self.describe = inside.version, inside.describe

    def infer(self, inputs: Arrays) -> Arrays:
        if self._gate is not None:
            assert self._gate.wait(60)
        self._notes.append(self._name)
        return self._inside.infer(inputs)


@pytest.fixture
def notes() -> list[str]:
    return []


def install(key: HubKey, folder: Path, version: int, notes: list[str], gate: Any = None, **options: Any) -> ServedModel:
    model = opened(folder / str(version), make_bundle(key, version, **options))
    return served(replace(model, runtime=Noting(model.runtime, f"v{version}", notes, gate)))


def pair(policy: Any, active: ServedModel, other: ServedModel) -> Arms:
    other.role, other.feedback = "shadow" if isinstance(policy, Shadow) else "candidate", active.feedback
    arms = arms_of(policy, active, other, "cam-1")
    arms.begin()
    return arms


def told(arms: Arms) -> dict[str, Arm]:
    """Everything that was counted, by role."""
    found = arms.recorder.poll(time.monotonic(), time.time())
    return {} if found is None else dict(found[2].arms)


@pytest.fixture
def mix(key: HubKey, tmp_path: Path, notes: list[str]) -> Iterator[tuple[Interleaving, Arms]]:
    arms = pair(MIX, install(key, tmp_path, 1, notes), install(key, tmp_path, 2, notes))
    yield Interleaving(MIX, arms), arms


def test_a_coin_says_which_of_two_rankers_runs_first(mix: tuple[Interleaving, Arms], notes: list[str]) -> None:
    strategy, _ = mix
    n = 200
    for number in range(n):
        assert strategy.answer(Request(f"r{number}", {"image": GOOD})).parameters["arm"] == "interleaved"
    first = notes[::2]
    assert sorted(notes) == ["v1"] * n + ["v2"] * n
    assert 0.35 * n < first.count("v2") < 0.65 * n, "each finds the inputs cold as often as the other"
    notes.clear()
    for number in range(n):
        strategy.answer(Request(f"r{number}", {"image": GOOD}))
    assert notes[::2] == first, "a request that is sent again is run again as it was"


def test_what_the_application_does_wrong_speaks_of_no_arm_whoever_runs_first(mix: tuple[Interleaving, Arms]) -> None:
    strategy, arms = mix
    for number in range(20):
        with pytest.raises(InputRefused):
            strategy.answer(Request(f"r{number}", {"image": GOOD * np.nan}))
    assert told(arms) == {}


@pytest.mark.parametrize("wrong", ["fails", "refuses"])
def test_a_candidate_that_fails_costs_itself_alone_whoever_runs_first(
    key: HubKey, tmp_path: Path, notes: list[str], wrong: str
) -> None:
    other = install(key, tmp_path, 2, notes, nan_above=True) if wrong == "fails" else install(key, tmp_path, 2, notes)
    arms = pair(MIX, install(key, tmp_path, 1, notes), other)
    outside = GOOD * (18 if wrong == "fails" else 6)
    if wrong == "refuses":
        other.checker.policy = Quality(out_of_bounds="refuse")
    else:
        with pytest.raises(InferenceFailed):
            other.answer_alone(Request("alone", {"image": outside}))
    strategy = Interleaving(MIX, arms)
    for number in range(20):
        assert strategy.answer(Request(f"r{number}", {"image": outside})).parameters["arm"] == "active"
    found = told(arms)
    assert (found["active"].requests, found["active"].errors) == (20, 0)
    assert (found["candidate"].requests, found["candidate"].errors) == (20, 20)


def test_a_label_that_comes_before_the_shadow_ran_counts_for_both(
    key: HubKey, tmp_path: Path, notes: list[str]
) -> None:
    gate, policy = threading.Event(), Shadow(experiment="shadow")
    active = install(key, tmp_path, 1, notes)
    arms = pair(policy, active, install(key, tmp_path, 2, notes, gate))
    strategy = Shadowing(policy, arms)
    try:
        for number in range(3):
            strategy.answer(Request(f"r{number}", {"image": GOOD}))
            assert active.label(f"r{number}", 0, lambda taken: None) == "counted"
        assert notes == ["v1"] * 3, "the shadow ran nothing yet"
        gate.set()
        found: dict[str, Arm] = {}

        def labelled() -> bool:
            for role, arm in told(arms).items():
                before = found.get(role, Arm())
                found[role] = Arm(labelled=before.labelled + arm.labelled, requests=before.requests + arm.requests)
            return found.get("shadow", Arm()).labelled == 3

        wait_for(labelled, "its labels count")
        assert found["active"].labelled == 3
    finally:
        gate.set()
        strategy.close()
