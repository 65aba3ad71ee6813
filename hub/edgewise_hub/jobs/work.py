"""What a kind of job is given: the hub, its payload, a way to tell how far it is, and the one way to finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from edgewise_hub.hub import Hub
from edgewise_hub.jobs import executor
from edgewise_hub.jobs.executor import Lease


@dataclass
class Work:
    """One taking of one job, inside its worker process. ``created_at``: when the job was submitted, the same for every
    attempt, so that what is stamped with it is the same bytes each time."""

    hub: Hub
    lease: Lease
    payload: dict[str, Any]
    created_at: float
    told: tuple[float, str] = field(default=(0.0, ""), init=False)

    @property
    def folder(self) -> Path:
        """A folder of the job's own, empty at its start; the executor removes it when the worker has ended."""
        return self.hub.settings.data / "jobs" / self.lease.job_id

    def blob(self, sha256: str, name: str) -> Path:
        """A blob under a file name, in ``folder``. Raises BlobError when it is not on this hub."""
        path = self.folder / name
        path.symlink_to(self.hub.blobs.path(sha256).resolve())
        return path

    def progress(self, fraction: float, text: str) -> None:
        """Tell how far the job is, 0..1. Costs nothing: the thread that holds the lease saves the newest."""
        self.told = (fraction, text)

    def part(self, start: float, end: float) -> Callable[[float, str], None]:
        """Progress of one part of the job: its 0..1 is ``start``..``end`` of the whole."""
        return lambda fraction, text: self.progress(start + (end - start) * fraction, text)

    @contextmanager
    def saving(self) -> Iterator[Session]:
        """The one transaction that saves what the job made: only while the lease holds, and with ``finish`` in it.

        Raises LeaseLost.
        """
        with self.hub.database.write() as session:
            executor.held(session, self.hub, self.lease)
            yield session

    def finish(self, session: Session, result: dict[str, Any]) -> None:
        """The job's result, as its last word in ``saving``."""
        executor.finish(session, self.hub, self.lease, result, time.time())
