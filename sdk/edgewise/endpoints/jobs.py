"""Jobs: work that the hub does on its own. A wait ends when the job is done, and raises when it failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgewise.endpoints.base import EVERY_S, Endpoint
from edgewise.errors import EdgewiseError
from edgewise.resources import Job
from edgewise.transport import segment


class JobError(EdgewiseError):
    """A job or a training run ended in failure; ``code`` is the job's."""


class Jobs(Endpoint):
    """Compiling and training."""

    def list(self, limit: int | None = None) -> Sequence[Job]:
        """All jobs."""
        return self._transport.list("/jobs", Job, limit)

    def get(self, job_id: str) -> Job:
        """One job."""
        return self._transport.get(f"/jobs/{segment(job_id)}", Job)

    def wait(
        self, job_id: str, on_progress: Callable[[Job], None] | None = None, *, timeout: float | None = None
    ) -> Job:
        """The job, done; ``on_progress`` hears each change. Raises JobError when it failed, HubError (code
        ``timeout``) after ``timeout`` seconds."""
        for job in self._transport.follow(lambda: self.get(job_id), every=EVERY_S, timeout=timeout):
            if on_progress is not None:
                on_progress(job)
            if job.state == "failed":
                raise failed(job.kind, job.id, job.error)
            if job.state == "done":
                return job
        raise AssertionError("following never ends by itself")


def failed(what: str, identifier: str, error: dict[str, Any] | None, reason: str = "") -> JobError:
    """The error that says why a job (``compile``, ``train``) or a run came to nothing."""
    given = error or {}
    detail = str(given.get("detail") or reason or "no reason given; see the hub's log")
    return JobError(f"{what} {identifier} failed: {detail}", code=str(given.get("code") or "job-failed"))
