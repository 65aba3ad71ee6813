"""A good version reaches everyone; a bad one is stopped, taken back, and the reason is told."""

from __future__ import annotations

import threading

import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture
def feed(models):
    """Requests in the background: ``feed(agents)`` starts, and returns a function that stops and gives the statuses."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(agents, poison=None, every=25):
        statuses: list[int] = []
        inputs, _ = models.draw(5000, seed=7)

        def run(agent):
            for i in range(len(inputs)):
                row = inputs[i].tolist()
                if poison is not None and i % every == every - 1:
                    row[0] = poison
                statuses.append(agent.infer("clusters", [row])[0])
                if stop.wait(0.01):
                    return

        for agent in agents:
            threads.append(threading.Thread(target=run, args=(agent,)))
            threads[-1].start()

        def finish():
            stop.set()
            for thread in threads:
                thread.join()
            return statuses

        return finish

    yield start
    stop.set()
    for thread in threads:
        thread.join()


def test_a_version_reaches_every_device_and_is_confirmed(new_world, good):
    world = new_world()
    agents = world.join("camera-1", "camera-2")
    rollout = world.roll_out(good, stages=[{"count": 1}, {"percent": 100}])
    assert [agent.serving("clusters") for agent in agents] == [good, good]
    detail = world.client.rollouts.get(rollout)
    assert {d.state for d in detail.devices} == {"confirmed"}
    assert [stage.devices for stage in detail.stages] == [1, 2]
    assert world.client.models.get("clusters").floor == good

    late = world.join("camera-3")[0]
    world.until("a device that joins later gets the version too", lambda: late.serving("clusters") == good)


def test_each_profile_gets_its_own_bundle(new_world, good, tmp_path):
    world = new_world()
    world.join("camera-1", profile="linux-x86-64")
    world.join("pi-1", profile="raspberry-pi-5")
    world.roll_out(good)
    bundles = {d.id: d.models[0].bundle for d in world.client.devices.list()}
    assert bundles["camera-1"] != bundles["pi-1"]


def test_values_that_are_not_finite_stop_a_rollout_at_its_first_stage(new_world, good, gives_nan, feed):
    world = new_world()
    agents = world.join("camera-1", "camera-2", "camera-3")
    world.roll_out(good)
    finish = feed(agents, poison=-200.0)
    rollout = world.roll_out(
        gives_nan,
        wait=False,
        stages=[{"count": 1}, {"percent": 100}],
        gates={"errors": 0.01, "latency_ratio": None, "mix_distance": 0.2, "min_inferences": 100, "deadline": 60},
    )
    world.until("the rollout ends", lambda: world.client.rollouts.get(rollout).state != "running")
    stopped = world.client.rollouts.get(rollout)
    assert stopped.state == "rolled-back", stopped.reason
    assert stopped.stage == 0
    assert [gate.state for gate in stopped.gates if gate.gate == "errors"] == ["fail"]
    world.until("every device serves the good version", lambda: all(a.serving("clusters") == good for a in agents))
    assert finish().count(0) == 0, "a request found nobody listening"
    assert world.client.models.get("clusters").floor == good


def test_a_serve_child_that_crashes_on_the_new_version_goes_back(new_world, good, crashes, feed):
    world = new_world(trial_s=8.0)
    (camera,) = world.join("camera-1")
    world.roll_out(good)
    finish = feed([camera], poison=-1.0)
    rollout = world.roll_out(crashes, wait=False)
    world.until("the rollout ends", lambda: world.client.rollouts.get(rollout).state != "running", 90)
    stopped = world.client.rollouts.get(rollout)
    assert stopped.state == "rolled-back", stopped.reason
    assert "crash" in stopped.reason
    world.until("the old version serves again", lambda: camera.serving("clusters") == good)
    finish()


def test_a_hub_killed_between_commit_and_publish_finishes_the_rollout(new_world, good):
    world = new_world()
    (camera,) = world.join("camera-1")
    broker = world.broker()
    broker.suspend()  # what the hub publishes from here on reaches nobody
    rollout = world.roll_out(good, wait=False)
    world.until(
        "the first stage is committed", lambda: world.client.rollouts.get(rollout).devices[0].state != "waiting"
    )
    world.hub.kill()
    broker.kill()
    assert camera.serving("clusters") is None
    world.start_hub()
    world.until("the rollout completes", lambda: world.client.rollouts.get(rollout).state == "completed")
    assert camera.serving("clusters") == good


def test_pause_holds_and_abort_takes_back(new_world, good, large):
    world = new_world()
    agents = world.join("camera-1", "camera-2")
    world.roll_out(good)
    rollout = world.roll_out(
        large,
        wait=False,
        stages=[{"count": 1}, {"percent": 100}],
        gates={"errors": 0.01, "latency_ratio": None, "mix_distance": None, "min_inferences": 10, "deadline": 600},
    )
    world.until("one device serves it", lambda: sorted(a.serving("clusters") or 0 for a in agents) == [good, large])
    assert world.client.rollouts.pause(rollout).state == "paused"
    assert world.client.rollouts.resume(rollout).state == "running"
    assert world.client.rollouts.abort(rollout).state == "aborted"
    world.until("both serve the old one", lambda: [a.serving("clusters") for a in agents] == [good, good])
