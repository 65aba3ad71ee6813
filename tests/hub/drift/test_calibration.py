"""Calibration on a model's own reference: what an alarm costs and sees; as a job, over the API, quoted by alerts."""

from __future__ import annotations

import dataclasses
import io
import time

import numpy as np
import pytest
from fastapi.testclient import TestClient

from edgewise.bundle import digest
from edgewise.wire.codec import encode_json
from edgewise_hub.api.app import create_app
from edgewise_hub.api.auth import create_token
from edgewise_hub.jobs import calibrate as calibrate_job
from edgewise_hub.jobs import executor
from edgewise_hub.jobs.tables import Job
from edgewise_hub.jobs.work import Work
from edgewise_hub.monitoring import alerts, calibrations
from edgewise_hub.monitoring.calibration import calibrate, summarize
from edgewise_hub.monitoring.calibration_page import page
from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.registry.tables import Bundle, Model

PER_DAY = {"device": 60, "group": 400}
NIGHT = 20_000 * 86400.0 + 3 * 3600.0


def quiet(fraction, text):
    """Nobody listens."""


@pytest.fixture(scope="module")
def found(digits):
    """A calibration on 2,000 pictures, with few draws."""
    reference = digits.shuffled[:2000].reference()
    return calibrate(reference, Policy(), PER_DAY, seed=3, progress=quiet, splits=3, draws=8)


def test_false_alarms_are_as_rare_as_promised_within_their_interval(found):
    rate = found.false_alarms
    assert rate.trials == 30 and rate.low <= 0.07 and rate.low <= rate.rate <= rate.high
    assert found.run_length > 1 and found.alarms > 0
    assert found.run_length_low < found.run_length < found.run_length_high
    assert found.run_length_high > 0.7 * found.promise and found.run_length_low < 1.3 * found.promise
    assert found.enough and found.needed == 1500 and found.independent == 2000
    assert (found.horizon, found.horizon_needed) == (1, 9300) and "9300 items" in " ".join(found.words)


def test_power_rises_with_the_size_and_with_the_items(found):
    day = {who: [one.power for one in found.power if one.shift.endswith(who)] for who in PER_DAY}
    assert day["device"][0] == day["group"][0] == 0 and day["group"][-1] == 1
    assert sum(day["device"]) <= sum(day["group"])
    device, group = found.smallest
    assert (device.n, group.n) == (60, 90), "no more is judged than a tenth of the half"
    assert group.size is not None and (device.size is None or device.size >= group.size)
    often = [one.power for one in found.power if one.shift == "one class more often"]
    assert often[0] < 0.5 < often[-1]


def test_a_summary_of_the_reference_is_what_a_device_sends(digits):
    answers = digits.shuffled[:300]
    made = summarize(answers.reference(), np.arange(300))
    sent = answers.summary()
    for name in ("total", "classes", "confidence", "n", "n_embedding"):
        assert np.array_equal(getattr(made, name), getattr(sent, name))


def test_a_reference_that_is_too_small_says_how_much_is_needed(digits):
    small = calibrate(digits.shuffled[:500].reference(), Policy(), PER_DAY, seed=1, progress=quiet)
    assert not small.enough and small.false_alarms is None and small.needed == 1500
    assert small.words == ("The reference is too small for the promise: it has 500 items, and 1500 are needed.",)


def test_the_page_stands_alone_and_says_it_all(found):
    bundles = {
        "a" * 64: {"profile": "<p>", **dataclasses.asdict(found)},
        "b" * 64: {"profile": "q", "error": "no & no"},
    }
    html = page({"model": "digits", "version": 2, "bundles": bundles})
    assert "<script" not in html and "http" not in html and "&lt;p&gt;" in html and "no &amp; no" in html
    assert html.count("<svg") == 1 + len({one.shift for one in found.power})
    for line in found.words:
        assert line in html


@pytest.fixture
def client(hub, digits):
    """Signed in; version 2 of ``digits`` has a bundle with a small reference."""
    arrays = io.BytesIO()
    np.savez(arrays, **digits.shuffled[:820].arrays())
    spec, reference = hub.blobs.put(encode_json(digits.spec)), hub.blobs.put(arrays.getvalue())
    with hub.database.write() as session:
        session.add_all([Model(name="digits", created_at=1.0), Model(name="raw", created_at=1.0)])
        session.add(
            Bundle(
                digest=digest(b"b"), model="digits", version=2, profile="p", size=1, total_size=1, spec=spec,
                reference=reference, report={}, created_at=1.0,
            )
        )  # fmt: skip
        token = create_token(session, "test", 1.0)
    base_url = f"http://{hub.settings.host}:{hub.settings.port}"
    return TestClient(create_app(hub), base_url=base_url, headers={"Authorization": f"Bearer {token}"})


def work_off(hub):
    """What a worker does with the oldest job."""
    with hub.database.write() as session:
        lease = executor.take(session, hub, time.time())
        job = session.get(Job, (hub.tenant, lease.job_id))
        work = Work(hub=hub, lease=lease, payload=job.payload, created_at=job.created_at)
    calibrate_job.run(work)


def test_it_is_asked_for_worked_off_shown_and_quoted(client, hub):
    asked = client.post("/api/v1/drift/calibrations", json={"model": "digits", "per_day": 50})
    assert asked.status_code == 202 and asked.json()["kind"] == "calibrate"
    assert client.get("/api/v1/drift/calibrations").json() == []
    with hub.database.write() as session:
        alerts.open_alert(session, hub.tenant, alerts.DRIFT, "digits", "a", summary="s", details={}, now=1.0)
    assert client.get("/api/v1/alerts").json()["items"][0]["calibration"] is None
    work_off(hub)
    [shown] = client.get("/api/v1/drift/calibrations", params={"model": "digits"}).json()
    assert (shown["version"], shown["per_day"]) == (2, {"device": 50, "group": 500})
    [bundle] = shown["bundles"]
    assert bundle["m"] == 820 and not bundle["enough"] and f"{bundle['needed']} are needed" in bundle["words"][-1]
    place = f"/api/v1/drift/calibrations/{asked.json()['id']}"
    assert client.get(place).json() == shown
    told = client.get(f"{place}/page")
    assert told.headers["content-type"].startswith("text/html") and bundle["words"][0] in told.text
    assert "unsafe-inline" in told.headers["content-security-policy"]
    quoted = client.get("/api/v1/alerts").json()["items"][0]["calibration"]
    assert quoted["false_alarms"] == bundle["false_alarms"] and quoted["words"] == bundle["words"]
    assert client.get("/api/v1/drift/calibrations/nothing").status_code == 404


def test_what_was_never_compiled_cannot_be_calibrated(client):
    for body in ({"model": "raw"}, {"model": "digits", "version": 1}):
        refused = client.post("/api/v1/drift/calibrations", json=body)
        assert refused.status_code == 422 and refused.json()["code"] == "no-bundle"


def test_each_night_where_the_hub_is_told_to(client, hub):
    hub.settings = dataclasses.replace(hub.settings, calibrate_hour=3)

    def jobs():
        with hub.database.read() as session:
            return [job.payload["model"] for job in session.query(Job)]

    calibrations.tick(hub, NIGHT - 3600)
    assert jobs() == []
    for minute in (0, 1, 59):
        calibrations.tick(hub, NIGHT + 60 * minute)
    assert jobs() == ["digits"], "once, and only what was compiled"
    calibrations.tick(hub, NIGHT + 86400)
    assert len(jobs()) == 2
