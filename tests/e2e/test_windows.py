"""Windows arrive once each, whatever dies in between."""

from __future__ import annotations

import sqlite3

import pytest

pytestmark = pytest.mark.e2e


def committed(world):
    """{device: {epoch: [(first, last), ...]}} as the database has it."""
    with sqlite3.connect(f"file:{world.data / 'hub.db'}?mode=ro", uri=True) as database:
        rows = database.execute(
            "select device_id, epoch, first, last, counters from windows order by device_id, epoch, first"
        ).fetchall()
    found: dict[str, dict[int, list[tuple[int, int]]]] = {}
    for device, epoch, first, last, _ in rows:
        found.setdefault(device, {}).setdefault(epoch, []).append((first, last))
    return found


def whole(ranges):
    """No gap, no overlap, from the first on."""
    expected = 1
    for first, last in ranges:
        if first != expected:
            return False
        expected = last + 1
    return True


def spooled(camera):
    """Files that wait for an ack."""
    return list((camera.data / "spool" / "inference").glob("*.msg"))


def serve_a_while(world, models, camera, windows, seed):
    """Answer requests until so many more windows were closed on the device."""
    inputs, _ = models.draw(400, seed=seed)
    start = camera.sequence()
    position = iter(range(10**6))

    def enough():
        camera.infer("clusters", [inputs[next(position) % 400].tolist()])
        return camera.sequence() >= start + windows

    world.until(f"{windows} more windows were closed", enough)


def test_windows_count_once_over_kills_of_broker_hub_and_agent(new_world, models, good):
    world = new_world(window_s=0.3)
    (camera,) = world.join("camera-1")
    world.roll_out(good)

    serve_a_while(world, models, camera, 4, seed=1)
    world.broker().kill()
    serve_a_while(world, models, camera, 4, seed=2)
    world.hub.kill()
    serve_a_while(world, models, camera, 4, seed=3)
    camera.process.kill()
    camera.start()
    world.until("it serves after kill -9", lambda: camera.serving("clusters") == good)
    serve_a_while(world, models, camera, 4, seed=4)
    world.start_hub()
    serve_a_while(world, models, camera, 2, seed=5)
    last = camera.sequence()

    def all_there():
        ranges = [r for epoch in committed(world).get("camera-1", {}).values() for r in epoch]
        return ranges and ranges[-1][1] >= last

    world.until("every window is committed", all_there)
    epochs = committed(world)["camera-1"]
    assert len(epochs) == 1, "the spool lost its life"
    assert all(whole(ranges) for ranges in epochs.values()), epochs
    world.until("the spool is trimmed", lambda: not spooled(camera))


def test_a_window_that_the_broker_lost_after_its_puback_is_sent_again(new_world, models, good):
    world = new_world(window_s=0.3)
    (camera,) = world.join("camera-1")
    world.roll_out(good)
    serve_a_while(world, models, camera, 3, seed=1)
    broker = world.broker()
    world.hub.suspend()  # the broker lives on, takes windows and answers PUBACK
    serve_a_while(world, models, camera, 5, seed=2)
    waiting = spooled(camera)
    assert waiting, "the spool was trimmed by a PUBACK"
    broker.kill()
    for store in (world.data / "broker").glob("*.db*"):
        store.unlink()  # and all that it had taken is lost
    world.hub.kill()
    world.start_hub()
    last = camera.sequence()
    world.until(
        "every window is committed",
        lambda: max((r[1] for e in committed(world)["camera-1"].values() for r in e), default=0) >= last,
    )
    assert all(whole(ranges) for ranges in committed(world)["camera-1"].values())
