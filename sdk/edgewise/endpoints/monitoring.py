"""Drift and alerts."""

from __future__ import annotations

from collections.abc import Sequence

from edgewise.endpoints.base import Endpoint
from edgewise.resources import Alert, DriftGroup


class Drift(Endpoint):
    """What the hub judges of each group's windows."""

    def show(
        self, model: str | None = None, group: str | None = None, history: int | None = None
    ) -> Sequence[DriftGroup]:
        """Each group's newest judgement, and so many earlier ones as ``history`` says, oldest first."""
        return self._transport.get("/drift", list[DriftGroup], model=model, group=group, history=history)


class Alerts(Endpoint):
    """Alerts, with their cause."""

    def list(self, *, open: bool | None = None, limit: int | None = None) -> Sequence[Alert]:
        """All alerts, or those that are open (True) or closed (False)."""
        return self._transport.list("/alerts", Alert, limit, open=open)
