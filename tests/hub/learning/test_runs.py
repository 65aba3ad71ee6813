"""A training run from trigger to rollout, its work done by real worker processes; and the runs that end otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from edgewise.errors import EdgewiseError
from edgewise_compiler.recipe import load_recipe, save_weights
from edgewise_hub.api import schemas
from edgewise_hub.fleet.tables import Assignment
from edgewise_hub.hub import Hub
from edgewise_hub.jobs import executor
from edgewise_hub.jobs.local import LocalExecutor
from edgewise_hub.jobs.tables import Job
from edgewise_hub.learning import runs, samples, triggers
from edgewise_hub.learning.errors import LearningError
from edgewise_hub.learning.tables import SampleRequestRow, TrainingRun, Trigger
from edgewise_hub.monitoring import alerts
from edgewise_hub.mqtt.inbox import Inbound
from edgewise_hub.registry.tables import Bundle, Version
from edgewise_hub.registry.versions import find_bundle, register
from edgewise_hub.rollouts import controller
from edgewise_hub.rollouts.tables import Rollout

RECIPE = Path(__file__).parents[1] / "jobs" / "tiny_recipe.py"
REQUEST = "request1"
PATIENCE_S = 300.0
Message = Callable[..., Inbound]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a model that knows the old domain."""
    recipe = load_recipe(RECIPE)
    inputs, labels = recipe.load("train", {})
    model = recipe.train(recipe.build({}), inputs, labels, {}, seed=0, progress=lambda fraction, text: None)
    path = tmp_path_factory.mktemp("parent") / "weights.safetensors"
    save_weights(model, path)
    return path


@pytest.fixture
def serving(fleet: Hub, weights: Path) -> Iterator[Hub]:
    """The fleet with version 1 in the registry, a request of 200 samples a device, and a local executor at work."""
    source = {
        "kind": "recipe",
        "recipe": fleet.blobs.put_file(RECIPE),
        "weights": fleet.blobs.put_file(weights),
        "config": {"epochs": 150},
    }
    with fleet.database.write() as session:
        register(session, fleet, "tiny", source, {}, {}, "", 1.0)
        request = session.get_one(SampleRequestRow, (fleet.tenant, REQUEST))
        request.count, request.bytes = 200, 10_000
    executor = LocalExecutor(fleet)
    executor.start()
    yield fleet
    executor.stop()


def send(hub: Hub, message: Message, domain: int, at: float) -> None:
    """150 labelled points of a domain from each of b1 and b2."""
    points, labels = load_recipe(RECIPE).points(300, 5, domain)  # type: ignore[attr-defined]
    handler = samples.make_handler(hub)
    with hub.database.write() as session:
        for sequence, (device, label) in enumerate([("b1", 0), ("b1", 1), ("b2", 0), ("b2", 1)]):
            half = points[labels == label][sequence // 2 :: 2]
            data = [point.tobytes() for point in half]
            sent = message(device, sequence % 2 + 1, data, label=label, start=1000 * sequence, at=at)
            assert handler(session, [sent]).refusals == []


def follow(hub: Hub, identifier: str) -> TrainingRun:
    """Tick, as the hub does, until the run is over."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        runs.tick(hub, time.time())
        with hub.database.read() as session:
            run = session.get_one(TrainingRun, (hub.tenant, identifier))
        if run.state not in runs.UNFINISHED:
            return run
        assert time.monotonic() < deadline, f"run {run.state} after {PATIENCE_S:.0f} s: {run.reason}"
        time.sleep(0.1)


def all_runs(hub: Hub) -> list[TrainingRun]:
    with hub.database.read() as session:
        return list(session.scalars(select(TrainingRun)))


def test_harmful_drift_and_samples_lead_to_a_better_version_on_its_way_out(serving: Hub, message: Message) -> None:
    hub = serving
    plan = schemas.RolloutPlanIn(group="district-b", stages=[schemas.StageIn(percent=100)]).model_dump()
    with hub.database.write() as session:
        session.add(
            Trigger(
                tenant_id=hub.tenant,
                id="t1",
                model="tiny",
                on="drift",
                min_samples=200,
                strategy="rehearsal",
                config={"epochs": 200},
                profiles=[],
                rollout=plan,
                created_at=1.0,
            )
        )
    triggers.tick(hub, 20.0)
    assert all_runs(hub) == []
    with hub.database.write() as session:
        details = {"verdict": "harmful"}
        alert = alerts.open_alert(
            session, hub.tenant, alerts.DRIFT, "tiny", "district-b", summary="drift", details=details, now=21.0
        )
    triggers.tick(hub, 22.0)
    assert all_runs(hub) == []  # no samples yet
    send(hub, message, domain=1, at=23.0)
    triggers.tick(hub, 24.0)
    triggers.tick(hub, 25.0)
    (run,) = all_runs(hub)
    assert (run.trigger_id, run.parent_version, run.config["alert"]) == ("t1", 1, alert.id)
    assert "harmful drift in district-b" in run.reason

    run = follow(hub, run.id)
    assert run.state == "accepted" and run.version == 2, run.reason
    old, new = run.comparison["slices"]
    assert old["challenger"] > 0.95 and new["champion"] < 0.6 and new["challenger"] > 0.95
    with hub.database.read() as session:
        version = session.get_one(Version, (hub.tenant, "tiny", 2))
        assert find_bundle(session, hub, "tiny", 2, "linux-x86-64") is not None
        rollout = session.get_one(Rollout, (hub.tenant, run.rollout_id))
    assert version.lineage["parent"] == 1 and version.lineage["training_run"] == run.id
    assert version.source["config"] == {"epochs": 200}  # what the strategy and the trigger read is no part of it
    assert (rollout.to_version, rollout.group) == (2, "district-b")
    triggers.tick(hub, 26.0)
    assert len(all_runs(hub)) == 1


def test_no_gain_means_no_version(serving: Hub, message: Message) -> None:
    send(serving, message, domain=0, at=10.0)
    body = schemas.TrainingRunIn(model="tiny", strategy="rehearsal", sample_request=REQUEST, config={"epochs": 10})
    with serving.database.write() as session:
        created = runs.create(session, serving, body, 20.0)
    run = follow(serving, created.id)
    assert run.state == "rejected" and run.version is None and "no gain beyond chance" in run.reason
    with serving.database.read() as session:
        assert session.get(Version, (serving.tenant, "tiny", 2)) is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sample_request": "none"}, "no-samples"),
        ({"parent_version": 9}, "no-parent"),
        ({"config": {"new_share": 2}}, "bad-options"),
        ({"profiles": ["toaster"]}, "unknown-profile"),
        ({"recipe": "0" * 64}, "no-blob"),
        ({"model": "unheard-of"}, "no-parent"),
    ],
)
def test_a_run_that_cannot_be_is_refused_at_once(serving: Hub, change: dict[str, object], code: str) -> None:
    body = {"model": "tiny", "strategy": "rehearsal", "sample_request": REQUEST, **change}
    with pytest.raises(EdgewiseError) as caught, serving.database.write() as session:
        runs.create(session, serving, schemas.TrainingRunIn.model_validate(body), 20.0)
    assert caught.value.code == code
    assert all_runs(serving) == []


def test_a_run_without_a_recipe_is_refused(hub: Hub) -> None:
    with pytest.raises(LearningError, match="expected a recipe"), hub.database.write() as session:
        runs.create(session, hub, schemas.TrainingRunIn(model="tiny"), 1.0)


def test_where_nobody_serves_it_an_accepted_version_waits_uncompiled(hub: Hub) -> None:
    """Driven by rows alone, as after a restart: the train job of a run is done, and the hub was away."""
    with hub.database.write() as session:
        body = schemas.TrainingRunIn(model="tiny", recipe=hub.blobs.put_file(RECIPE))
        run = runs.create(session, hub, body, 1.0)
        lease = executor.take(session, hub, 2.0)
        assert lease is not None
        run.version, run.reason = 1, "trained"
        executor.finish(session, hub, lease, {"accepted": True}, 3.0)
    runs.tick(hub, 4.0)
    (run,) = all_runs(hub)
    assert run.state == "accepted" and "no device serves it" in run.reason


def test_the_version_that_most_devices_serve_is_the_parent(fleet: Hub) -> None:
    with fleet.database.write() as session:
        session.get_one(Assignment, (fleet.tenant, "a1", "tiny")).version = 7
    with fleet.database.read() as session:
        assert runs.serving_version(session, fleet, "tiny") == 1
        assert runs.serving_version(session, fleet, "tiny", "district-a") == 7
        assert runs.serving_version(session, fleet, "unheard-of") is None
        assert runs.serving_profiles(session, fleet, "tiny") == ["linux-x86-64"]
        assert session.scalars(select(Job)).all() == []


def test_a_result_waits_for_the_rollout_that_is_on_its_way(fleet: Hub) -> None:
    """Driven by rows alone: the compile job of a run is done, and another rollout of the model is running."""
    with fleet.database.write() as session:
        for _ in range(2):
            register(session, fleet, "tiny", {"kind": "recipe"}, {}, {}, "", 1.0)
        session.add(
            Bundle(
                tenant_id=fleet.tenant,
                digest="b" * 64,
                model="tiny",
                version=2,
                profile="linux-x86-64",
                size=1,
                total_size=1,
                spec="5" * 64,
                reference="e" * 64,
                report={},
                created_at=1.0,
            )
        )
        body = schemas.RolloutIn(model="tiny", version=2, stages=[schemas.StageIn(percent=100)])
        other = controller.create(session, fleet, body, 2.0)
        session.execute(update(Assignment).values(version=1))  # as if the other rollout were to an older version
        recipe = fleet.blobs.put_file(RECIPE)
        plan = schemas.RolloutPlanIn(stages=body.stages)
        run = runs.create(session, fleet, schemas.TrainingRunIn(model="tiny", recipe=recipe, rollout=plan), 3.0)
        run.state, run.version, run.reason = "running", 2, "trained"
        job = session.get_one(Job, (fleet.tenant, run.job_id))
        job.kind, job.state, job.result = "compile", "done", {"bundles": []}
    events = fleet.events.subscribe()
    for _ in range(2):
        runs.tick(fleet, 4.0)
        (waiting,) = all_runs(fleet)
        assert (waiting.state, waiting.reason) == ("running", "trained" + runs.WAITING)
    assert events.qsize() == 1
    with fleet.database.write() as session:
        session.get_one(Rollout, (fleet.tenant, other.id)).state = "completed"
    runs.tick(fleet, 5.0)
    (over,) = all_runs(fleet)
    assert (over.state, over.reason) == ("accepted", "trained") and over.rollout_id not in (None, other.id)
