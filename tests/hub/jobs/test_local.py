"""Jobs in real worker processes: done, failed in words, killed, orphaned, timed out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from edgewise_hub.api import schemas
from edgewise_hub.hub import Hub
from edgewise_hub.jobs import submit
from edgewise_hub.jobs.local import LocalExecutor
from edgewise_hub.jobs.tables import Job
from edgewise_hub.learning import runs
from edgewise_hub.learning.tables import TrainingRun
from edgewise_hub.registry.tables import Bundle, Version
from edgewise_hub.registry.versions import register

RECIPE = Path(__file__).parent / "tiny_recipe.py"
PATIENCE_S = 300.0


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.05)


@contextmanager
def working(hub: Hub, **options: float) -> Iterator[LocalExecutor]:
    executor = LocalExecutor(hub, **options)  # type: ignore[arg-type]
    executor.start()
    try:
        yield executor
    finally:
        executor.stop()


def train(hub: Hub, **config: Any) -> str:
    """A training run of the tiny recipe; returns its job's id."""
    body = schemas.TrainingRunIn(model="tiny", recipe=hub.blobs.put_file(RECIPE), config=config)
    with hub.database.write() as session:
        run = runs.create(session, hub, body, time.time())
    assert run.job_id is not None
    return run.job_id


def job(hub: Hub, identifier: str) -> Job:
    with hub.database.read() as session:
        return session.get_one(Job, (hub.tenant, identifier))


def is_over(hub: Hub, identifier: str) -> bool:
    return job(hub, identifier).state in ("done", "failed")


def versions(hub: Hub) -> list[Version]:
    with hub.database.read() as session:
        return list(session.scalars(select(Version)))


def test_train_and_compile_for_three_profiles_one_of_which_nothing_takes(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From a recipe to bundles: what ``edgewise compile`` of a fresh model does."""
    monkeypatch.setenv("EDGEWISE_TOOLCHAINS", str(tmp_path / "none"))
    events = hub.events.subscribe()
    with working(hub):
        trained = train(hub, epochs=150)
        wait_for("the training", lambda: is_over(hub, trained))
        assert job(hub, trained).error is None
        (version,) = versions(hub)
        assert version.metrics["accuracy"] > 0.95
        assert version.lineage["data"].keys() == {"train", "reference"}
        assert version.lineage["environment"]["torch"]
        assert hub.blobs.read(version.source["weights"])[8:9] == b"{"  # safetensors: a JSON header, never a pickle

        profiles = ["linux-x86-64", "raspberry-pi-5"]
        with hub.database.write() as session:
            asked = [*profiles, "android-mid"]
            compiled = submit.compilation(session, hub, "tiny", version.version, asked, time.time()).id
            nothing = submit.compilation(session, hub, "tiny", version.version, ["android-mid"], time.time()).id
        wait_for("the compilations", lambda: is_over(hub, compiled) and is_over(hub, nothing))
    done = job(hub, compiled)
    assert done.error is None and done.result is not None
    assert [made["profile"] for made in done.result["bundles"]] == profiles
    (refused,) = done.result["refused"]
    assert (refused["profile"], refused["code"]) == ("android-mid", "refused") and "litert" in refused["detail"]
    error = job(hub, nothing).error
    assert error is not None and error["code"] == "refused" and "android-mid" in error["detail"]
    with hub.database.read() as session:
        bundles = list(session.scalars(select(Bundle).order_by(Bundle.profile)))
    assert [(made.profile, made.version) for made in bundles] == [(name, version.version) for name in profiles]
    assert all(made.digest in hub.blobs and made.reference in hub.blobs for made in bundles)
    told = {events.get_nowait() for _ in range(events.qsize())}
    assert {("job", trained), ("job", compiled)} <= told
    assert not list((hub.settings.data / "jobs").glob("*/"))  # nothing is left but logs


def test_a_budget_that_is_not_met_fails_the_job_unless_it_may_be(hub: Hub) -> None:
    small = submit.Wishes(budget={"max_size": 64.0}, training=False)
    anyway = replace(small, allow_over_budget=True)
    unknown = replace(small, budget={"max_beauty": 1.0})
    with working(hub):
        trained = train(hub, epochs=20)
        wait_for("the training", lambda: is_over(hub, trained))
        with hub.database.write() as session:
            jobs = [
                submit.compilation(session, hub, "tiny", 1, ["raspberry-pi-5"], time.time(), wishes).id
                for wishes in (small, anyway, unknown)
            ]
        wait_for("the compilations", lambda: all(is_over(hub, one) for one in jobs))
    over, kept, wrong = (job(hub, one) for one in jobs)
    assert over.error is not None and over.error["code"] == "over-budget"
    assert "raspberry-pi-5: " in over.error["detail"] and "expected at most 64" in over.error["detail"]
    assert kept.result is not None
    report = kept.result["bundles"][0]["report"]
    assert report["budget"] == {"max_size": 64.0} and not report["meets"]
    assert wrong.error is not None and wrong.error["code"] == "bad-budget"
    with hub.database.read() as session:
        assert len(session.scalars(select(Bundle)).all()) == 1


def test_a_registered_version_learns_from_another_as_its_student(hub: Hub) -> None:
    student = {"model": "tiny", "version": 2}
    wishes = submit.Wishes(training=True, techniques={"steps": 20, "epochs": 2, "loss": "dkd", "student": student})
    with working(hub):
        trained = [train(hub, epochs=20), train(hub, epochs=1)]
        wait_for("the trainings", lambda: all(is_over(hub, one) for one in trained))
        teacher = next(one.version for one in versions(hub) if one.metrics["accuracy"] > 0.5)
        student["version"] = 3 - teacher
        with hub.database.write() as session:
            asked = submit.compilation(session, hub, "tiny", teacher, ["linux-x86-64"], time.time(), wishes).id
        wait_for("the compilation", lambda: is_over(hub, asked))
    done = job(hub, asked)
    assert done.error is None and done.result is not None
    (made,) = done.result["bundles"]
    rung = next(rung for rung in made["report"]["rungs"] if rung["name"] == "student")
    assert rung["skipped"] is None and "student" in rung["candidates"]


def test_a_killed_worker_is_replaced_and_makes_one_version(hub: Hub, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    with working(hub) as executor:
        held = train(hub, hold=str(go_on), epochs=1)
        wait_for("the training to begin", lambda: job(hub, held).progress_text == "began")
        (pid,) = executor.pids()
        os.kill(pid, signal.SIGKILL)
        wait_for("the job to be taken again", lambda: job(hub, held).attempts == 2)
        go_on.touch()
        wait_for("the training", lambda: is_over(hub, held))
    assert job(hub, held).state == "done"
    assert len(versions(hub)) == 1


def test_a_worker_ends_with_its_hub_and_the_next_hub_finishes_the_job(hub: Hub, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    held = train(hub, hold=str(go_on), epochs=1)
    code = (
        "import sys, threading; from pathlib import Path; from edgewise_hub.settings import Settings;"
        "from edgewise_hub.hub import Hub; from edgewise_hub.jobs.local import LocalExecutor;"
        "LocalExecutor(Hub.open(Settings(data=Path(sys.argv[1])))).start(); threading.Event().wait()"
    )
    first = subprocess.Popen([sys.executable, "-c", code, str(hub.settings.data)])
    try:
        wait_for("the training to begin", lambda: job(hub, held).progress_text == "began")
        (worker,) = psutil.Process(first.pid).children()
    finally:
        first.kill()
        first.wait()
    wait_for("the worker to end", lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    with hub.database.write() as session:  # a minute later
        session.get_one(Job, (hub.tenant, held)).lease_until = time.time() - 1
    go_on.touch()
    with working(hub):
        wait_for("the training", lambda: is_over(hub, held))
    assert (job(hub, held).state, job(hub, held).attempts) == ("done", 2)
    assert len(versions(hub)) == 1


def test_a_job_that_never_ends_is_ended(hub: Hub, tmp_path: Path) -> None:
    endless = train(hub, hold=str(tmp_path / "never"))
    with working(hub, timeout_s=2.0):
        wait_for("the job to be ended", lambda: is_over(hub, endless))
    error = job(hub, endless).error
    assert error is not None and error["code"] == "job-timeout"


def test_failures_are_told_in_one_line_and_nothing_is_saved(hub: Hub) -> None:
    with hub.database.write() as session:
        source = {"kind": "onnx", "model": hub.blobs.put(b"no model"), "data": hub.blobs.put(b"no data")}
        register(session, hub, "junk", source, {}, {}, "", 1.0)
    with working(hub):
        crashed = train(hub, fail="the recipe says no")
        with hub.database.write() as session:
            junk = submit.compilation(session, hub, "junk", 1, ["linux-x86-64"], time.time()).id
        wait_for("two ends", lambda: is_over(hub, crashed) and is_over(hub, junk))
    assert job(hub, crashed).error == {"code": "job-crashed", "detail": "ValueError: the recipe says no"}
    junk_error = job(hub, junk).error
    assert junk_error is not None and junk_error["code"] in ("bad-source", "bad-data")
    assert [version.model for version in versions(hub)] == ["junk"]
    assert b"the recipe says no" in (hub.settings.data / "jobs" / f"{crashed}.log").read_bytes()
    runs.tick(hub, 2.0)
    with hub.database.read() as session:
        run = session.scalars(select(TrainingRun).where(TrainingRun.job_id == crashed)).one()
    assert (run.state, run.reason) == ("failed", "job-crashed: ValueError: the recipe says no")


def test_stopping_leaves_no_process_and_gives_the_job_back(hub: Hub, tmp_path: Path) -> None:
    held = train(hub, hold=str(tmp_path / "never"))
    with working(hub) as executor:
        wait_for("the training to begin", lambda: job(hub, held).progress_text == "began")
        (pid,) = executor.pids()
    assert not psutil.pid_exists(pid)
    assert (job(hub, held).state, job(hub, held).attempts) == ("queued", 0)
