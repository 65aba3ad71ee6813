"""A device joins with a token, once, and speaks for itself alone."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.e2e


def test_a_device_enrolls_serves_nothing_yet_and_is_seen(new_world, until):
    world = new_world()
    (camera,) = world.join("camera-1", group="district-a")
    device = until("camera-1 is online", lambda: (d := world.client.devices.get("camera-1")).online and d)
    assert device.groups == ["district-a"]
    assert device.profile == "linux-x86-64"
    assert camera.serving("clusters") is None
    assert device.facts["url"] == camera.url


def test_enrolling_again_gives_the_same_identity_and_spends_nothing(new_world):
    world = new_world()
    token = world.client.tokens.create(groups=["district-a"], uses=1).token
    camera = world.agent("camera-1")
    assert camera.enroll(token).returncode == 0
    assert camera.enroll(token).returncode == 0
    assert [d.id for d in world.client.devices.list()] == ["camera-1"]

    late = world.agent("camera-2")
    refused = late.enroll(token)
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "token" in refused.stderr
    assert token not in refused.stderr


def test_unknown_profiles_and_taken_names_are_refused_in_one_line(new_world):
    world = new_world()
    token = world.client.tokens.create(groups=[], uses=5).token
    unknown = world.agent("camera-1", profile="toaster").enroll(token)
    assert unknown.returncode == 1
    assert "toaster" in unknown.stderr
    assert "linux-x86-64" in unknown.stderr

    assert world.agent("camera-1").enroll(token).returncode == 0
    impostor = world.agent("camera-1", folder="impostor").enroll(token)
    assert impostor.returncode == 1
    assert "camera-1" in impostor.stderr


def test_the_key_and_the_password_are_for_their_owner_only(new_world):
    world = new_world()
    (camera,) = world.join("camera-1")
    readable = [p for p in camera.data.rglob("*") if p.is_file() and p.stat().st_mode & 0o077]
    secrets = [p.read_bytes() for p in readable]
    identity = json.loads(next(camera.data.glob("identity*.json")).read_text())
    assert not any(identity["password"].encode() in content for content in secrets)
    assert identity["password"] not in camera.process.log.read_text()
    assert identity["password"] not in world.hub.log.read_text()
