"""Works jobs in processes of this machine: ``python -m edgewise_hub.jobs.worker JOB_ID``, niced, each a process group.

One thread takes rows, watches the processes, and tells the hub's events what changed. A worker that dies without a word
(killed, out of memory) gives its job back at once; one whose hub died with it lets the lease lapse.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from edgewise_hub.hub import Hub
from edgewise_hub.jobs import executor
from edgewise_hub.jobs.executor import Lease, LeaseLost
from edgewise_hub.jobs.tables import Job

LOOK_EVERY_S = 0.5
MAX_LOG = 1024 * 1024
READER_S = 5.0
KEPT = ("EDGEWISE_TOOLCHAINS",)
"""Of the hub's ``EDGEWISE_*`` environment, what a worker may know: no secrets."""

log = logging.getLogger(__name__)


@dataclass
class _Process:
    """A worker at work. ``reader`` copies its stderr to the log, as far as MAX_LOG."""

    lease: Lease
    popen: subprocess.Popen[bytes]
    started: float
    reader: threading.Thread


class LocalExecutor:
    """``Executor`` with local processes, ``hub.settings.workers`` at a time.

    ``timeout_s``: how long one attempt may run. ``memory_mb``: what one worker may allocate.
    """

    def __init__(self, hub: Hub, *, timeout_s: float = 3600.0, memory_mb: int = 8192) -> None:
        self.hub = hub
        self.timeout_s = timeout_s
        self.memory_mb = memory_mb
        self.folder = hub.settings.data / "jobs"
        self._running: list[_Process] = []
        self._seen: dict[str, tuple[str, float, str]] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to take jobs."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more; kill what runs and give its jobs back, without spending an attempt."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        ended = list(self._running)
        for process in ended:
            self._end(process)
        for process in ended:
            try:
                self._give_back(process.lease, None)
            except SQLAlchemyError:  # no database now: the lease lapses instead
                log.exception("job %s: not given back", process.lease.job_id)

    def pids(self) -> list[int]:
        """Process ids of the workers at work, as an operator sees them."""
        return [process.popen.pid for process in list(self._running)]

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
            except (SQLAlchemyError, OSError):  # no database, a full disk: the rows are there next time
                log.exception("jobs: cannot go on now, will try again")
            self._stopping.wait(LOOK_EVERY_S)

    def _look(self) -> None:
        for process in list(self._running):
            if _has_ended(process.popen):
                self._reap(process)
            elif time.monotonic() - process.started > self.timeout_s:
                self._time_out(process)
        with self.hub.database.read() as session:
            waiting = self._notice(session)
        if not waiting:
            return
        while len(self._running) < max(1, self.hub.settings.workers):
            with self.hub.database.write() as session:
                lease = executor.take(session, self.hub, time.time())
            if lease is None:
                break
            self._running.append(self._spawn(lease))

    def _notice(self, session: Session) -> bool:
        """Publish an event for each job that changed since last time. True when some job may be taken."""
        states = ("queued", "running")
        rows = session.execute(
            select(Job.id, Job.state, Job.progress, Job.progress_text, Job.lease_until).where(
                Job.tenant_id == self.hub.tenant, Job.state.in_(states) | Job.id.in_(list(self._seen))
            )
        ).all()
        now = time.time()
        seen: dict[str, tuple[str, float, str]] = {}
        for row in rows:
            look = (row.state, row.progress, row.progress_text)
            if self._seen.get(row.id) != look:
                self.hub.events.publish("job", row.id)
            if row.state in states:
                seen[row.id] = look
        self._seen = seen
        return any(row.state == "queued" or (row.lease_until or now) < now for row in rows if row.state in states)

    def _spawn(self, lease: Lease) -> _Process:
        self.folder.mkdir(parents=True, exist_ok=True)
        popen = subprocess.Popen(
            [sys.executable, "-m", "edgewise_hub.jobs.worker", lease.job_id],
            env=self._environment(lease),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        assert popen.stderr is not None
        reader = threading.Thread(
            target=_copy, args=(popen.stderr, self._log(lease)), name=f"log-{lease.job_id}", daemon=True
        )
        reader.start()
        return _Process(lease, popen, time.monotonic(), reader)

    def _log(self, lease: Lease) -> Path:
        return self.folder / f"{lease.job_id}.log"

    def _environment(self, lease: Lease) -> dict[str, str]:
        """The hub's environment without its ``EDGEWISE_*`` (a token or a broker's password may be among them), and what
        a worker needs."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("EDGEWISE_") or key in KEPT}
        settings = self.hub.settings
        profiles = [os.environ.get("EDGEWISE_PROFILES", ""), *(str(folder) for folder in settings.profiles)]
        return inherited | {
            "EDGEWISE_DATA": str(settings.data),
            "EDGEWISE_DATABASE_URL": settings.database_url,
            "EDGEWISE_PROFILES": os.pathsep.join(part for part in profiles if part),
            "EDGEWISE_JOB_LEASE": lease.name,
            "EDGEWISE_JOB_MEMORY_MB": str(self.memory_mb),
            "ORT_DISABLE_TELEMETRY": "1",
        }

    def _end(self, process: _Process) -> int:
        """End a worker and all that it started, and clear up after it; returns its status.

        It is killed outright: a job must be whole after that anyway.
        """
        try:
            os.killpg(process.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        status = process.popen.wait()
        process.reader.join(READER_S)
        shutil.rmtree(self.folder / process.lease.job_id, ignore_errors=True)
        self._running.remove(process)
        return status

    def _reap(self, process: _Process) -> None:
        """A worker ended. When it left its job held it died on the way: let the job be taken again."""
        status = self._end(process)
        if status != 0:
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
            last = _last_line(self._log(process.lease))
            self._give_back(process.lease, f"the worker ended with {how}" + (f": {last}" if last else ""))

    def _time_out(self, process: _Process) -> None:
        self._end(process)
        detail = f"the job ran longer than {self.timeout_s:.0f} s and was ended"
        try:
            with self.hub.database.write() as session:
                executor.fail(session, self.hub, process.lease, "job-timeout", detail, time.time())
        except LeaseLost as error:
            log.info("%s", error)

    def _give_back(self, lease: Lease, crashed: str | None) -> None:
        try:
            with self.hub.database.write() as session:
                executor.give_back(session, self.hub, lease, time.time(), crashed=crashed)
        except LeaseLost as error:
            log.info("%s", error)


def _copy(source: IO[bytes], path: Path) -> None:
    """Keep a worker's stderr, up to MAX_LOG; the rest is read and dropped, so that the worker never waits."""
    left = MAX_LOG
    with source, path.open("ab") as file:
        for line in source:
            if left > 0:
                file.write(line[:left])
                file.flush()
            left -= len(line)


def _last_line(path: Path) -> str:
    """The log's last line that says something."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")[-300:]


def _has_ended(popen: subprocess.Popen[bytes]) -> bool:
    """True once the worker has ended; it is left unreaped, so that its process group is still its own to be killed."""
    return os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
