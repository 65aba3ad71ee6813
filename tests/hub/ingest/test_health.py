"""A device's resources come in by their own stream, and are shown as they were."""

from __future__ import annotations

import pytest
from cameras import EPOCH, Cameras, inbound

from edgewise.wire.codec import decode_json, encode_msgpack
from edgewise.wire.health import STREAM_HEALTH, Gauge, Health
from edgewise.wire.windows import Ack, Counters
from edgewise_hub.api.schemas import DeviceHealth
from edgewise_hub.monitoring import health, ingest, streams
from edgewise_hub.mqtt.inbox import Outcome


@pytest.fixture
def version(cameras: Cameras) -> int:
    cameras.ingest = streams.make_handler(cameras.hub, [ingest.stream(cameras.hub), health.stream()])
    cameras.enroll("cam-1", "cam-2")
    return cameras.compile()


def report(number: int, **changes: object) -> Health:
    values: dict[str, object] = {
        "device": "cam-1", "epoch": EPOCH, "first": number, "last": number, "start": 1000.0 + 60 * number,
        "duration": 60.0, "uncertainty": 0.5, "gauges": {"temperature": Gauge(2, 100.0 + number, 40.0, 60.0 + number)},
        "totals": {"sent_bytes": 10 * number},
    }  # fmt: skip
    return Health(**{**values, **changes})  # type: ignore[arg-type]


def send(cameras: Cameras, *reports: Health) -> Outcome:
    return cameras.deliver(inbound("cam-1", encode_msgpack(r), cameras.now, rest=STREAM_HEALTH) for r in reports)


def read(cameras: Cameras, device: str = "cam-1", since: float = 0.0) -> DeviceHealth:
    with cameras.hub.database.read() as session:
        return health.read(session, cameras.hub, device, since)


def test_each_stream_is_acknowledged_by_its_own_numbers(cameras: Cameras, version: int) -> None:
    windows = [inbound("cam-1", encode_msgpack(cameras.window("cam-1", version)), 1.0) for _ in range(2)]
    healths = [inbound("cam-1", encode_msgpack(report(n)), 5.0, rest=STREAM_HEALTH) for n in (1, 2, 3)]
    outcome = cameras.deliver([healths[0], *windows, *healths[1:]])
    acks = {ack.stream: ack for ack in (decode_json(message.payload, Ack) for message in outcome.publish)}
    assert {name: ack.sequence for name, ack in acks.items()} == {"inference": 2, "health": 3}
    assert {name: ack.at for name, ack in acks.items()} == {"inference": 1.0, "health": 5.0}, "when the hub had them"
    assert not outcome.refusals and len(read(cameras).spans) == 3


def test_spans_and_the_latency_of_models(cameras: Cameras, version: int) -> None:
    cameras.send(cameras.window("cam-1", version, 40, bad=1, latency_s=0.010), cameras.window("cam-2", version, 5))
    send(cameras, report(1), report(2, uncertainty=None))
    found = read(cameras)
    assert [(span.start, span.end, span.uncertainty) for span in found.spans] == [
        (1060.0, 1120.0, 0.5),
        (1120.0, 1180.0, None),
    ]
    assert found.spans[0].gauges["temperature"].model_dump() == {"mean": 50.5, "least": 40.0, "most": 61.0}
    assert found.spans[1].totals == {"sent_bytes": 20}
    (model,) = found.models
    assert (model.model, model.version, model.duty, model.inferences) == ("digits", version, "active", 40)
    assert model.latency_p50_ms is not None and 9.0 < model.latency_p50_ms < 12.0
    assert read(cameras, "cam-2").spans == [] and read(cameras, since=cameras.now + 1).models == []


def test_the_energy_of_an_inference_is_that_of_the_windows_that_tell_it(cameras: Cameras, version: int) -> None:
    told = [
        cameras.window("cam-1", version, 0, counters=Counters(inferences=inferences, energy_mj=energy), sketches={})
        for inferences, energy in ((100, 12_000), (300, 36_000), (500, 0))
    ]
    cameras.send(*told)
    (model,) = read(cameras).models
    assert (model.inferences, model.energy_mj) == (900, 120.0)
    cameras.send(cameras.window("cam-2", version, 30))
    assert [model.energy_mj for model in read(cameras, "cam-2").models] == [None]


def test_many_spans_are_added_to_one_another(cameras: Cameras, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_SPANS", 2)
    send(cameras, *(report(n) for n in range(1, 6)))
    found = read(cameras)
    assert [(span.start, span.end, span.duration) for span in found.spans] == [
        (1060.0, 1240.0, 180.0),
        (1240.0, 1360.0, 120.0),
    ]
    assert sum(span.totals["sent_bytes"] for span in found.spans) == 150
    assert found.spans[0].gauges["temperature"].most == 63.0


@pytest.mark.parametrize(
    "gauge",
    [Gauge(0, 0.0, 0.0, 0.0), Gauge(2, 300.0, 40.0, 60.0), Gauge(1, float("nan"), 0.0, 0.0), Gauge(3, 0.0, 1.0, -1.0)],
)
def test_gauges_that_cannot_be_are_refused_and_passed(cameras: Cameras, version: int, gauge: Gauge) -> None:
    outcome = send(cameras, report(1, gauges={"cpu": gauge}))
    assert [refusal.code for refusal in outcome.refusals] == ["absurd"]
    assert [decode_json(message.payload, Ack).sequence for message in outcome.publish] == [1]
    assert read(cameras).spans == []
