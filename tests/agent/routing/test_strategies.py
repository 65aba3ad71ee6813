"""Strategies with real processes: an agent, its serve child, a broker, and what the hub hears of an experiment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from agent_builders import (
    DEVICE,
    MODEL,
    AgentProcess,
    Broker,
    Bundle,
    HubKey,
    MiniHub,
    call,
    infer_body,
    make_bundle,
    make_desired,
    wait_for,
)

from edgewise.wire.control import Desired
from edgewise.wire.experiment import AB, CanaryRequests, Policy, Shadow
from edgewise_agent.serving.routing.choose import choose

INFER = f"/v2/models/{MODEL}/infer"
FEEDBACK = f"/v2/models/{MODEL}/feedback"
N = 40


@pytest.fixture
def hub(key: HubKey, broker: Broker) -> Iterator[MiniHub]:
    hub = MiniHub(key, broker)
    yield hub
    hub.close()


@pytest.fixture
def agent(tmp_path: Path, key: HubKey, broker: Broker) -> Iterator[AgentProcess]:
    agent = AgentProcess(tmp_path / "agent", key, broker.url)
    agent.start()
    yield agent
    agent.stop()


def experiment(generation: int, active: Bundle, role: str, other: Bundle, policy: Policy) -> Desired:
    """A desired state with an install beside the active one."""
    desired = make_desired(generation, active)
    wish = desired.models[MODEL]
    wish = msgspec.structs.replace(wish, duties={**wish.duties, role: other.duty}, policy=policy)  # type: ignore[dict-item]
    return msgspec.structs.replace(desired, models={MODEL: wish})


def ask(agent: AgentProcess, request: str, key: str | None = None) -> dict[str, object]:
    more = {} if key is None else {"parameters": {"key": key}}
    status, answer = call(agent.url + INFER, infer_body(id=request, **more))
    assert status == 200, answer
    return {**answer.get("parameters", {}), "version": answer["model_version"]}


def begun(agent: AgentProcess) -> None:
    """Wait until the router is in the path: its answers name their arm."""

    def routed() -> bool:
        try:
            status, answer = call(agent.url + INFER, infer_body(id="is-it-on", parameters={"key": "nobody"}))
        except OSError:  # one serve child is gone, the next does not listen yet
            return False
        return status == 200 and "arm" in answer.get("parameters", {})

    wait_for(routed, "the experiment has begun")


def test_an_ab_test_shares_by_key_and_reports_each_arm(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    first, second = make_bundle(key, 1), make_bundle(key, 2)
    policy = AB(experiment="ab-1", weight=0.5)
    hub.publish(experiment(1, first, "candidate", second, policy), first, second)
    wait_for(lambda: hub.runs(first), "the active one is confirmed")
    begun(agent)
    expected = {"active": 0, "candidate": 0}
    for i in range(N):
        user = f"user-{i % 10}"
        arm = choose(policy, request="", key=user, device=DEVICE)
        expected[arm] += 1
        got = ask(agent, f"r-{i}", user)
        assert (got["arm"], got["version"]) == (arm, "1" if arm == "active" else "2")
        assert call(agent.url + FEEDBACK, {"id": f"r-{i}", "label": 0})[0] == 204
    assert min(expected.values()) > 0
    wait_for(lambda: sum(arm.labelled for arm in hub.sums("ab-1").arms.values()) == N, "every label is reported")
    arms = hub.sums("ab-1").arms
    assert {role: arm.labelled for role, arm in arms.items()} == expected
    for role, arm in arms.items():
        assert arm.requests >= expected[role]
        assert sum(arm.confusion.values()) == sum(arm.confident.values()) == arm.labelled
        assert sum(arm.latency.values()) == arm.requests and arm.errors == 0
    assert {e.kind for e in hub.experiments.values()} == {"ab"}
    assert all(e.versions == {"active": 1, "candidate": 2} for e in hub.experiments.values())
    wait_for(lambda: not list((agent.data / "spool" / "experiment").glob("*.msg")), "trimmed by the ack")


def test_a_canary_by_requests_answers_the_share_that_the_draw_says(
    agent: AgentProcess, hub: MiniHub, key: HubKey
) -> None:
    first, second = make_bundle(key, 1), make_bundle(key, 2)
    policy = CanaryRequests(experiment="canary-1", share=0.3)
    hub.publish(experiment(1, first, "candidate", second, policy), first, second)
    begun(agent)
    arms = {f"r-{i}": choose(policy, request=f"r-{i}", key=None, device=DEVICE) for i in range(N)}
    assert len(set(arms.values())) == 2
    assert {request: ask(agent, request)["arm"] for request in arms} == arms


def test_a_shadow_is_compared_and_never_answers(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    first, second = make_bundle(key, 1), make_bundle(key, 2)
    hub.publish(experiment(1, first, "shadow", second, Shadow(experiment="shadow-1")), first, second)
    begun(agent)
    assert {str(ask(agent, f"r-{i}")["version"]) for i in range(N)} == {"1"}

    def seen() -> bool:
        sums = hub.sums("shadow-1")
        return sums.compared.compared + sums.compared.dropped >= N + 1

    wait_for(seen, "the shadow saw every request, or said that it did not")
    sums = hub.sums("shadow-1")
    assert sums.compared.compared > 0
    assert sum(sums.compared.distance.values()) == sums.compared.compared == sums.arms["shadow"].requests
    assert 0 not in sums.compared.distance, "two models with other weights are apart"


def test_a_candidate_that_does_not_load_costs_itself_only(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    first, broken = make_bundle(key, 1), make_bundle(key, 2, model_bytes=b"no model")
    hub.publish(experiment(1, first, "candidate", broken, AB(experiment="ab-2")), first, broken)
    wait_for(lambda: "failed" in hub.steps(broken), "the candidate is reported as failed")
    assert hub.runs(first)
    assert ask(agent, "r-1") == {"version": "1"}


def test_after_a_crash_the_active_serves_and_the_experiment_is_dropped_at_the_third(
    agent: AgentProcess, hub: MiniHub, key: HubKey
) -> None:
    first, second = make_bundle(key, 1), make_bundle(key, 2)
    hub.publish(experiment(1, first, "candidate", second, AB(experiment="ab-3")), first, second)
    for _ in range(3):
        begun(agent)
        os.kill(agent.serve_pid(), signal.SIGKILL)
        wait_for(lambda: _serves(agent), "the active one serves again")
    wait_for(lambda: "failed" in hub.steps(second), "the candidate is given up")
    assert "failed" not in hub.steps(first) and hub.runs(first)
    assert ask(agent, "r-1") == {"version": "1"}


def _serves(agent: AgentProcess) -> bool:
    try:
        return call(agent.url + INFER, infer_body())[0] == 200
    except OSError:  # the child that listened is gone, the next one does not listen yet
        return False
