"""Windows merge exactly within one bundle, and never across two."""

from __future__ import annotations

import numpy as np
import pytest
from cameras import MODEL, OTHER_PROFILE, Cameras

from edgewise.sketch.labels import LabelSketch
from edgewise.wire.windows import Counters
from edgewise_hub.monitoring import evidence
from edgewise_hub.monitoring.evidence import Span


@pytest.fixture
def version(cameras: Cameras) -> int:
    cameras.enroll("cam-1", "cam-2", group="district-a")
    cameras.enroll("pi-1", group="district-b", profile=OTHER_PROFILE)
    return cameras.compile("linux-x86-64", OTHER_PROFILE)


def test_merging_sums_counters_and_sketches_by_bundle(cameras: Cameras, version: int) -> None:
    windows = [
        cameras.window("cam-1", version, 30, bad=2, correct=20),
        cameras.window("cam-2", version, 50),
        cameras.window("pi-1", version, 70, profile=OTHER_PROFILE),
    ]
    cameras.send(*windows)
    with cameras.hub.database.read() as session:
        merged = evidence.merge(session, cameras.hub, model=MODEL)
    linux, pi = (merged[cameras.bundle(version, profile).digest] for profile in ("linux-x86-64", OTHER_PROFILE))
    assert (linux.windows, linux.version, pi.windows) == (2, version, 1)
    assert (linux.counters.inferences, linux.counters.nonfinite_outputs, linux.counters.correct) == (80, 2, 20)
    assert linux.sketches.classes is not None and linux.sketches.classes.n == 80
    assert linux.sketches.latency.n == 80 and pi.sketches.latency.n == 70


def test_spans_devices_and_versions_select(cameras: Cameras, version: int) -> None:
    newer = cameras.compile("linux-x86-64")
    cameras.send(cameras.window("cam-1", version, 10), cameras.window("cam-2", version, 20))
    middle = cameras.now = cameras.now + 5
    cameras.send(cameras.window("cam-1", newer, 40))

    def total(**selected: object) -> int:
        with cameras.hub.database.read() as session:
            merged = evidence.merge(session, cameras.hub, model=MODEL, **selected)  # type: ignore[arg-type]
            counted = evidence.inferences(session, cameras.hub, model=MODEL, **selected)  # type: ignore[arg-type]
        assert counted == sum(found.counters.inferences for found in merged.values())
        return counted

    assert total() == 70
    assert total(devices=["cam-1"]) == 50
    assert total(versions=[newer]) == 40
    assert total(span=Span(since=middle)) == 40
    assert total(span=Span(until=middle)) == 30
    assert total(devices=[]) == 0


def test_what_waited_on_a_device_that_was_away_is_no_evidence_of_today(cameras: Cameras, version: int) -> None:
    cameras.now = 50_000.0
    times = [(40_000.0, None), (40_000.0, 5.0), (49_930.0, 5.0), (49_930.0, 50.0), (49_990.0, 0.1)]
    cameras.send(
        *(
            cameras.window("cam-1", version, 10**power, start=start, duration=60.0, uncertainty=uncertainty)
            for power, (start, uncertainty) in enumerate(times)
        )
    )
    with cameras.hub.database.read() as session:
        recent = evidence.inferences(session, cameras.hub, model=MODEL, span=Span(since=50_000.0))
        everything = evidence.inferences(session, cameras.hub, model=MODEL)
    assert recent == 11_001, "of unknown time, perhaps after it, and after it"
    assert everything == 11_111


def test_late_labels_count_by_the_time_of_their_answers_and_say_their_classes(cameras: Cameras, version: int) -> None:
    cameras.now = 50_000.0
    labels = LabelSketch(10)
    labels.update(np.array([3, 3, 4]), np.array([3, 5, 4]))
    late = {
        "counters": Counters(labelled=3, correct=2, late=3),
        "sketches": {"labels": labels.encode()},
        "uncertainty": 1.0,
    }
    outcome = cameras.send(
        cameras.window("cam-1", version, 10, uncertainty=1.0),
        cameras.window("cam-1", version, 0, start=20_000.0, duration=600.0, **late),
        cameras.window("cam-1", version, 0, start=49_999.0, duration=600.0, **late),
    )
    assert not outcome.refusals
    with cameras.hub.database.read() as session:
        (merged,) = evidence.merge(session, cameras.hub, model=MODEL).values()
        (since,) = evidence.accuracy(session, cameras.hub, model=MODEL, since=40_000.0, group="district-a")
    assert merged.sketches.labels is not None and merged.sketches.labels.arrived.tolist()[3:5] == [4, 2]
    assert (merged.counters.labelled, merged.counters.late, merged.counters.inferences) == (6, 6, 10)
    assert (since.labelled, since.correct) == (3, 2), "those of answers before then say nothing of now"


def test_accuracy_by_group_and_version(cameras: Cameras, version: int) -> None:
    cameras.send(
        cameras.window("cam-1", version, 100, correct=90, latency_s=0.010),
        cameras.window("cam-2", version, 100, bad=3, latency_s=0.010),
        cameras.window("pi-1", version, 10, correct=1, profile=OTHER_PROFILE),
    )
    with cameras.hub.database.read() as session:
        found = evidence.accuracy(session, cameras.hub, model=MODEL)
        only = evidence.accuracy(session, cameras.hub, model=MODEL, group="district-b")
        later = evidence.accuracy(session, cameras.hub, model=MODEL, since=cameras.now + 1)
    a, b = found
    assert (a.group, a.inferences, a.labelled, a.correct, a.nonfinite_outputs, a.windows) == (
        "district-a",
        200,
        100,
        90,
        3,
        2,
    )
    assert a.latency_p95_ms is not None and 9.0 < a.latency_p95_ms < 12.0
    assert only == [b] and b.correct == 1
    assert later == []
