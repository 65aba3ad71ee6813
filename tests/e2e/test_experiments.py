"""Every deployment strategy, from the hub's API to the devices' answers and back to a decision.

One world for all: two cameras that run a blurred version, and a third device with the good one, which is also the
server that is escalated to. Users send requests with a key, label what they see and click what they looked for.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter

import pytest

import edgewise

pytestmark = pytest.mark.e2e

MODEL, GOOD, BLURRED = "clusters", 1, 5
GATES = {"errors": None, "latency_ratio": None, "mix_distance": None, "deadline": 300}
QUICK = {"min_samples": 40, "block": 10, "guardrails": {"latency_ratio": None}}
"""Few items: the difference is large."""


class Users:
    """Requests to the cameras until stopped, each followed by what was seen. ``arms``: which arm answered each key."""

    def __init__(self, cameras, models):
        self.arms: dict[tuple[str, str], set[str]] = {}
        self.statuses: Counter[int] = Counter()
        self.escalated = 0
        self._inputs, self._labels = models.draw(4000, seed=7)
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._use, args=(camera,)) for camera in cameras]
        for thread in self._threads:
            thread.start()

    def _use(self, camera):
        path = f"/v2/models/{MODEL}"
        for i in range(10**9):
            if self._stop.is_set():
                return
            row, label = self._inputs[i % 4000].tolist(), int(self._labels[i % 4000])
            request, key = uuid.uuid4().hex, f"user-{i % 20}"
            body = {
                "id": request,
                "parameters": {"key": key},
                "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 16], "data": row}],
            }
            status, answer = camera.post(f"{path}/infer", body)
            with self._lock:
                self.statuses[status] += 1
                if status == 200:
                    parameters = answer.get("parameters", {})
                    self.escalated += bool(parameters.get("escalated"))
                    self.arms.setdefault((camera.name, key), set()).add(parameters.get("arm", "none"))
            if status == 200:
                camera.post(f"{path}/feedback", {"id": request, "label": label})
                if parameters.get("arm") == "interleaved":
                    camera.post(f"{path}/feedback", {"id": request, "clicks": [label]})
            self._stop.wait(0.005)

    def forget(self):
        """Begin to count anew."""
        with self._lock:
            self.arms, self.escalated = {}, 0

    def stop(self):
        """No further request."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def world(tmp_path_factory, worlds_module, template, models):
    folder = tmp_path_factory.mktemp("experiments")
    with (
        pytest.MonkeyPatch.context() as patch,
        worlds_module.world(folder, template, window_s=0.5, trial_s=0.2) as world,
    ):
        patch.setenv("EDGEWISE_AGENT_SERVE_ESCALATE_TO", "127.0.0.1")
        world.start_hub()
        model, data = models.write(folder, "blurred", blur=0.3)
        assert world.client.models.register_onnx(MODEL, model, data).version == BLURRED
        job = world.client.compile(MODEL, BLURRED, ["linux-x86-64"])
        world.join("camera-1", "camera-2", group="cameras")
        world.join("server-1", group="servers")
        done = world.client.jobs.wait(job.id)
        assert done.state == "done", done.error
        rollouts = [
            world.client.rollouts.create(MODEL, version, group=group, stages=["100%"], gates=GATES).id
            for version, group in ((GOOD, "servers"), (BLURRED, "cameras"))
        ]
        for rollout in rollouts:
            world.until(
                "the versions are out", lambda r=rollout: world.client.rollouts.get(r).state == "completed", 300
            )
        yield world


@pytest.fixture(scope="module")
def users(world, models):
    made = Users([world.agents["camera-1"], world.agents["camera-2"]], models)
    yield made
    made.stop()


def start(world, users, policy, **settings):
    users.forget()
    candidate = None if policy["kind"] == "escalate" else GOOD
    return world.client.experiments.create(
        MODEL, policy, candidate=candidate, group="cameras", **{**QUICK, **settings}
    ).id


def decided(world, experiment):
    """The experiment once it has ended by itself."""
    world.until("a decision is made", lambda: world.client.experiments.get(experiment).ended, 200)
    return world.client.experiments.get(experiment)


def test_escalation_asks_a_server_where_the_device_is_not_sure(world, users):
    url = world.agents["server-1"].url + "/v2"
    policy = {"kind": "escalate", "threshold": 1.0, "url": url, "model": MODEL, "timeout_s": 10.0}
    experiment = start(world, users, policy, margin=0.05)
    found = decided(world, experiment)
    assert found.decision == "candidate-wins", found.reason
    assert found.high is not None and found.high < -0.05, "the server says otherwise in more than a twentieth"
    assert found.escalated.answered >= found.escalated.changed > 0 and found.escalated.bytes > 0
    assert users.escalated > 0


def test_a_shadow_is_compared_and_never_answers(world, users):
    found = decided(world, start(world, users, {"kind": "shadow"}, margin=0.05))
    assert found.decision == "control-wins", found.reason
    assert found.compared > found.agreed > 0
    assert {arm.role: arm.version for arm in found.arms} == {"control": BLURRED, "shadow": GOOD}
    assert found.arms[1].accuracy > found.arms[0].accuracy, "labels count for both"
    assert {arm for arms in users.arms.values() for arm in arms} <= {"active", "none"}


def test_an_ab_keeps_each_user_in_one_arm(world, users):
    experiment = start(world, users, {"kind": "ab", "weight": 0.5}, block=100)

    def measured():
        found = world.client.experiments.get(experiment)
        return found if found.n == 2 and all(arm.labelled for arm in found.arms) else None

    found = world.until("both devices have given their value", measured, 200)
    assert found.state == "running" and found.arms[1].accuracy > found.arms[0].accuracy
    users.forget()  # what was answered while the candidate came
    world.until("every user was seen", lambda: len(users.arms) == 40, 200)
    arms = Counter(arm for arms in users.arms.values() for arm in arms)
    assert all(len(arms) == 1 for arms in users.arms.values())
    assert arms["active"] and arms["candidate"] and arms.total() == 40, arms
    with pytest.raises(edgewise.EdgewiseError, match=f"experiment {experiment} of {MODEL} runs on some of these"):
        world.client.rollouts.create(MODEL, GOOD, group="cameras")
    assert world.client.experiments.stop(experiment).decision == "stopped"


def test_interleaving_finds_the_better_ranking_by_clicks(world, users):
    found = decided(world, start(world, users, {"kind": "interleave", "output": "scores"}))
    assert found.decision == "candidate-wins", found.reason
    assert found.arms[1].wins > found.arms[0].wins and found.arms[1].clicks > 0


def test_a_canary_of_requests_wins_and_is_promoted(world, users):
    found = decided(world, start(world, users, {"kind": "canary-requests", "share": 0.5}))
    assert found.decision == "candidate-wins", found.reason
    assert found.low > 0 and [device.state for device in found.devices] == ["taking-part"] * 2
    assert found.history[-1].n == found.n
    promoted = world.client.experiments.promote(found.id, stages=["100%"], gates=GATES)
    world.until("the rollout ends", lambda: world.client.rollouts.get(promoted.rollout).state != "running", 300)
    assert world.client.rollouts.get(promoted.rollout).state == "completed"
    assert [world.agents[name].serving(MODEL) for name in ("camera-1", "camera-2")] == [GOOD, GOOD]
    assert set(users.statuses) == {200}, "no request failed in all this"
