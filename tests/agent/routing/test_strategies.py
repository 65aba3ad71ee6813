"""Strategies with real processes: an agent, its serve child, a broker, and what the hub hears of an experiment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from agent_builders import (
    CLASSES,
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
from oip_builders import opened, served, serving

from edgewise.sketch import SketchSpec, WindowSketches
from edgewise.wire.codec import decode_json
from edgewise.wire.control import Desired
from edgewise.wire.experiment import AB, CanaryRequests, Escalate, Interleave, Policy, Shadow
from edgewise.wire.windows import Counters, Window
from edgewise_agent.serving.routing.choose import choose
from edgewise_agent.serving.routing.interleave import ranking

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
        alone = len(psutil.Process(agent.process.pid).children()) == 1  # its predecessor may still be asked
        return status == 200 and "arm" in answer.get("parameters", {}) and alone

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

    def told() -> list[Window]:
        return [window for window in list(hub.windows) if window.duty == "candidate"]

    wait_for(told, "what the candidate saw is a window of its own duty")
    assert all(window.version == 2 and window.bundle == second.digest for window in told())
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


def test_an_interleaved_answer_ranks_as_drafted_and_clicks_give_credit(
    agent: AgentProcess, hub: MiniHub, key: HubKey
) -> None:
    first, second = make_bundle(key, 1), make_bundle(key, 2)
    policy = Interleave(experiment="mix-1", output="scores")
    hub.publish(experiment(1, first, "candidate", second, policy), first, second)
    begun(agent)
    shown = [scores(agent, f"r-{i}") for i in range(N)]
    assert {parameters["arm"] for _, parameters in shown} == {"interleaved"}
    assert len({tuple(ranking(found)) for found, _ in shown}) > 1, "coins decide"
    assert np.array_equal(scores(agent, "r-1")[0], shown[1][0]), "a request that is sent again is drafted as it was"
    for i, (found, _) in enumerate(shown):
        assert call(agent.url + FEEDBACK, {"id": f"r-{i}", "clicks": [ranking(found)[0]]})[0] == 204
    assert call(agent.url + FEEDBACK, {"id": "r-1", "clicks": [CLASSES]})[0] == 400
    assert call(agent.url + FEEDBACK, {"id": "r-1", "clicks": [0], "label": 1})[0] == 400

    def settled() -> bool:
        sums = hub.sums("mix-1")
        return sums.ties + sum(arm.wins for arm in sums.arms.values()) == N

    wait_for(settled, "who was clicked on more has won, once a request")
    arms = hub.sums("mix-1").arms
    assert {role: (arm.clicks, arm.wins) for role, arm in arms.items()} == {
        role: (arm.wins, arm.wins) for role, arm in arms.items()
    }
    assert all(arm.wins > 0 for arm in arms.values()), "the first place is drawn"


def test_low_confidence_is_escalated_and_falls_back_on_the_local_answer(
    tmp_path: Path, hub: MiniHub, key: HubKey, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, large = make_bundle(key, 1), make_bundle(key, 2)
    with serving(served(opened(tmp_path / "server", large))) as server:
        monkeypatch.setenv("EDGEWISE_AGENT_SERVE_ESCALATE_TO", server)
        agent = AgentProcess(tmp_path / "agent", key, broker.url)
        agent.start()
        policy = Escalate(experiment="up-1", threshold=1.0, url=f"http://{server}/v2", model=MODEL, timeout_s=20)
        wish = make_desired(1, first).models[MODEL]
        wish = msgspec.structs.replace(wish, policy=policy)
        hub.publish(make_desired(1, first, models={MODEL: wish}), first)
        begun(agent)
        theirs = call(f"http://{server}{INFER}", infer_body())[1]["outputs"][0]["data"]
        escalated, parameters = scores(agent, "r-1")
        assert parameters["escalated"] is True and escalated.ravel().tolist() == theirs
    try:
        local, parameters = scores(agent, "r-2")
        assert parameters["escalated"] is False and local.ravel().tolist() != theirs
        wait_for(lambda: hub.sums("up-1").escalated.fallbacks >= 1, "the fallback is reported")
        told = hub.sums("up-1")
        assert told.escalated.answered >= 1 and told.escalated.bytes > 0
        assert told.arms["active"].requests >= told.escalated.answered + told.escalated.fallbacks
        assert call(agent.url + FEEDBACK, {"id": "r-1", "label": int(local.argmax())})[0] == 204
        wait_for(lambda: hub.sums("up-1").arms["active"].correct == 1, "a label is about the local answer")
    finally:
        agent.stop()


def test_labels_find_their_answers_after_a_crash_and_after_a_rollout(
    agent: AgentProcess, hub: MiniHub, key: HubKey
) -> None:
    first, second = make_bundle(key, 1), make_bundle(key, 2)
    hub.publish(make_desired(1, first), first)
    wait_for(lambda: hub.runs(first), "the first version is confirmed")
    best = int(scores(agent, "a")[0].argmax())
    scores(agent, "b")
    crash(agent)
    wait_for(lambda: _serves(agent), "another child serves")
    assert [call(agent.url + FEEDBACK, {"id": name, "label": best})[0] for name in ("a", "a", "never")] == [
        204,
        204,
        404,
    ]
    hub.publish(make_desired(2, second), second)
    wait_for(lambda: hub.runs(second), "the second version is confirmed")
    assert call(agent.url + FEEDBACK, {"id": "b", "label": best})[0] == 204

    def counted() -> Counters:
        told = [window.counters for window in list(hub.windows) if window.version == 1]
        return Counters(**{name: sum(getattr(one, name) for one in told) for name in Counters.__struct_fields__})

    wait_for(lambda: counted().labelled == 2, "both labels count for the version that answered")
    told = counted()
    assert (told.correct, told.late, told.repeated, told.unknown) == (2, 2, 1, 1)
    spec = decode_json(first.blobs[first.manifest.blobs["sketch"].sha256], SketchSpec)
    labels = [WindowSketches.decode(spec, window.sketches).labels for window in hub.windows if window.counters.labelled]
    assert sum(int(each.correct[best]) for each in labels if each is not None) == 2, "and say which class it was"
    assert all(window.counters.labelled == 0 for window in hub.windows if window.version == 2)


def test_a_candidate_that_does_not_load_costs_itself_only(agent: AgentProcess, hub: MiniHub, key: HubKey) -> None:
    first, broken = make_bundle(key, 1), make_bundle(key, 2, model_bytes=b"no model")
    hub.publish(experiment(1, first, "candidate", broken, AB(experiment="ab-2")), first, broken)
    wait_for(lambda: "failed" in hub.steps(broken), "the candidate is reported as failed")
    wait_for(lambda: hub.runs(first), "the active one serves, and is reported so")
    assert ask(agent, "r-1") == {"version": "1"}


def test_after_a_crash_the_active_serves_and_the_experiment_is_dropped_at_the_third(
    agent: AgentProcess, hub: MiniHub, key: HubKey
) -> None:
    first, second = make_bundle(key, 1), make_bundle(key, 2)
    hub.publish(experiment(1, first, "candidate", second, AB(experiment="ab-3")), first, second)
    for _ in range(3):
        begun(agent)
        crash(agent)
        wait_for(lambda: _serves(agent), "the active one serves again")
    wait_for(lambda: "failed" in hub.steps(second), "the candidate is given up")
    assert "failed" not in hub.steps(first) and hub.runs(first)
    assert ask(agent, "r-1") == {"version": "1"}


def scores(agent: AgentProcess, request: str) -> tuple[np.ndarray, dict[str, object]]:
    """The scores that a request is answered with, and what the answer says besides."""
    status, answer = call(agent.url + INFER, infer_body(id=request))
    assert status == 200, answer
    return np.array(answer["outputs"][0]["data"], np.float32)[None], answer.get("parameters", {})


def crash(agent: AgentProcess) -> None:
    """Every serve child dies: the one that serves, and one that was leaving just now."""
    for child in psutil.Process(agent.process.pid).children():
        child.kill()


def _serves(agent: AgentProcess) -> bool:
    try:
        return call(agent.url + INFER, infer_body())[0] == 200
    except OSError:  # the child that listened is gone, the next one does not listen yet
        return False
