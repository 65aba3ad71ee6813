"""One job in one process: ``python -m edgewise_hub.jobs.worker JOB_ID``. Only here are compiler and torch imported.

The executor gives the settings and the lease by environment. The process holds the lease while it works, and ends
itself when the lease is lost or its executor is gone: no worker outlives its hub.

Exit status 0: the row says how it went. Anything else: the process died, and the job may be taken again.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import sys
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from edgewise.errors import EdgewiseError
from edgewise_hub.hub import Hub
from edgewise_hub.jobs import executor
from edgewise_hub.jobs.executor import Lease, LeaseLost
from edgewise_hub.jobs.work import Work
from edgewise_hub.settings import Settings

LEASE = "EDGEWISE_JOB_LEASE"
MEMORY_MB = "EDGEWISE_JOB_MEMORY_MB"

PROGRESS_EVERY_S = 0.5

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Work one job that the executor has taken."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if len(arguments) != 1 or LEASE not in os.environ:
        print(f"expected a job id and {LEASE} in the environment: the hub starts this, no hand", file=sys.stderr)
        return 2
    os.nice(5)
    _bound_memory(int(os.environ.get(MEMORY_MB, "0")))
    hub = Hub.open(Settings.from_environment())
    lease = Lease(arguments[0], os.environ[LEASE])
    try:
        return run(hub, lease)
    finally:
        hub.database.close()


def run(hub: Hub, lease: Lease) -> int:
    """Dispatch by kind; whatever is raised is saved in the row as one line."""
    with hub.database.read() as session:
        job = executor.held(session, hub, lease)
    work = Work(hub=hub, lease=lease, payload=job.payload, created_at=job.created_at)
    _hold(work)
    shutil.rmtree(work.folder, ignore_errors=True)
    work.folder.mkdir(parents=True)
    try:
        if job.kind == "compile":
            from edgewise_hub.jobs import compile as compile_job

            compile_job.run(work)
        elif job.kind == "train":
            from edgewise_hub.jobs import train

            train.run(work)
        elif job.kind == "calibrate":
            from edgewise_hub.jobs import calibrate

            calibrate.run(work)
        else:
            raise EdgewiseError(f"job kind: expected compile, train or calibrate, got {job.kind!r}", code="unknown-job")
    except LeaseLost as error:
        log.warning("%s", error)
    except EdgewiseError as error:
        log.exception("job %s failed", lease.job_id)
        _fail(work, error.code, str(error))
    except MemoryError:
        log.exception("job %s failed", lease.job_id)
        _fail(work, "job-out-of-memory", f"the job needs more than the {os.environ.get(MEMORY_MB)} MB that it may use")
    except Exception as error:  # a recipe is somebody's code and may raise anything; the row must say so
        log.exception("job %s crashed", lease.job_id)
        _fail(work, "job-crashed", f"{type(error).__name__}: {error}")
    return 0


def _fail(work: Work, code: str, detail: str) -> None:
    try:
        with work.hub.database.write() as session:
            executor.fail(session, work.hub, work.lease, code, detail, time.time())
    except LeaseLost as error:
        log.warning("%s", error)


def _hold(work: Work) -> None:
    """Beside the work: save its progress, renew the lease, and end the process when the lease is lost or its parent is
    gone."""
    parent = os.getppid()

    def hold() -> None:
        renew_at, saved = time.monotonic() + executor.RENEW_S, work.told
        while True:
            time.sleep(PROGRESS_EVERY_S)
            if os.getppid() != parent:
                os._exit(3)
            told = work.told
            if told == saved and time.monotonic() < renew_at:
                continue
            try:
                with work.hub.database.write() as session:
                    executor.renew(session, work.hub, work.lease, time.time())
                    executor.set_progress(session, work.hub, work.lease, *told)
                renew_at, saved = time.monotonic() + executor.RENEW_S, told
            except LeaseLost:
                os._exit(4)
            except SQLAlchemyError as error:  # a database that is busy or away: the lease holds a while yet
                log.warning("job %s: lease not renewed, will try again: %s", work.lease.job_id, error)

    threading.Thread(target=hold, name="lease", daemon=True).start()


def _bound_memory(megabytes: int) -> None:
    """Bound the memory that the process may make its own (data, not the mapped libraries); 0 is no bound."""
    if megabytes:
        size = megabytes * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
