"""What dies in mid-step comes back right: broker in mid-transfer, agent in mid-install, serve child at any time."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.e2e


def _downloading(agent):
    parts = list((agent.data / "blobs").rglob("*.part"))
    return any(part.stat().st_blocks * 512 > 1_000_000 for part in parts)


def test_a_transfer_resumes_after_the_broker_is_killed(new_world, good, large):
    world = new_world()
    (camera,) = world.join("camera-1")
    world.roll_out(good)
    sent = world.client.system().blob_bytes_sent
    rollout = world.roll_out(large, wait=False)
    world.until("the transfer is under way", lambda: _downloading(camera))
    world.broker().kill()
    assert camera.serving("clusters") == good
    world.until("the rollout completes", lambda: world.client.rollouts.get(rollout).state == "completed", 120)
    assert camera.serving("clusters") == large
    again = world.client.system().blob_bytes_sent - sent
    size = max(b.total_size for b in world.client.models.version("clusters", large).bundles)
    assert again < 1.5 * size, f"{again} bytes were sent for a bundle of {size}: the transfer began anew"


def test_an_agent_killed_in_mid_install_serves_the_old_version_and_then_finishes(new_world, good, large):
    world = new_world()
    (camera,) = world.join("camera-1")
    world.roll_out(good)
    rollout = world.roll_out(large, wait=False)
    world.until("the transfer is under way", lambda: _downloading(camera))
    camera.process.kill()
    world.broker().suspend()
    camera.start()
    world.until("the old version serves, with no hub in reach", lambda: camera.serving("clusters") == good)
    world.broker().resume()
    world.until("the rollout completes", lambda: world.client.rollouts.get(rollout).state == "completed", 120)
    assert camera.serving("clusters") == large


def test_a_confirmed_serve_child_that_dies_is_started_again(new_world, good):
    world = new_world()
    (camera,) = world.join("camera-1")
    world.roll_out(good)
    camera.child().kill()
    world.until("it serves again", lambda: camera.serving("clusters") == good)


def test_no_serve_child_outlives_its_supervisor(new_world, good):
    world = new_world()
    (camera,) = world.join("camera-1")
    world.roll_out(good)
    child = camera.child()
    camera.process.kill()
    world.until("the child is gone", lambda: not child.is_running() or child.status() == "zombie")
