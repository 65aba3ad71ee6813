"""What the hub says of inputs that do not look right, devices do; and the owner of a device has the last word."""

from __future__ import annotations

import pytest

from edgewise.wire.quality import Quality

pytestmark = pytest.mark.e2e

MODEL = "clusters"
FAR = {"name": "input", "datatype": "FP32", "shape": [1, 16], "data": [1e6] * 16}
"""Outside of every range that the reference has."""
UNKNOWN = {"name": "weather", "datatype": "FP32", "shape": [1, 1], "data": [0.0]}
"""The model has no such input."""


def answer(camera, *inputs):
    """(status, what the answer says of the inputs' quality)."""
    status, body = camera.post(f"/v2/models/{MODEL}/infer", {"inputs": list(inputs)})
    return status, body.get("parameters", {}).get("quality")


def test_a_rule_of_the_hub_flags_or_refuses_and_the_owner_has_the_last_word(new_world, good, monkeypatch):
    world = new_world()
    (camera,) = world.join("camera-1")
    monkeypatch.setenv("EDGEWISE_AGENT_QUALITY_OUT_OF_BOUNDS", "count")
    (owned,) = world.join("camera-2")
    world.roll_out(good)
    assert answer(camera, FAR) == (200, None)
    assert answer(camera, FAR, UNKNOWN)[0] == 400, "the default refuses it"

    rules = Quality(out_of_bounds="flag", unknown_inputs="count")
    assert world.client.models.set_quality(MODEL, rules).quality == rules
    assert world.client.models.get(MODEL).quality == rules
    world.until("it is flagged", lambda: answer(camera, FAR) == (200, "out_of_bounds: input"))
    assert answer(camera, FAR, UNKNOWN) == (200, "out_of_bounds: input")

    world.client.models.set_quality(MODEL, Quality(out_of_bounds="refuse"))
    world.until("it is refused", lambda: answer(camera, FAR)[0] == 400)
    assert answer(camera, FAR, UNKNOWN)[0] == 400
    generation = world.client.devices.get("camera-2").generation
    world.until("both devices follow", lambda: world.client.devices.get("camera-2").reported_generation == generation)
    assert answer(owned, FAR) == (200, None)
    assert world.client.rollouts.list()[0].state == "completed", "a rule takes no version away"
    assert camera.serving(MODEL) == good
