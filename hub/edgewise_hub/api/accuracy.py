"""What each group served, and how much of it was right where labels came."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query

from edgewise_hub.api.auth import HubDep
from edgewise_hub.api.schemas import GroupAccuracy, NameStr
from edgewise_hub.monitoring import evidence

router = APIRouter(tags=["monitoring"])

DEFAULT_SPAN_S = 86400.0

Since = Annotated[float | None, Query(ge=0, allow_inf_nan=False, description="Unix seconds; without it, the last day")]


@router.get("/accuracy")
def list_accuracy(
    hub: HubDep, model: NameStr, since: Since = None, group: NameStr | None = None
) -> list[GroupAccuracy]:
    """Counts of each group and version, from windows received since ``since``."""
    with hub.database.read() as session:
        return evidence.accuracy(
            session,
            hub,
            model=model,
            since=time.time() - DEFAULT_SPAN_S if since is None else since,
            group=group,
        )
