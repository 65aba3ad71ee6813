"""Windows are committed once each, acknowledged after what is committed, and refused with a reason."""

from __future__ import annotations

import msgspec
import pytest
from cameras import EPOCH, MODEL, OTHER_PROFILE, SPEC, Cameras, inbound
from sqlalchemy import func, select

from edgewise.sketch import WindowSketches
from edgewise.wire.codec import decode_json, encode_msgpack
from edgewise.wire.windows import Ack, Counters, Window
from edgewise_hub.fleet.tables import Device
from edgewise_hub.monitoring import retention
from edgewise_hub.monitoring.specs import Specs
from edgewise_hub.monitoring.tables import StreamPosition, WindowRow
from edgewise_hub.mqtt.inbox import Outcome


@pytest.fixture
def version(cameras: Cameras) -> int:
    """Version 1, compiled for two profiles, and two cameras."""
    cameras.enroll("cam-1", "cam-2")
    return cameras.compile("linux-x86-64", OTHER_PROFILE)


def acked(outcome: Outcome) -> dict[str, int]:
    """Device -> acknowledged sequence."""
    return {
        message.topic.split("/")[4]: decode_json(message.payload, Ack).sequence
        for message in outcome.publish
        if message.retain and message.topic.endswith("/ack/inference")
    }


def stored(cameras: Cameras) -> int:
    """Windows in the database."""
    with cameras.hub.database.read() as session:
        return session.scalar(select(func.count()).select_from(WindowRow)) or 0


def test_a_batch_is_committed_and_acknowledged_up_to_the_end(cameras: Cameras, version: int) -> None:
    windows = [cameras.window(device, version, 20) for device in ("cam-1", "cam-2", "cam-1", "cam-1")]
    outcome = cameras.send(*windows)
    assert not outcome.refusals
    assert acked(outcome) == {"cam-1": 3, "cam-2": 1}
    with cameras.hub.database.read() as session:
        row = session.get(WindowRow, ("main", "cam-1", EPOCH, 2))
        assert row is not None
        assert (row.model, row.version, row.counters["inferences"]) == (MODEL, version, 20)
        assert row.size == len(encode_msgpack(windows[2]))
        assert msgspec.msgpack.decode(row.sketches) == windows[2].sketches


def test_a_window_that_comes_again_counts_once_and_is_acknowledged_again(cameras: Cameras, version: int) -> None:
    window = cameras.window("cam-1", version)
    first, again = cameras.send(window, window), cameras.send(window)
    assert (acked(first), acked(again)) == ({"cam-1": 1}, {"cam-1": 1})
    assert not first.refusals and not again.refusals
    assert stored(cameras) == 1


def test_the_ack_waits_at_a_gap_and_passes_it_when_it_closes(cameras: Cameras, version: int) -> None:
    one, two, three = (cameras.window("cam-1", version) for _ in range(3))
    assert acked(cameras.send(one, three)) == {"cam-1": 1}
    assert stored(cameras) == 2
    assert acked(cameras.send(two)) == {"cam-1": 3}


def test_a_new_epoch_begins_at_one(cameras: Cameras, version: int) -> None:
    cameras.send(cameras.window("cam-1", version))
    outcome = cameras.send(cameras.window("cam-1", version, epoch=EPOCH + 1, first=1, last=1))
    assert decode_json(outcome.publish[-1].payload, Ack) == Ack(
        stream="inference", epoch=EPOCH + 1, sequence=1, at=cameras.now
    )
    assert stored(cameras) == 2


def test_ranges_that_overlap_are_refused(cameras: Cameras, version: int) -> None:
    cameras.send(cameras.window("cam-1", version, first=1, last=3))
    for first, last in ((2, 2), (3, 5), (1, 2)):
        outcome = cameras.send(cameras.window("cam-1", version, first=first, last=last))
        assert [refusal.code for refusal in outcome.refusals] == ["overlap"], (first, last)
    assert stored(cameras) == 1


REFUSED = {
    "speaks-for-another": {"device": "cam-2"},
    "unknown-bundle": {"bundle": "0" * 64},
    "wrong-spec": {"spec": "0" * 64},
    "bad-sketch": {"sketches": {"latency": b"\xff"}},
    "absurd": {"counters": Counters(inferences=5)},
}


@pytest.mark.parametrize("code", REFUSED)
def test_a_refused_window_is_not_kept_and_does_not_hold_the_ack_back(cameras: Cameras, version: int, code: str) -> None:
    bad = cameras.window("cam-1", version, **REFUSED[code])
    good = cameras.window("cam-1", version)
    outcome = cameras.send(bad, good, sender="cam-1")
    assert [(refusal.device, refusal.kind, refusal.code) for refusal in outcome.refusals] == [
        ("cam-1", "windows", code)
    ]
    assert acked(outcome) == {"cam-1": 2}
    assert stored(cameras) == 1


def full(count: int) -> dict[str, bytes]:
    """Sketches with so much in every counter that has a place for it."""
    sketches = WindowSketches(SPEC)
    for part in sketches.parts.values():
        part.values[:] = count
    return sketches.encode()


def test_counters_beyond_what_a_sketch_may_hold_are_damage(cameras: Cameras, version: int) -> None:
    """A device whose counters ran over sends them as they are: nothing is kept, and its later windows count."""
    outcome = cameras.send(
        cameras.window("cam-1", version, sketches=full(2**53 - 1)), cameras.window("cam-1", version), sender="cam-1"
    )
    assert [refusal.code for refusal in outcome.refusals] == ["bad-sketch"]
    assert acked(outcome) == {"cam-1": 2} and stored(cameras) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"duration": float("nan")},
        {"duration": -1.0},
        {"uncertainty": -1.0},
        {"uncertainty": float("nan")},
        {"start": float("inf")},
        {"counters": Counters(inferences=2**50)},
        {"counters": Counters(inferences=100, labelled=1, correct=2)},
        {"counters": Counters(inferences=2**53 - 1, errors=2**53 - 1, refused=2**53 - 1)},
        {"quality": {"missing": {"x": 2**53 - 1}}},
        {"counters": Counters(inferences=1), "sketches": full(2**40)},
    ],
)
def test_numbers_that_cannot_be_are_refused(cameras: Cameras, version: int, changes: dict[str, object]) -> None:
    outcome = cameras.send(cameras.window("cam-1", version, **changes))
    assert [refusal.code for refusal in outcome.refusals] == ["absurd"]


def test_a_window_of_many_may_count_more(cameras: Cameras, version: int) -> None:
    many = Counters(inferences=100, refused=15_000_000)
    for last, refused in ((1, ["absurd"]), (3, [])):
        outcome = cameras.send(cameras.window("cam-1", version, counters=many, first=last, last=last + last // 2))
        assert [refusal.code for refusal in outcome.refusals] == refused


def test_a_wrong_clock_is_no_reason_to_refuse_and_its_uncertainty_is_kept(cameras: Cameras, version: int) -> None:
    outcome = cameras.send(cameras.window("cam-1", version, start=-5e9, uncertainty=6e9))
    assert not outcome.refusals
    with cameras.hub.database.read() as session:
        row = session.scalars(select(WindowRow)).one()
    assert (row.start, row.uncertainty) == (-5e9, 6e9)


def test_another_models_version_or_profile_is_an_unknown_bundle(cameras: Cameras, version: int) -> None:
    other = cameras.bundle(version, OTHER_PROFILE)
    for changes in ({"version": version + 1}, {"model": "other"}, {"bundle": other.digest}):
        outcome = cameras.send(cameras.window("cam-1", version, **changes))
        assert [refusal.code for refusal in outcome.refusals] == ["unknown-bundle"]


def test_a_damaged_message_is_passed_where_its_numbers_can_be_read(cameras: Cameras, version: int) -> None:
    window = msgspec.to_builtins(cameras.window("cam-1", version), builtin_types=(bytes,))
    damaged = msgspec.msgpack.encode({**window, "counters": "none"})
    outcome = cameras.deliver([inbound("cam-1", damaged, 1.0), inbound("cam-1", b"\xc1 nothing", 1.0)])
    assert [refusal.code for refusal in outcome.refusals] == ["bad-message", "bad-message"]
    assert acked(outcome) == {"cam-1": 1}


def test_a_message_that_its_device_lost_is_passed_however_often_it_comes(cameras: Cameras, version: int) -> None:
    lost = msgspec.msgpack.encode({"schema": 1, "epoch": EPOCH, "first": 1, "last": 3})
    for _ in range(2):
        outcome = cameras.deliver([inbound("cam-1", lost, 1.0)])
        assert [refusal.code for refusal in outcome.refusals] == ["bad-message"]
        assert acked(outcome) == {"cam-1": 3}


def test_a_newer_schema_waits_for_a_newer_hub(cameras: Cameras, version: int) -> None:
    outcome = cameras.send(cameras.window("cam-1", version, schema=2))
    assert [refusal.code for refusal in outcome.refusals] == ["bad-schema"]
    assert acked(outcome) == {}


def test_too_large_is_refused_unread(cameras: Cameras, version: int) -> None:
    outcome = cameras.deliver([inbound("cam-1", b"x" * (Window.bound + 1), 1.0)])
    assert [refusal.code for refusal in outcome.refusals] == ["too-large"]


def test_unknown_and_revoked_devices_get_no_ack(cameras: Cameras, version: int) -> None:
    with cameras.hub.database.write() as session:
        device = session.get(Device, ("main", "cam-2"))
        assert device is not None
        device.revoked_at = 1.0
    outcome = cameras.send(cameras.window("stranger", version), cameras.window("cam-2", version))
    assert [refusal.code for refusal in outcome.refusals] == ["unknown-device", "unknown-device"]
    assert not outcome.publish and stored(cameras) == 0


def test_another_stream_is_refused(cameras: Cameras, version: int) -> None:
    payload = encode_msgpack(cameras.window("cam-1", version))
    outcome = cameras.deliver([inbound("cam-1", payload, 1.0, rest="else")])
    assert [refusal.code for refusal in outcome.refusals] == ["unknown-stream"]


def test_pruning_forgets_windows_but_not_what_was_handled(cameras: Cameras, version: int) -> None:
    old = cameras.window("cam-1", version)
    cameras.send(old)
    cameras.now += 100
    cameras.send(cameras.window("cam-1", version))
    with cameras.hub.database.write() as session:
        assert retention.prune(session, cameras.hub, cameras.now) == 1
    outcome = cameras.send(old)
    assert acked(outcome) == {"cam-1": 2} and not outcome.refusals
    assert stored(cameras) == 1


def test_pruning_drops_only_silent_epochs_of_the_past(cameras: Cameras, version: int) -> None:
    cameras.send(cameras.window("cam-1", version))
    cameras.send(cameras.window("cam-2", version))
    cameras.now += 10
    cameras.send(cameras.window("cam-1", version, epoch=EPOCH + 1, first=1, last=1))
    with cameras.hub.database.write() as session:
        retention.prune(session, cameras.hub, cameras.now + 10)
        kept = session.execute(select(StreamPosition.device_id, StreamPosition.epoch)).all()
    assert sorted(kept) == [("cam-1", EPOCH + 1), ("cam-2", EPOCH)]


def test_the_ticker_prunes_what_is_older_than_the_retention(cameras: Cameras, version: int) -> None:
    cameras.send(cameras.window("cam-1", version))
    retention.tick(cameras.hub, cameras.now + cameras.hub.settings.retention_s - 1)
    assert stored(cameras) == 1
    retention.tick(cameras.hub, cameras.now + cameras.hub.settings.retention_s + 1)
    assert stored(cameras) == 0


def test_what_is_kept_decodes_to_what_was_sent(cameras: Cameras, version: int) -> None:
    window = cameras.window("cam-1", version)
    cameras.send(window)
    with cameras.hub.database.read() as session:
        row = session.scalars(select(WindowRow)).one()
    spec = Specs(cameras.hub).get(row.spec)
    again = WindowSketches.decode(spec, msgspec.msgpack.decode(row.sketches, type=dict[str, bytes]))
    assert again.encode() == window.sketches
