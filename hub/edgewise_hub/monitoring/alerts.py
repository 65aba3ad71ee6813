"""Alerts: something that a person should know, opened once and closed when it is over.

There is one open alert at most of a (kind, model, group): opening it again brings it up to date.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from edgewise_hub.monitoring.drift.panel import Policy
from edgewise_hub.monitoring.tables import Alert

DRIFT = "drift"
DATA_QUALITY = "data-quality"
"""The kinds of alert that judgements open. ``details``: verdict, judgement, p_value, alpha, false_alert_rate."""


class Past(NamedTuple):
    """What a judgement said: whether it raised the alarm, its p-value, and whether it needs no second one."""

    alarm: bool
    p_value: float
    sure: bool = False


def decide(is_open: bool, newest_first: Sequence[Past], policy: Policy) -> Literal["open", "close", "keep"]:
    """Whether the newest judgements open an alert, bring it up to date (``open`` again), or close it. Pure."""
    if not newest_first:
        return "keep"
    newest = newest_first[0]
    if newest.alarm:
        in_a_row = len(newest_first) >= policy.to_open and all(past.alarm for past in newest_first[: policy.to_open])
        return "open" if is_open or in_a_row or newest.sure or newest.p_value < policy.certain else "keep"
    over = len(newest_first) >= policy.to_close and not any(past.alarm for past in newest_first[: policy.to_close])
    return "close" if is_open and over else "keep"


def find_open(session: Session, tenant: str, kind: str, model: str, group: str | None) -> Alert | None:
    """The open alert of this kind, if there is one."""
    return session.scalars(
        select(Alert).where(
            Alert.tenant_id == tenant,
            Alert.kind == kind,
            Alert.model == model,
            Alert.group.is_(None) if group is None else Alert.group == group,
            Alert.closed_at.is_(None),
        )
    ).first()


def open_alert(
    session: Session,
    tenant: str,
    kind: str,
    model: str,
    group: str | None,
    *,
    summary: str,
    details: dict[str, Any],
    now: float,
) -> Alert:
    """Open an alert, or bring the open one up to date. Inside a write transaction; publish the event after it."""
    alert = find_open(session, tenant, kind, model, group)
    if alert is None:
        alert = Alert(
            tenant_id=tenant,
            id=uuid.uuid4().hex,
            kind=kind,
            model=model,
            group=group,
            summary=summary,
            details=details,
            opened_at=now,
            closed_at=None,
        )
        session.add(alert)
    else:
        alert.summary, alert.details = summary, details
    return alert


def close_alert(session: Session, tenant: str, kind: str, model: str, group: str | None, *, now: float) -> Alert | None:
    """Close the open alert of this kind; None when there was none. Inside a write transaction."""
    alert = find_open(session, tenant, kind, model, group)
    if alert is not None:
        alert.closed_at = now
    return alert
