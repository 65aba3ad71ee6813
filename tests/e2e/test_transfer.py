"""A model to many devices at once, and a small change to it: over the real hub, broker and agents."""

from __future__ import annotations

import re
import urllib.request

import onnx
import pytest
from onnx import numpy_helper

pytestmark = pytest.mark.e2e


def _casts(world):
    with urllib.request.urlopen(f"{world.url}/metrics", timeout=10) as answer:
        found = re.search(r"^edgewise_casts_total (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def _some_here(agent):
    return any(part.stat().st_blocks * 512 > 2_000_000 for part in (agent.data / "blobs").rglob("*.part"))


def _size(world, version):
    return max(bundle.total_size for bundle in world.client.models.version("clusters", version).bundles)


def test_a_rollout_to_many_is_one_cast_and_a_device_killed_in_it_goes_on(new_world, good, large):
    world = new_world()
    cameras = world.join("camera-1", "camera-2", "camera-3", "camera-4", "camera-5")
    world.roll_out(good)
    sent = world.client.system().blob_bytes_sent
    rollout = world.roll_out(large, wait=False)
    world.until("the transfer is under way", lambda: _some_here(cameras[0]))
    cameras[0].process.kill()
    cameras[0].start()
    world.until("the rollout completes", lambda: world.client.rollouts.get(rollout).state == "completed", 120)
    assert {camera.serving("clusters") for camera in cameras} == {large}
    assert _casts(world) >= 1
    assert world.client.system().blob_bytes_sent - sent < 3 * _size(world, large), "it was sent to each by itself"


def test_a_small_change_travels_as_a_delta(new_world, good, models, tmp_path):
    world = new_world()
    first, data = models.write(tmp_path, "first", padding_mb=4, seed=7)
    model = onnx.load(first)
    for tensor in model.graph.initializer:
        if tensor.name == "b2":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 0.01, "b2"))
    second = tmp_path / "second.onnx"
    onnx.save(model, second)
    versions = []
    for path in (first, second):
        version = world.client.models.register_onnx("clusters", path, data).version
        job = world.client.jobs.wait(world.client.compile("clusters", version, ["linux-x86-64"]).id)
        assert job.state == "done", job.error
        versions.append(version)
    (camera,) = world.join("camera-1")
    world.roll_out(versions[0])
    sent = world.client.system().blob_bytes_sent
    world.roll_out(versions[1])
    assert camera.serving("clusters") == versions[1]
    assert world.client.system().blob_bytes_sent - sent < 0.15 * _size(world, versions[1])
