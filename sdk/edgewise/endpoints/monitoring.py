"""Drift and alerts."""

from __future__ import annotations

from collections.abc import Sequence

from edgewise.endpoints.base import Endpoint
from edgewise.resources import Alert, Calibration, DriftGroup, Job
from edgewise.transport import segment


class Drift(Endpoint):
    """What the hub judges of each group's windows."""

    def show(
        self, model: str | None = None, group: str | None = None, history: int | None = None
    ) -> Sequence[DriftGroup]:
        """Each group's newest judgement, and so many earlier ones as ``history`` says, oldest first."""
        return self._transport.get("/drift", list[DriftGroup], model=model, group=group, history=history)

    def calibrate(self, model: str, version: int | None = None, per_day: int | None = None) -> Job:
        """Ask how far drift alarms can be trusted on the model's own reference; the newest version that was compiled
        unless one is given. ``per_day``: items a day of one device; None: as lately. Wait for it with ``jobs.wait``."""
        return self._transport.post(
            "/drift/calibrations", Job, {"model": model, "version": version, "per_day": per_day}
        )

    def calibrations(self, model: str | None = None) -> Sequence[Calibration]:
        """The newest of each model and version."""
        return self._transport.get("/drift/calibrations", list[Calibration], model=model)

    def calibration(self, job_id: str) -> Calibration:
        """One, by its job."""
        return self._transport.get(f"/drift/calibrations/{segment(job_id)}", Calibration)

    def calibration_page(self, job_id: str) -> str:
        """The same as a self-contained HTML page."""
        return self._transport.text(f"/drift/calibrations/{segment(job_id)}/page")


class Alerts(Endpoint):
    """Alerts, with their cause."""

    def list(self, *, open: bool | None = None, limit: int | None = None) -> Sequence[Alert]:
        """All alerts, or those that are open (True) or closed (False)."""
        return self._transport.list("/alerts", Alert, limit, open=open)
