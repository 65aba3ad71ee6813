"""The monitor on a real database: spans, judgements, alerts, and what a restart must not change."""

from __future__ import annotations

import io
import itertools

import msgspec
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from edgewise.bundle import digest
from edgewise.wire.codec import encode_json
from edgewise_hub import metrics
from edgewise_hub.api import drift as drift_api
from edgewise_hub.fleet.tables import Membership
from edgewise_hub.monitoring.alerts import Past, decide
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.monitoring.monitor import Monitor
from edgewise_hub.monitoring.tables import Alert, Judgement, WindowRow
from edgewise_hub.registry.tables import Bundle, Model

GROUPS = {f"district-{name}": [f"{name}{i}" for i in range(2)] for name in "abc"}
BUNDLE = digest(b"bundle")
START = 1_000_000.0
STEP = 100.0  # seconds between two windows of a device: longer than a window, so that each tick may judge
ITEMS = 100


class Fleet:
    """Three groups of two cameras that send a window of ITEMS pictures each STEP seconds."""

    def __init__(self, hub, digits, slip):
        self.hub, self.digits, self._slip = hub, digits, slip
        self.monitor = Monitor()
        self.now = START
        self._sequence = 0
        self._rng = np.random.default_rng(12)
        arrays = io.BytesIO()
        np.savez(arrays, **digits.shuffled[:5000].arrays())
        self.spec = hub.blobs.put(encode_json(digits.spec))
        reference = hub.blobs.put(arrays.getvalue())
        with hub.database.write() as session:
            session.add(Model(name="digits", created_at=START))
            self.add_bundle(session, BUNDLE, reference)
            for group, devices in GROUPS.items():
                session.add_all(Membership(device_id=device, group=group) for device in devices)

    def add_bundle(self, session, bundle, reference):
        session.add(
            Bundle(
                digest=bundle, model="digits", version=1, profile="p", size=1, total_size=1, spec=self.spec,
                reference=reference, report={}, created_at=START,
            )
        )  # fmt: skip

    def send(self, slipped=(), clock=0.0, bundle=BUNDLE, spec=None, by=(25, 0.6), counters=None, quality=None):
        """One window of every device, received a second after each other. ``by``: degrees and light of those slipped;
        ``counters``: of the slipped, beside the usual; ``quality``: of the slipped, feature by feature; ``clock``:
        seconds by which the devices' clocks are wrong."""
        self._sequence += 1
        with self.hub.database.write() as session:
            for group, devices in GROUPS.items():
                for device in devices:
                    images = self.digits.shuffled_images[self._rng.choice(np.arange(5000, 50_000), ITEMS)]
                    sketches = self.digits.sketches(self._slip(images, *by) if group in slipped else images)
                    counted = {"inferences": ITEMS, "labelled": 0, "correct": 0}
                    counted |= counters or {} if group in slipped else {}
                    self.now += 1
                    session.add(
                        WindowRow(
                            device_id=device, epoch=1, first=self._sequence, last=self._sequence,
                            start=self.now + clock, duration=STEP, model="digits", version=1, bundle=bundle,
                            duty="active", spec=spec or self.spec, counters=counted,
                            sketches=msgspec.msgpack.encode(sketches.encode()), size=900, received_at=self.now,
                            quality=(quality or {}) if group in slipped else {},
                        )
                    )  # fmt: skip
        self.now += STEP

    def tick(self):
        self.monitor.tick(self.hub, self.now)

    def judgements(self, group="district-b"):
        with self.hub.database.read() as session:
            rows = select(Judgement).where(Judgement.group == group).order_by(Judgement.span_end)
            return list(session.scalars(rows))

    def alerts(self):
        with self.hub.database.read() as session:
            return list(session.scalars(select(Alert).order_by(Alert.opened_at)))


@pytest.fixture
def fleet(hub, digits, slip):
    return Fleet(hub, digits, slip)


def test_every_window_is_judged_once_and_a_restart_changes_nothing(fleet):
    for round_ in range(6):
        fleet.send()
        if round_ == 3:
            fleet.monitor = Monitor()  # the hub was killed: what was judged is in the rows
        fleet.tick()
    found = fleet.judgements()
    assert sum(judgement.n for judgement in found) == 6 * 2 * ITEMS
    assert sum(judgement.details["windows"] for judgement in found) == 12
    assert all(before.span_end < after.span_start for before, after in itertools.pairwise(found))
    assert {judgement.verdict for judgement in found} == {"quiet"}
    assert fleet.alerts() == []


def test_a_span_waits_until_it_is_large_enough_and_settled(fleet):
    fleet.monitor = Monitor(Policy(min_n=300))
    fleet.send()
    fleet.tick()
    assert fleet.judgements() == []
    fleet.send()
    fleet.now -= STEP  # the last window came this instant: others of its batch may not be committed yet
    fleet.tick()
    assert fleet.judgements("district-c") == []
    fleet.now += STEP
    fleet.tick()
    assert [judgement.n for judgement in fleet.judgements("district-c")] == [4 * ITEMS]


def test_a_group_is_judged_at_most_once_a_window_length(fleet):
    fleet.send()
    fleet.tick()
    fleet.send()
    fleet.now -= STEP - 5
    fleet.monitor.tick(fleet.hub, START + STEP + 30)
    assert len(fleet.judgements()) == 1


def test_a_long_silence_is_judged_in_spans_of_a_tenth_of_the_reference(fleet):
    for _ in range(6):
        fleet.send()
    fleet.tick()
    found = fleet.judgements()
    assert sum(judgement.n for judgement in found) == 12 * ITEMS
    assert max(judgement.n for judgement in found) == 500


def test_drift_opens_one_alert_in_the_right_group_and_closes_it_when_it_is_over(fleet):
    heard = fleet.hub.events.subscribe()
    fleet.send()
    fleet.tick()
    for _ in range(3):
        fleet.send(slipped={"district-b"})
        fleet.tick()
    assert [judgement.verdict for judgement in fleet.judgements()] == ["quiet"] + ["harmful"] * 3
    assert {j.verdict for group in ("district-a", "district-c") for j in fleet.judgements(group)} == {"quiet"}
    [alert] = fleet.alerts()
    assert (alert.kind, alert.model, alert.group, alert.closed_at) == ("drift", "digits", "district-b", None)
    assert alert.details["verdict"] == "harmful"
    assert alert.details["judgement"] == fleet.judgements()[-1].id, "an open alert is brought up to date"
    assert alert.details["false_alert_rate"] == pytest.approx(2.02e-4)
    assert "Harmful drift in district-b" in alert.summary
    events = [heard.get_nowait() for _ in range(heard.qsize())]
    assert ("alert", alert.id) in events
    assert sum(event.kind == "judgement" for event in events) == 12
    for expected in (None, None, "closed"):
        fleet.send()
        fleet.tick()
        assert (fleet.alerts()[0].closed_at is not None) == (expected == "closed")


@pytest.mark.parametrize("killed", [False, True])
def test_a_slight_turn_that_no_span_shows_is_found_over_several_also_by_a_hub_that_was_killed(fleet, killed):
    for _ in range(12):
        fleet.send(slipped={"district-b"}, by=(2.2, 1.0))
        if killed:
            fleet.monitor = Monitor()
        fleet.tick()
        if fleet.alerts():
            break
    [alert] = fleet.alerts()
    judged = fleet.judgements()[-1]
    assert alert.group == "district-b" and judged.verdict == "drift"
    assert not any(test["alarm"] for test in judged.details["tests"])
    assert judged.details["watch"]["alarm"] and judged.details["watch"]["horizon"] > 1
    assert "slight in any one span, clear over the last" in alert.summary
    assert judged.details["kinds"] == ["covariate"]
    assert {each["device"] for each in judged.details["devices"]} == {"b0", "b1"}


def test_prometheus_reads_each_groups_newest_judgement_and_what_is_open(fleet):
    assert "edgewise_drift_p_value{" not in metrics.render(fleet.hub).decode()
    for _ in range(2):
        fleet.send(slipped={"district-b"})
        fleet.tick()
    said = metrics.render(fleet.hub).decode()
    assert 'edgewise_alerts_open{kind="drift"} 1.0' in said
    assert 'edgewise_drift_verdict{group="district-b",model="digits",verdict="harmful"} 1.0' in said
    assert 'edgewise_drift_verdict{group="district-a",model="digits",verdict="quiet"} 1.0' in said
    assert 'edgewise_estimated_accuracy{bound="low",group="district-b",model="digits"}' in said


def test_broken_inputs_are_told_first_and_are_no_drift(fleet):
    broken = {"refused": 400, "nonfinite_inputs": 3}
    features = {
        "wrong_dtype": {"pressure": 380, "speed[3]": 15},
        "dropped_inputs": {"pressure": 5},
        "missing": {"x": 3},
    }
    fleet.send()
    fleet.tick()
    fleet.send(slipped={"district-b"}, counters=broken, quality=features)
    fleet.tick()
    [alert] = fleet.alerts()
    assert (alert.kind, alert.group, fleet.judgements()[-1].verdict) == ("data-quality", "district-b", "data-quality")
    assert "800 of 1,006 inputs did not fit the model's signature" in alert.summary
    assert "(above all pressure)" in alert.summary
    assert fleet.judgements()[-1].details["quality"][0]["features"] == ["pressure"]
    for _ in range(3):
        fleet.send()
        fleet.tick()
    assert fleet.alerts()[0].closed_at is not None


def test_devices_whose_clocks_jump_are_judged_by_when_the_hub_heard_of_them(fleet):
    for clock in (0.0, -START, 40 * 366 * 86400.0, 3600.0, -3600.0):
        fleet.send(clock=clock)
        fleet.tick()
    found = fleet.judgements()
    assert [judgement.verdict for judgement in found] == ["quiet"] * 5
    assert sum(judgement.n for judgement in found) == 5 * 2 * ITEMS and fleet.alerts() == []


def test_a_hub_whose_clock_is_set_back_raises_no_alarm_and_judges_again_once_it_has_caught_up(fleet):
    fleet.send()
    fleet.tick()
    fleet.now -= 5 * STEP
    for _ in range(8):
        fleet.send()
        fleet.tick()
    found = fleet.judgements()
    assert {judgement.verdict for judgement in found} == {"quiet"} and fleet.alerts() == []
    assert len(found) > 1 and found[-1].span_end > found[0].span_end


def test_labels_that_show_more_errors_are_concept_drift_though_inputs_look_the_same(fleet):
    for wrong in (8, 8, 30):
        fleet.send(slipped={"district-b"}, by=(0, 1.0), counters={"labelled": 40, "correct": 40 - wrong})
        fleet.tick()
    first, *_, last = fleet.judgements()
    assert first.verdict == "quiet"
    assert last.verdict == "harmful" and last.details["kinds"] == ["concept"]
    assert last.details["concept_evidence"] > first.details["concept_evidence"]


def test_a_change_is_dated_by_the_history(fleet):
    for _ in range(5):
        fleet.send()
        fleet.tick()
    for _ in range(3):
        fleet.send(slipped={"district-b"})
        fleet.tick()
    found = fleet.judgements()
    assert found[-1].details["since"]["at"] == found[5].span_start
    assert found[-1].details["stands_out"] and not found[0].details["stands_out"]
    assert found[-1].details["evidence"] > 1e6 > 100 > found[4].details["evidence"]
    assert found[-1].details["effect_low"] < found[-1].details["effect"] < found[-1].details["effect_high"]


def test_windows_that_cannot_be_judged_are_passed_and_said(fleet, caplog):
    """Of an unknown bundle, of another spec, and of a bundle whose reference is damaged."""
    damaged = digest(b"damaged")
    with fleet.hub.database.write() as session:
        fleet.add_bundle(session, damaged, fleet.hub.blobs.put(b"not an npz"))
    fleet.send(bundle=digest(b"unknown"))
    fleet.send(spec=digest(b"other"))
    fleet.send(bundle=damaged)
    fleet.tick()
    assert fleet.judgements() == []
    fleet.send()
    fleet.tick()
    [judgement] = fleet.judgements()
    assert judgement.n == 2 * ITEMS and judgement.verdict == "quiet"
    said = [record.getMessage() for record in caplog.records]
    assert sum("it is not registered" in line for line in said) == 1
    assert sum("expected an npz" in line for line in said) == 1


def test_windows_of_two_bundles_are_judged_apart_and_combined(fleet):
    second = digest(b"second")
    with fleet.hub.database.write() as session:
        fleet.add_bundle(session, second, session.get(Bundle, ("main", BUNDLE)).reference)
    fleet.send()
    fleet.send(bundle=second)
    fleet.tick()
    [judgement] = fleet.judgements()
    assert judgement.n == 4 * ITEMS and judgement.verdict == "quiet"
    assert set(judgement.details["bundles"]) == {BUNDLE, second}


@pytest.fixture
def client(hub):
    app = FastAPI()
    app.state.hub = hub
    app.include_router(drift_api.router)
    return TestClient(app)


def test_the_api_shows_each_group_with_its_history_oldest_first(fleet, client):
    assert [(d["group"], d["current"], d["history"]) for d in client.get("/drift").json()] == [
        (group, None, []) for group in GROUPS
    ]
    for slipped in ((), {"district-b"}, {"district-b"}):
        fleet.send(slipped=slipped)
        fleet.tick()
    [shown] = client.get("/drift", params={"model": "digits", "group": "district-b", "history": 2}).json()
    assert [judgement["verdict"] for judgement in shown["history"]] == ["harmful", "harmful"]
    assert shown["history"][0]["span_end"] < shown["history"][1]["span_start"]
    current = shown["current"]
    assert current == shown["history"][-1]
    assert current["versions"] == [1] and current["windows"] == 2 and current["n"] == 2 * ITEMS
    assert {test["test"] for test in current["tests"]} == {
        "embedding", "mmd", "classes", "confidence", "embedding-vs-rest", "classes-vs-rest"
    }  # fmt: skip
    for test in current["tests"]:
        assert test["alarm"] == (test["statistic"] > test["threshold"])
    assert client.get("/drift", params={"group": "nowhere"}).json() == []
    assert client.get("/drift", params={"history": 5000}).status_code == 422


def test_the_api_lists_alerts_open_and_closed(fleet, client):
    fleet.send(slipped={"district-b"})
    fleet.tick()
    [alert] = client.get("/alerts", params={"open": True}).json()["items"]
    assert alert["group"] == "district-b" and alert["closed_at"] is None
    assert client.get("/alerts", params={"open": False}).json() == {"items": [], "next": None}
    assert client.get("/alerts").json()["items"] == [alert]


QUIET, ALARM, CERTAIN = Past(False, 0.5), Past(True, 1e-4), Past(True, 1e-7)


@pytest.mark.parametrize(
    ("is_open", "newest_first", "decision"),
    [
        (False, [], "keep"),
        (False, [QUIET], "keep"),
        (False, [ALARM], "keep"),
        (False, [ALARM, QUIET, ALARM], "keep"),
        (False, [ALARM, ALARM, QUIET], "open"),
        (False, [CERTAIN], "open"),
        (False, [QUIET, CERTAIN], "keep"),
        (True, [ALARM, QUIET], "open"),
        (True, [QUIET, QUIET, ALARM], "keep"),
        (True, [QUIET, QUIET], "keep"),
        (True, [QUIET, QUIET, QUIET], "close"),
        (False, [QUIET, QUIET, QUIET], "keep"),
    ],
)
def test_an_alert_opens_on_two_alarms_or_one_certain_and_closes_on_three_quiet(is_open, newest_first, decision):
    assert decide(is_open, newest_first, Policy()) == decision
