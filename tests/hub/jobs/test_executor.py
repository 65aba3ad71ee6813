"""Jobs as rows: taken once, taken again when the lease lapsed, finished once."""

from __future__ import annotations

import pytest

from edgewise_hub.hub import Hub
from edgewise_hub.jobs import executor
from edgewise_hub.jobs.executor import LEASE_S, MAX_ATTEMPTS, Lease, LeaseLost
from edgewise_hub.jobs.tables import Job


def submit(hub: Hub, now: float = 0.0) -> str:
    with hub.database.write() as session:
        return executor.enqueue(session, hub, "compile", {"n": 1}, now).id


def take(hub: Hub, now: float) -> Lease | None:
    with hub.database.write() as session:
        return executor.take(session, hub, now)


def row(hub: Hub, identifier: str) -> Job:
    with hub.database.read() as session:
        return session.get_one(Job, (hub.tenant, identifier))


def test_the_oldest_job_is_taken_first_and_only_once(hub: Hub) -> None:
    first, second = submit(hub, 1.0), submit(hub, 2.0)
    taken = [take(hub, 3.0), take(hub, 3.0), take(hub, 3.0)]
    assert [lease and lease.job_id for lease in taken] == [first, second, None]


def test_a_lapsed_lease_is_taken_again_and_the_first_worker_can_save_nothing(hub: Hub) -> None:
    job = submit(hub)
    old = take(hub, 0.0)
    assert take(hub, LEASE_S - 1) is None
    new = take(hub, LEASE_S + 1)
    assert old is not None and new is not None and new.job_id == old.job_id == job
    with pytest.raises(LeaseLost), hub.database.write() as session:
        executor.finish(session, hub, old, {"by": "old"}, LEASE_S + 2)
    with hub.database.write() as session:
        executor.finish(session, hub, new, {"by": "new"}, LEASE_S + 3)
    with pytest.raises(LeaseLost), hub.database.write() as session:
        executor.finish(session, hub, new, {"by": "new again"}, LEASE_S + 4)
    assert row(hub, job).result == {"by": "new"}


def test_a_renewed_lease_is_not_taken(hub: Hub) -> None:
    submit(hub)
    lease = take(hub, 0.0)
    assert lease is not None
    with hub.database.write() as session:
        executor.renew(session, hub, lease, LEASE_S - 1)
    assert take(hub, LEASE_S + 1) is None


def test_a_job_whose_workers_all_vanish_fails_after_its_attempts(hub: Hub) -> None:
    job = submit(hub)
    for attempt in range(MAX_ATTEMPTS):
        assert take(hub, attempt * (LEASE_S + 1)) is not None
    assert take(hub, MAX_ATTEMPTS * (LEASE_S + 1)) is None
    failed = row(hub, job)
    assert failed.state == "failed" and failed.error is not None and failed.error["code"] == "job-crashed"


def test_a_job_given_back_at_a_stop_keeps_its_attempts_and_a_crash_spends_one(hub: Hub) -> None:
    job = submit(hub)
    for crashed, spent in ((None, 0), ("signal SIGKILL", 1)):
        lease = take(hub, 0.0)
        assert lease is not None
        with hub.database.write() as session:
            executor.give_back(session, hub, lease, 0.0, crashed=crashed)
        assert (row(hub, job).state, row(hub, job).attempts) == ("queued", spent)


def test_an_error_is_one_bounded_line(hub: Hub) -> None:
    job = submit(hub)
    lease = take(hub, 0.0)
    assert lease is not None
    with hub.database.write() as session:
        executor.fail(session, hub, lease, "bad-source", "first\nsecond " + "x" * 5000, 1.0)
    error = row(hub, job).error
    assert error is not None and error["detail"].startswith("first second xxx")
    assert len(error["detail"]) == executor.MAX_DETAIL
