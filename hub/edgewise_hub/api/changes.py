"""A change that reaches devices: one write transaction, then what follows from it is published."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from edgewise_hub.api.errors import ApiError
from edgewise_hub.experiments.errors import ExperimentError
from edgewise_hub.fleet import desired
from edgewise_hub.hub import Hub
from edgewise_hub.rollouts.errors import RolloutError

Row = TypeVar("Row")
Shown = TypeVar("Shown")

_STATUS = {"bad-plan": 422, "unknown-version": 404}
"""By code; the rest is 409: the request does not fit the state that things are in."""


def changed(
    hub: Hub,
    change: Callable[[Session, float], Row],
    detail: Callable[[Session, Hub, Row], Shown],
    event: Callable[[Shown], tuple[str, str]],
) -> Shown:
    """Do ``change`` (session, now in Unix seconds) and show what it gave, as ``detail`` does in the same transaction.
    ``event``: (kind, id) that is published. Raises ApiError with the change's code."""
    try:
        with hub.database.write() as session:
            row = change(session, time.time())
            session.flush()
            shown = detail(session, hub, row)
    except (ExperimentError, RolloutError) as error:
        raise ApiError(str(error), status=_STATUS.get(error.code, 409), code=error.code) from error
    desired.publish_pending(hub)
    hub.events.publish(*event(shown))
    return shown
