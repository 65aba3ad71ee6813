"""What must hold of every decision, whatever the evidence."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgewise_hub.rollouts.advance import RolloutState, advance
from edgewise_hub.rollouts.gates import DeviceEvidence, Evidence, Latencies, Mix, Outcomes
from edgewise_hub.rollouts.plan import Gates, Plan, Stage

HISTOGRAMS = st.lists(st.integers(0, 400), min_size=10, max_size=10).map(lambda c: np.array(c, dtype=np.int64))
LATENCIES = st.lists(st.integers(0, 50), min_size=64, max_size=64).map(lambda c: np.array(c, dtype=np.int64))
DEVICES = st.lists(
    st.builds(
        DeviceEvidence,
        device=st.sampled_from(["a", "b", "c"]),
        stage=st.integers(0, 2),
        state=st.sampled_from(["pending", "downloading", "trial", "confirmed", "failed"]),
        online=st.booleans(),
    ),
    max_size=6,
)
EVIDENCE = st.builds(
    Evidence,
    devices=DEVICES,
    fresh=st.integers(0, 2000),
    has_before=st.booleans(),
    new=st.builds(Outcomes, answered=st.integers(0, 2000), bad=st.integers(0, 100)),
    old=st.builds(Outcomes, answered=st.integers(0, 2000), bad=st.integers(0, 100)),
    latency=st.dictionaries(st.sampled_from(["p", "q"]), st.builds(Latencies, new=LATENCIES, old=LATENCIES)),
    mix=st.builds(Mix, new=st.none() | HISTOGRAMS, rest=st.none() | HISTOGRAMS, before=st.none() | HISTOGRAMS),
)
GATES = st.builds(
    Gates,
    install_failures=st.floats(0, 1),
    errors=st.none() | st.floats(0, 1),
    latency_ratio=st.none() | st.floats(0.1, 5),
    mix_distance=st.none() | st.floats(0.01, 1),
    min_inferences=st.integers(0, 500),
    soak=st.floats(0, 50),
    deadline=st.floats(51, 100),
)


@st.composite
def rollouts(draw: st.DrawFn) -> RolloutState:
    stages = draw(st.integers(1, 3))
    stage = draw(st.integers(0, stages - 1))
    return RolloutState(
        plan=Plan(stages=[Stage(percent=100)] * stages, gates=draw(GATES)),
        stage=stage,
        next_stage=draw(st.none() | st.integers(stage + 1, stages - 1)) if stage < stages - 1 else None,
        stage_started_at=1000.0,
        installed_at=draw(st.none() | st.floats(1000, 1050)),
    )


@given(rollouts(), EVIDENCE, st.floats(1000, 1200))
def test_every_decision_keeps_the_rules(rollout: RolloutState, evidence: Evidence, now: float) -> None:
    decision = advance(rollout, evidence, now)
    states = {reading.gate: reading.state for reading in decision.gates}
    late = now >= rollout.stage_started_at + rollout.plan.gates.deadline
    assert list(states) == ["install", "errors", "latency", "mix"]
    assert decision.reason and all(reading.words for reading in decision.gates)
    assert (decision.verdict == "stop") == ("fail" in states.values())
    if decision.verdict in ("continue", "complete"):
        assert set(states.values()) <= {"pass", "off"}
        assert decision.installed_at is not None
        assert now >= decision.installed_at + rollout.plan.gates.soak
    if decision.verdict == "continue":
        assert rollout.stage < decision.stage == rollout.next_stage < len(rollout.plan.stages)
    else:
        assert decision.stage == rollout.stage
    assert (decision.verdict == "complete") <= (rollout.next_stage is None)
    assert (decision.verdict == "pause") <= (late and "wait" in states.values())
    if late:
        assert states["install"] in ("pass", "fail"), "a stage does not wait for its devices for ever"
        assert not (decision.verdict == "hold" and "wait" in states.values())


def state(**changes: object) -> RolloutState:
    gates = Gates(
        install_failures=0.0,
        errors=0.01,
        latency_ratio=None,
        mix_distance=None,
        min_inferences=100,
        soak=20.0,
        deadline=60.0,
    )
    values = {
        "plan": Plan(stages=[Stage(count=1), Stage(percent=100)], gates=gates),
        "stage": 0,
        "next_stage": 1,
        "stage_started_at": 1000.0,
    }
    return RolloutState(**{**values, **changes})  # type: ignore[arg-type]


def seen(bad: int = 0, answered: int = 0, device: str = "confirmed") -> Evidence:
    return Evidence(
        devices=[DeviceEvidence(device="a", stage=0, state=device, online=True)],  # type: ignore[arg-type]
        fresh=answered,
        new=Outcomes(answered=answered, bad=bad),
    )


def test_a_stage_from_its_start_to_the_next() -> None:
    assert advance(state(), seen(device="pending"), 1001).verdict == "hold"
    installed = advance(state(), seen(), 1005)
    assert (installed.verdict, installed.installed_at) == ("hold", 1005)
    soaking = advance(state(installed_at=1005.0), seen(answered=150), 1024)
    assert soaking.verdict == "hold" and "soaking" in soaking.reason
    over = advance(state(installed_at=1005.0), seen(answered=150), 1025)
    assert (over.verdict, over.stage) == ("continue", 1)
    last = advance(state(installed_at=1005.0, stage=1, next_stage=None), seen(answered=150), 1025)
    assert last.verdict == "complete"


def test_a_failing_gate_stops_at_once_and_the_reason_has_its_numbers() -> None:
    decision = advance(state(), seen(bad=30, answered=70), 1001)
    assert decision.verdict == "stop"
    assert "errors: 30 of 100" in decision.reason


def test_no_answer_in_time_is_for_a_person_and_no_install_in_time_is_a_stop() -> None:
    assert advance(state(installed_at=1005.0), seen(answered=5), 1060).verdict == "pause"
    assert advance(state(), seen(device="pending"), 1060).verdict == "stop"
